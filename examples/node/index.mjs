// A function in Node, as an ES module: it answers with the event that it got,
// what it sees of the machine that it runs on, and how often this very process
// has been used. "waitMs" in the event makes it wait before, so that several
// run at once.
import os from 'node:os';
import { setTimeout } from 'node:timers/promises';

// What stands here is kept between invocations for as long as the environment
// is reused: connections, caches, counters.
let invocations = 0;

export const handler = async (event, context) => {
  invocations += 1;
  console.log(`invocation ${invocations}, ${context.getRemainingTimeInMillis()} ms left`);
  await setTimeout(event?.waitMs ?? 0);
  return {
    hello: `from Node ${process.version}`,
    event,
    host: { name: os.hostname(), kernel: os.release(), uid: process.getuid(), pid: process.pid },
    invocations,
    upSeconds: process.uptime(),
    requestId: context.awsRequestId,
  };
};
