'use strict'
// Entry of Hearth's Node.js runtime client. A process in the warming pool runs
// boot and wait: everything that any function needs is loaded and has run
// once, the connection stands, and it sleeps in one read of the control
// socket. What follows the control message is what a cold start pays for.

const fs = require('fs')
const { Connection, errorHeaders } = require('./api')
const errors = require('./errors')
const heap = require('./heap')
const log = require('./log')
const stream = require('./stream')
const { Server, neverSettled } = require('./serve')
const { load } = require('./load')

const CONTROL_FD = 3

let server // once the handler is loaded
let ready = false // the init phase is over

function address () { return process.env.AWS_LAMBDA_RUNTIME_API || '127.0.0.1:9001' }

async function main () {
  let connection
  if (process.argv.includes('--wait')) {
    await require('./warm').warm()
    connection = new Connection(address())
    await new Promise((resolve) => connection.open(resolve))
    const message = wait()
    if (message === null) process.exit(0)
    configure(message)
    if (connection.address !== address()) connection.close()
  }
  if (!connection?.socket) connection = new Connection(address())
  await init(connection)
}

// wait sleeps in a read: no timer, no poll, and nothing to freeze.
function wait () {
  try {
    fs.writeSync(CONTROL_FD, 'R') // ready
  } catch { /* nobody asked */ }
  let data = Buffer.alloc(0)
  const part = Buffer.allocUnsafe(64 << 10)
  while (data.length < 4 || data.length < 4 + data.readUInt32BE(0)) {
    let n
    try {
      n = fs.readSync(CONTROL_FD, part, 0, part.length, null)
    } catch (error) {
      if (error.code !== 'EAGAIN') return null
      // A non-blocking descriptor was inherited; a nap is all that is left.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1)
      continue
    }
    if (n === 0) return null // the server let this environment go unused
    data = Buffer.concat([data, part.subarray(0, n)])
  }
  fs.closeSync(CONTROL_FD)
  return JSON.parse(data.utf8Slice(4))
}

// configure makes the environment what the message says, and nothing else.
function configure (message) {
  const env = process.env
  const before = env.NODE_PATH
  const wanted = new Set()
  for (const entry of message.env) {
    const eq = entry.indexOf('=')
    const key = entry.slice(0, eq)
    const value = entry.slice(eq + 1)
    wanted.add(key)
    if (env[key] !== value) env[key] = value
  }
  for (const key of Object.keys(env)) {
    if (!wanted.has(key)) delete env[key]
  }
  if (env.NODE_PATH !== before) require('module')._initPaths?.()
  heap.fit(Number(env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE))
}

async function init (connection) {
  const root = process.env.LAMBDA_TASK_ROOT || '/var/task'
  log.configure(process.env)
  stream.install()
  process.on('uncaughtException', (error) => fatal('Uncaught Exception ', error, 129))
  process.on('unhandledRejection', (reason, promise) => {
    const error = errors.typed('Runtime.UnhandledPromiseRejection', String(reason), reason)
    error.reason = reason
    error.promise = promise
    fatal('Unhandled Promise Rejection ', error, 128)
  })
  process.on('beforeExit', () => {
    if (!server) return fatal('Uncaught Exception ', neverSettled(), 1)
    const invocation = server.current
    if (invocation && !invocation.settled) invocation.whenEmpty()
  })
  try {
    process.chdir(root)
  } catch { /* the import fails next, and says more */ }
  connection.need(false) // an import that waits for nothing is to be noticed
  try {
    const modern = Number(/^AWS_Lambda_nodejs(\d+)/.exec(process.env.AWS_EXECUTION_ENV)?.[1] ?? 0) >= 24
    const handler = await load(root, process.env._HANDLER || '')
    server = new Server(connection, handler, modern)
    if (modern && !server.streaming && !server.async && handler.length >= 3) {
      throw errors.typed('Runtime.CallbackHandlerDeprecated', 'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to modify this function to use a supported handler signature to use Node.js 24 or later. For more information see https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.')
    }
  } catch (error) {
    return fatal('Uncaught Exception ', error, 1)
  }
  ready = true
  server.start()
}

let dying = false

// fatal tells the runtime API of an error that nothing caught, and ends the
// process. Its own connection is used: the other may be in the middle of
// something.
function fatal (title, error, code) {
  if (dying) return
  dying = true
  log.failure(title, error)
  const invocation = server?.current
  let path
  if (invocation && !invocation.settled) path = `invocation/${invocation.id}/error`
  else if (!ready) path = 'init/error'
  else return process.exit(code) // between invocations: nobody waits for an answer
  const described = errors.describe(error)
  const connection = new Connection(address())
  connection.post(path, errorHeaders(described.errorType), JSON.stringify(described), undefined, () => process.exit(code))
}

main()
