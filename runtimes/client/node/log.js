'use strict'
// The log: console, and how an event of several lines stays one.
//
// Where the server understands frames (it says so by the descriptor's number
// in _LAMBDA_TELEMETRY_LOG_FD), an event is a frame: four bytes of kind, four
// of length, eight of time in microseconds, all big-endian, and the text.
// Elsewhere it is a line in which a carriage return stands for a line break.

const fs = require('fs')
const { formatWithOptions } = require('util')
const errors = require('./errors')

const FRAME_TEXT = 0xa55a0003
const FRAME_JSON = 0xa55a0002
const FRAME_HEAD = 16

// rank is also what the kind of a frame holds from the third bit on.
const RANK = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 }
const METHODS = { trace: 'TRACE', debug: 'DEBUG', log: 'INFO', info: 'INFO', warn: 'WARN', error: 'ERROR', fatal: 'FATAL' }

let requestID // of the invocation that runs; the service prints undefined before the first
let fd = 1
let framed = false
let json = false

// configure reads the environment and takes over console.
function configure (env) {
  const number = env._LAMBDA_TELEMETRY_LOG_FD
  if (/^\d+$/.test(number)) {
    fd = Number(number)
    framed = true
  }
  delete env._LAMBDA_TELEMETRY_LOG_FD // processes that the function starts do not frame
  json = (env.AWS_LAMBDA_LOG_FORMAT || '').toUpperCase() === 'JSON'
  const floor = json ? RANK[(env.AWS_LAMBDA_LOG_LEVEL || '').toUpperCase()] || 0 : 0
  for (const [method, level] of Object.entries(METHODS)) {
    console[method] = RANK[level] < floor ? () => {} : (...args) => emit(level, args)
  }
}

function setRequestID (id) { requestID = id }

function emit (level, args) { write(...format(level, args)) }

// format makes an event's text and kind.
function format (level, args) {
  const now = new Date().toISOString()
  if (json) {
    return [toJSON(level, now, args), FRAME_JSON | RANK[level] << 2]
  }
  return [`${now}\t${requestID}\t${level}\t${formatWithOptions({}, ...args)}`, FRAME_TEXT | RANK[level] << 2]
}

function toJSON (level, timestamp, args) {
  const entry = { timestamp, level, requestId: requestID }
  if (args.length === 1) {
    entry.message = args[0]
    try {
      return JSON.stringify(entry, plain)
    } catch { // circular, or a BigInt
      entry.message = formatWithOptions({}, args[0])
      return JSON.stringify(entry)
    }
  }
  entry.message = formatWithOptions({}, ...args)
  const error = args.find(errors.isError)
  if (error) Object.assign(entry, plainError(error))
  return JSON.stringify(entry)
}

function plain (key, value) {
  return errors.isError(value) ? { ...value, ...plainError(value) } : value
}

function plainError (error) {
  return {
    errorType: error?.constructor?.name ?? 'UnknownError',
    errorMessage: error.message,
    stackTrace: errors.trace(error)
  }
}

// failure logs an error that the runtime tells the caller about.
function failure (title, error) {
  if (json) emit('ERROR', [title, error])
  else write(`${new Date().toISOString()}\t${requestID}\tERROR\t${title}\t${errors.text(error)}`, FRAME_TEXT | RANK.ERROR << 2)
}

function write (message, kind) {
  if (!framed) {
    writeAll(Buffer.from(message.includes('\n') ? message.replace(/\n/g, '\r') + '\n' : message + '\n'))
    return
  }
  const length = Buffer.byteLength(message)
  const frame = Buffer.allocUnsafe(FRAME_HEAD + length)
  frame.writeUInt32BE(kind >>> 0, 0)
  frame.writeUInt32BE(length, 4)
  frame.writeBigUInt64BE(BigInt(Date.now()) * 1000n, 8)
  frame.utf8Write(message, FRAME_HEAD)
  writeAll(frame)
}

// writeAll returns when the data is in the pipe: a process that dies next has
// lost nothing. The descriptor may be non-blocking.
function writeAll (data) {
  let done = 0
  while (done < data.length) {
    try {
      done += fs.writeSync(fd, data, done)
    } catch (error) {
      if (error.code !== 'EAGAIN') return // nobody reads the log any more
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
    }
  }
}

module.exports = { configure, format, setRequestID, failure, write }
