// A function in Node, as an ES module: it answers with the event that it got,
// what it sees of the machine that it runs on, and how often this very process
// has been used.
import os from 'node:os';

// What stands here is kept between invocations for as long as the environment
// is reused: connections, caches, counters.
let invocations = 0;

export const handler = async (event, context) => {
  invocations += 1;
  console.log(`invocation ${invocations}, ${context.getRemainingTimeInMillis()} ms left`);
  return {
    hello: `from Node ${process.version}`,
    event,
    host: { name: os.hostname(), kernel: os.release(), uid: process.getuid(), pid: process.pid },
    invocations,
    upSeconds: process.uptime(),
    requestId: context.awsRequestId,
  };
};
