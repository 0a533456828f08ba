'use strict'
// Runs the way of an invocation once before there is one, against a stand-in
// for the runtime API in the same process, so that sockets, parsers and
// formatters are compiled and their lazy parts made.

const net = require('net')
const { pathToFileURL } = require('url')
const path = require('path')
const { Connection } = require('./api')
const { Server } = require('./serve')
const { load } = require('./load')
const log = require('./log')

const ROUNDS = 12

async function warm () {
  const handler = await load(path.join(__dirname, 'sample'), 'common.handler')
  await import(pathToFileURL(path.join(__dirname, 'sample', 'module.mjs')).href)
  log.format('INFO', ['warm %s', { a: [1] }])
  await new Promise((resolve) => {
    const standIn = net.createServer((socket) => {
      let rounds = 0
      socket.on('data', (data) => {
        const text = data.toString()
        let answer = ''
        if (text.includes('POST ')) answer += 'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
        if (text.includes('GET ')) {
          if (rounds++ === ROUNDS) {
            connection.abandon()
            log.setRequestID(undefined)
            standIn.close(resolve)
            return
          }
          answer += 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: 0\r\nLambda-Runtime-Deadline-Ms: 0\r\nLambda-Runtime-Trace-Id: Root=0\r\nLambda-Runtime-Invoked-Function-Arn: arn\r\nContent-Length: 10\r\n\r\n{"a":"b"} '
        }
        socket.write(answer)
      })
    })
    let connection
    standIn.listen(0, '127.0.0.1', () => {
      connection = new Connection(`127.0.0.1:${standIn.address().port}`)
      new Server(connection, handler, false).start()
    })
  })
}

module.exports = { warm }
