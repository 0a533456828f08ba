'use strict'
// HTTP/1.1 to the runtime API over one raw socket. Module http would cost
// 2 ms to load and three times as much for each invocation.

const net = require('net')

const PREFIX = '/2018-06-01/runtime/'
const BLANK = Buffer.from('\r\n\r\n')
// A larger response is not sent together with the next request: if it is
// refused, the connection ends, and the next request with it.
const PIPELINE_LIMIT = 1 << 20
const RECONNECTS = 100

// Connection is one keep-alive connection. Answers come in the order of the
// requests; each is given to the waiter that was there for it, as
// (error, status, headers, body).
class Connection {
  constructor (address) {
    const colon = address.lastIndexOf(':')
    this.address = address
    this.host = address.slice(0, colon) || '127.0.0.1'
    this.port = Number(address.slice(colon + 1))
    this.nextRequest = `GET ${PREFIX}invocation/next HTTP/1.1\r\nHost: ${address}\r\n\r\n`
    this.socket = null
    this.waiters = []
    this.buffer = Buffer.allocUnsafeSlow(64 << 10)
    this.parser = new Parser(this)
    this.needed = true // whether the process lives for this connection
  }

  // open connects; connected, if given, is told an error or nothing.
  open (connected) {
    const socket = net.connect({
      host: this.host,
      port: this.port,
      noDelay: true,
      onread: {
        buffer: this.buffer,
        callback: (n, buffer) => {
          if (socket === this.socket) this.parser.take(buffer.subarray(0, n))
          return true
        }
      }
    }, connected)
    socket.on('error', (error) => this.lost(socket, error, connected))
    socket.on('end', () => this.lost(socket, new Error('closed by the runtime API')))
    socket.on('close', () => this.lost(socket, new Error('closed')))
    if (!this.needed) socket.unref()
    this.socket = socket
  }

  lost (socket, error, connected) {
    if (socket !== this.socket) return
    this.socket = null
    socket.destroy()
    this.parser.reset()
    const waiters = this.waiters
    this.waiters = []
    for (const waiter of waiters) waiter(error)
    if (connected) connected(error)
  }

  close () {
    if (this.socket) this.lost(this.socket, new Error('closed'))
  }

  // abandon closes for good: nobody is told.
  abandon () {
    this.waiters = []
    this.close()
  }

  // need says whether the event loop should stay alive for this connection:
  // it does while an event is waited for, and not while the function runs.
  need (needed) {
    this.needed = needed
    if (!this.socket) return
    if (needed) this.socket.ref()
    else this.socket.unref()
  }

  send (data) {
    if (!this.socket) this.open()
    return this.socket.write(data)
  }

  // next waits for an event. A connection that was closed while it was idle is
  // opened again: nothing is lost by asking twice.
  next (got, attempt = 0) {
    this.waiters.push(this.nextAnswer(got, attempt))
    this.send(this.nextRequest)
  }

  nextAnswer (got, attempt) {
    return (error, status, headers, body) => {
      if (!error) return got(null, status, headers, body)
      if (attempt >= RECONNECTS) return got(error)
      if (attempt === 0) this.next(got, 1)
      else setTimeout(() => this.next(got, attempt + 1), 10)
    }
  }

  // post sends what became of an invocation and then, where got is given,
  // waits for the next event. It is tried once more on a new connection: a
  // repeated answer is refused by the runtime API and does no harm.
  post (path, extra, body, got, done, attempt = 0) {
    const length = Buffer.byteLength(body)
    const pipeline = got && length < PIPELINE_LIMIT
    let failed = null
    const again = () => this.post(path, extra, body, got, done, attempt + 1)
    const head = `POST ${PREFIX}${path} HTTP/1.1\r\nHost: ${this.address}\r\nContent-Type: application/json\r\n${extra}Content-Length: ${length}\r\n\r\n`
    this.waiters.push((error) => {
      failed = error
      if (pipeline) return
      if (failed && attempt === 0) again()
      else if (got) this.next(got)
      else done(failed)
    })
    if (pipeline) {
      const answer = this.nextAnswer(got, 0)
      this.waiters.push((error, status, headers, body) => {
        if (failed && attempt === 0) again()
        else answer(error, status, headers, body)
      })
      this.send(head + body + this.nextRequest)
    } else {
      this.send(head)
      if (this.socket) this.socket.write(body)
    }
  }

  // stream begins a response of unknown length; what follows is sent by
  // chunk and endStream. answered is told when the runtime API has answered.
  stream (path, contentType, answered) {
    this.waiters.push(answered)
    this.send(`POST ${PREFIX}${path} HTTP/1.1\r\nHost: ${this.address}\r\nContent-Type: ${safe(contentType)}\r\n` +
      'Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n' +
      'Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n')
  }

  // chunk sends a part of a stream and calls sent when there is room for more.
  chunk (data, sent) {
    const socket = this.socket
    if (!socket) return sent(new Error('the runtime API closed the stream'))
    if (data.length === 0) return sent()
    socket.cork()
    socket.write(data.length.toString(16) + '\r\n')
    socket.write(data)
    socket.write('\r\n', (error) => sent(error))
    socket.uncork()
  }

  endStream (trailers) {
    if (this.socket) this.socket.write('0\r\n' + trailers + '\r\n')
  }

  answer (status, headers, body) {
    const waiter = this.waiters.shift()
    if (headers.connection === 'close') this.close()
    if (waiter) waiter(null, status, headers, body)
  }
}

// errorHeaders are the headers, or trailers, of an error.
function errorHeaders (type, body) {
  const first = `Lambda-Runtime-Function-Error-Type: ${safe(type)}\r\n`
  return body === undefined ? first : first + `Lambda-Runtime-Function-Error-Body: ${Buffer.from(body).toString('base64')}\r\n`
}

function safe (text) { return text.replace(/[^ -~]/g, '?') }

// Parser cuts the bytes of a connection into answers.
class Parser {
  constructor (connection) {
    this.connection = connection
    this.reset()
  }

  reset () {
    this.rest = null // bytes of an unfinished head
    this.body = null // a body that is being filled, up to this.have
    this.have = 0
    this.chunks = null // parts of a chunked body
  }

  // take is given bytes that are valid only during the call.
  take (data) {
    if (this.rest) {
      data = Buffer.concat([this.rest, data])
      this.rest = null
    }
    while (data !== null && data.length > 0) {
      data = this.body ? this.fill(data) : this.chunks ? this.chunk(data) : this.head(data)
    }
  }

  // Each of the following uses up some of data and returns what is left, or
  // null when more is needed.
  keep (data) {
    this.rest = Buffer.from(data)
    return null
  }

  head (data) {
    const end = data.indexOf(BLANK)
    if (end < 0) return this.keep(data)
    const text = data.latin1Slice(0, end)
    const status = Number(text.slice(9, 12))
    const headers = {}
    let line = text.indexOf('\r\n')
    while (line >= 0) {
      const start = line + 2
      line = text.indexOf('\r\n', start)
      const colon = text.indexOf(':', start)
      let value = text.slice(colon + 1, line < 0 ? undefined : line).trim()
      if (/[\x80-\xff]/.test(value)) value = Buffer.from(value, 'latin1').toString()
      headers[text.slice(start, colon).toLowerCase()] = value
    }
    const start = end + 4
    if (status < 200) return data.subarray(start) // an interim answer has no body
    this.status = status
    this.headers = headers
    if (headers['transfer-encoding'] === 'chunked') {
      this.chunks = []
      return data.subarray(start)
    }
    const length = Number(headers['content-length'] || 0)
    if (data.length - start < length) {
      this.body = Buffer.allocUnsafe(length)
      this.have = data.copy(this.body, 0, start)
      return null
    }
    this.connection.answer(status, headers, data.utf8Slice(start, start + length))
    return data.subarray(start + length)
  }

  fill (data) {
    const n = data.copy(this.body, this.have)
    this.have += n
    if (this.have === this.body.length) {
      const body = this.body
      this.body = null
      if (this.chunks) this.chunks.push(body.subarray(0, -2)) // without its line end
      else this.connection.answer(this.status, this.headers, body.utf8Slice())
    }
    return data.subarray(n)
  }

  chunk (data) {
    const end = data.indexOf('\r\n')
    if (end < 0) return this.keep(data)
    const line = data.latin1Slice(0, end)
    const rest = data.subarray(end + 2)
    if (this.last) { // trailers, up to an empty line
      if (line === '') {
        const body = Buffer.concat(this.chunks)
        this.chunks = null
        this.last = false
        this.connection.answer(this.status, this.headers, body.utf8Slice())
      }
      return rest
    }
    const size = parseInt(line, 16)
    if (size === 0) {
      this.last = true
    } else {
      this.body = Buffer.allocUnsafe(size + 2)
      this.have = 0
    }
    return rest
  }
}

module.exports = { Connection, errorHeaders }
