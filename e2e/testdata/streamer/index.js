'use strict'
// A function that streams its response, in the way that the event asks for.

const { createHash, createHmac } = require('crypto')
const { once } = require('events')
const { setTimeout: sleep } = require('timers/promises')

const name = process.env.AWS_LAMBDA_FUNCTION_NAME

// tags reads this function's own tags, through the API that functions reach.
async function tags () {
  const { AWS_ACCESS_KEY_ID: key, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: token, AWS_REGION: region } = process.env
  const url = new URL(`/2015-03-31/functions/${name}`, process.env.AWS_ENDPOINT_URL)
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, '')
  const scope = `${time.slice(0, 8)}/${region}/lambda/aws4_request`
  const hash = (data) => createHash('sha256').update(data).digest('hex')
  const hmac = (k, data) => createHmac('sha256', k).update(data).digest()
  const signed = 'host;x-amz-date;x-amz-security-token'
  const canonical = `GET\n${url.pathname}\n\nhost:${url.host}\nx-amz-date:${time}\nx-amz-security-token:${token}\n\n${signed}\n${hash('')}`
  const signing = scope.split('/').reduce(hmac, 'AWS4' + secret)
  const signature = hmac(signing, `AWS4-HMAC-SHA256\n${time}\n${scope}\n${hash(canonical)}`).toString('hex')
  const answer = await fetch(url, {
    headers: {
      'x-amz-date': time,
      'x-amz-security-token': token,
      authorization: `AWS4-HMAC-SHA256 Credential=${key}/${scope}, SignedHeaders=${signed}, Signature=${signature}`
    }
  })
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`)
  return (await answer.json()).Tags ?? {}
}

const modes = {
  // The second piece comes only once somebody has set the tag.
  async gate (event, stream) {
    stream.write('first')
    while (!(event.tag in await tags())) await sleep(20)
    stream.write('second')
    stream.end()
  },
  async late (event, stream) {
    stream.write('part')
    await sleep(5)
    throw new TypeError('too late')
  },
  async early () { throw new TypeError('too early') },
  async exit (event, stream) {
    await new Promise((resolve) => stream.write('part', resolve))
    await sleep(200)
    process.exit(3)
  },
  async hang (event, stream) {
    stream.write('part')
    await sleep(60_000)
  },
  async much (event, stream) {
    const piece = Buffer.alloc(64 << 10, 'x')
    for (let left = event.mib << 4; left > 0; left--) {
      if (!stream.write(piece)) await once(stream, 'drain')
    }
    stream.end()
    await once(stream, 'finish')
    console.log(`wrote ${event.mib} MiB`)
  },
  async http (event, stream) {
    stream = awslambda.HttpResponseStream.from(stream, {
      statusCode: 201, headers: { 'Content-Type': 'text/html', 'X-Mine': 'yes' }, cookies: ['a=1', 'b=2; HttpOnly']
    })
    stream.write('<p>')
    stream.end('é</p>')
  }
}

exports.handler = awslambda.streamifyResponse(async (event, stream) => {
  const mode = event.mode ?? event.queryStringParameters?.mode
  if (event.queryStringParameters) event = { ...event, ...event.queryStringParameters }
  return modes[mode](event, stream)
})
