'use strict'
// Streamed responses: what awslambda.streamifyResponse gives to handlers.

const { Writable } = require('stream')
const { errorHeaders } = require('./api')

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming')
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark')
const INTEGRATION = 'application/vnd.awslambda.http-integration-response'

// ResponseStream posts what is written to it while it is written. The request
// begins with the first byte, so that a function which fails before it fails
// like any other.
class ResponseStream extends Writable {
  constructor (connection, path, highWaterMark, answered) {
    super({ highWaterMark })
    this.connection = connection
    this.path = path
    this.answered = answered
    this.started = false
    this.contentType = 'application/octet-stream'
    this.prelude = null
  }

  setContentType (type) {
    if (this.started) throw new Error('Cannot set content-type, too late.')
    this.contentType = String(type)
  }

  write (chunk, ...rest) {
    if (typeof chunk !== 'string' && !ArrayBuffer.isView(chunk)) chunk = JSON.stringify(chunk)
    return super.write(chunk, ...rest)
  }

  _write (chunk, encoding, done) {
    this.start()
    this.connection.chunk(chunk, done)
  }

  _final (done) {
    this.start()
    this.connection.endStream('')
    done()
  }

  start () {
    if (this.started) return
    this.started = true
    this.connection.stream(this.path, this.contentType, this.answered)
    if (this.prelude !== null) {
      const head = Buffer.from(this.prelude + '\0'.repeat(8))
      this.connection.chunk(head, () => {})
    }
  }

  // abort ends a stream whose function failed after the first byte.
  abort (type, body) {
    this.connection.endStream(errorHeaders(type, body))
    this.destroy()
  }
}

// install makes the global that functions mark streaming handlers with.
function install () {
  globalThis.awslambda = {
    streamifyResponse (handler, options) {
      handler[STREAMING] = 'response'
      if (typeof options?.highWaterMark === 'number') handler[HIGH_WATER_MARK] = Math.trunc(options.highWaterMark)
      return handler
    },
    HttpResponseStream: {
      // from prepares a stream for an HTTP integration: prelude holds status
      // code, headers and cookies.
      from (stream, prelude) {
        stream.setContentType(INTEGRATION)
        stream.prelude = JSON.stringify(prelude)
        return stream
      }
    }
  }
}

module.exports = { ResponseStream, install, STREAMING, HIGH_WATER_MARK }
