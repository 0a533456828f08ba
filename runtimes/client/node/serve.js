'use strict'
// Takes events and runs the handler, one at a time.

const { isAsyncFunction } = require('util').types
const context = require('./context')
const errors = require('./errors')
const log = require('./log')
const { errorHeaders } = require('./api')
const stream = require('./stream')

// Server runs a handler for the events of one connection. modern is the
// behaviour from Node.js 24 on: a handler's promise is its only way to answer.
class Server {
  constructor (connection, handler, modern) {
    this.connection = connection
    this.handler = handler
    this.modern = modern
    this.streaming = handler[stream.STREAMING] === 'response'
    this.async = isAsyncFunction(handler)
    this.current = null // the invocation that runs
    this.got = this.got.bind(this)
  }

  start () {
    this.wait()
    this.connection.next(this.got)
  }

  wait () {
    this.current = null
    this.connection.need(true)
  }

  got (error, status, headers, body) {
    if (error || status !== 200) {
      log.write(`the runtime API ended: ${error ? error.message : status + ' ' + body}`, 0xa55a0003)
      process.exit(1)
    }
    this.connection.need(false)
    const id = headers['lambda-runtime-aws-request-id']
    log.setRequestID(id)
    const trace = headers['lambda-runtime-trace-id']
    if (trace) process.env._X_AMZN_TRACE_ID = trace
    else delete process.env._X_AMZN_TRACE_ID
    const invocation = new Invocation(this, id)
    this.current = invocation
    invocation.run(headers, body)
  }
}

// Invocation is one event on its way through the handler. Its states: running,
// finished (an outcome is known, but waits for the event loop to empty) and
// settled (the outcome was sent). The first outcome counts.
class Invocation {
  constructor (server, id) {
    this.server = server
    this.id = id
    this.waits = !server.modern
    this.finished = false
    this.settled = false
    this.stream = null
    this.whenEmpty = () => this.neverAnswered()
  }

  run (headers, body) {
    const { server } = this
    try {
      const event = JSON.parse(body)
      const ctx = context.make(this.id, headers, process.env, server.modern ? undefined : this)
      if (server.streaming) return this.runStream(event, ctx)
      const returned = server.modern
        ? server.handler(event, ctx)
        : server.handler(event, ctx, (error, result) => this.finish(error, result))
      if (typeof returned?.then === 'function') {
        returned.then((result) => this.settle(null, result), (error) => this.settle(error ?? 'handled'))
      } else if (server.modern) {
        this.settle(null, returned)
      }
    } catch (error) {
      this.settle(error ?? 'handled')
    }
  }

  runStream (event, ctx) {
    const { connection, handler } = this.server
    let ended = false
    let answered = false
    const both = () => {
      if (ended && answered) {
        this.server.wait()
        connection.next(this.server.got)
      }
    }
    this.stream = new stream.ResponseStream(connection, `invocation/${this.id}/response`, handler[stream.HIGH_WATER_MARK], () => {
      answered = true
      both()
    })
    this.stream.on('close', () => {
      if (!this.stream.started) return
      this.settled = ended = true
      connection.need(true) // until the answer is there
      both()
    })
    this.stream.on('error', (error) => {
      if (!this.settled) this.settle(error)
    })
    this.whenEmpty = () => this.stream.end()
    // The response is complete when the stream has ended, whichever of it and
    // the promise comes first.
    Promise.resolve(handler(event, this.stream, ctx)).catch((error) => this.settle(error ?? 'handled'))
  }

  // finish is the callback's outcome.
  finish (error, result) {
    if (this.finished || this.settled) return
    this.finished = true
    const settle = () => this.settle(error, result)
    if (this.waits) this.whenEmpty = settle
    else setImmediate(settle)
  }

  neverAnswered () {
    if (!this.server.async) return this.settle(null, null)
    this.settle(neverSettled())
  }

  // settle sends the outcome and asks for the next event.
  settle (error, result) {
    if (this.settled) return
    this.settled = true
    const { connection } = this.server
    if (error === undefined || error === null) {
      let body
      try {
        body = JSON.stringify(result === undefined ? null : result) ?? 'null'
      } catch {
        error = new Error('Unable to stringify response body')
      }
      if (body !== undefined) {
        this.server.wait()
        return connection.post(`invocation/${this.id}/response`, '', body, this.server.got)
      }
    }
    log.failure('Invoke Error ', error)
    const described = errors.describe(error)
    const body = JSON.stringify(described)
    if (this.stream?.started) return this.stream.abort(described.errorType, body)
    this.server.wait()
    connection.post(`invocation/${this.id}/error`, errorHeaders(described.errorType), body, this.server.got)
  }
}

// neverSettled is the error of a promise that nothing will settle any more.
function neverSettled () {
  return errors.typed('Runtime.NodeJsExit', 'The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes')
}

module.exports = { Server, neverSettled }
