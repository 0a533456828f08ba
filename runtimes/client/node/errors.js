'use strict'
// How errors are told to the caller and to the log.

const { isNativeError } = require('util').types

// typed makes an error of one of the service's own types.
function typed (type, message, reason) {
  const error = new Error(message)
  if (isError(reason)) error.stack = reason.stack
  else Error.captureStackTrace(error, typed)
  Object.defineProperty(error, 'name', { value: type, enumerable: false })
  if (typeof error.stack === 'string') error.stack = error.stack.replace(/^[^\n:]*Error(?=:|\n|$)/, type)
  return error
}

// isError accepts errors of other realms (vm contexts) too.
function isError (value) {
  return value !== null && typeof value === 'object' &&
    (isNativeError(value) || value instanceof Error || ('name' in value && 'message' in value && 'stack' in value))
}

function trace (error) {
  return typeof error.stack === 'string' ? error.stack.split('\n') : []
}

// describe is what the caller of the function sees.
function describe (error, depth = 0) {
  try {
    if (!isError(error)) {
      return { errorType: typeof error, errorMessage: String(error), trace: [] }
    }
    const described = { errorType: String(error.name), errorMessage: String(error.message), trace: trace(error) }
    if (error.reason !== undefined && error.name === 'Runtime.UnhandledPromiseRejection') {
      described.reason = describe(error.reason, depth + 1)
      described.promise = {}
    }
    if (error.cause !== undefined && depth < 5) described.cause = describe(error.cause, depth + 1)
    return described
  } catch {
    return { errorType: 'handled', errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack', trace: [] }
  }
}

// text is what the log shows: all of an error's own properties in one line.
function text (error) {
  try {
    return JSON.stringify(error, (key, value) => isError(value) ? properties(value) : value)
  } catch {
    return JSON.stringify(describe(error))
  }
}

function properties (error) {
  const all = Object.assign({ errorType: error.name, errorMessage: error.message, code: error.code }, error)
  if (error.cause !== undefined) all.cause = error.cause
  if (typeof error.stack === 'string') all.stack = trace(error)
  return all
}

module.exports = { typed, isError, describe, text, trace }
