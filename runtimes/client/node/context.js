'use strict'
// The second argument of a handler.

// make builds the context of one invocation; life holds what the context can
// do to it (done, and the wish to wait for an empty event loop), undefined
// from Node.js 24 on, where handlers have only their promise.
function make (id, headers, env, life) {
  const deadline = Number(headers['lambda-runtime-deadline-ms'])
  const context = {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parsed(headers['lambda-runtime-client-context']),
    identity: parsed(headers['lambda-runtime-cognito-identity']),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: id,
    tenantId: headers['lambda-runtime-aws-tenant-id'],
    getRemainingTimeInMillis () { return Math.max(deadline - Date.now(), 0) }
  }
  if (life) {
    Object.defineProperty(context, 'callbackWaitsForEmptyEventLoop', {
      enumerable: true,
      get () { return life.waits },
      set (value) { life.waits = Boolean(value) }
    })
    const now = (error, result) => {
      life.waits = false
      life.finish(error, result)
    }
    context.done = now
    context.succeed = (result) => now(null, result)
    context.fail = (error) => now(error ?? 'handled')
  }
  return context
}

function parsed (header) {
  if (!header) return undefined
  return JSON.parse(header)
}

module.exports = { make }
