// What durable executions are tested with. Each effect is a line of the log,
// so that the test can count how often it happened.
const { withDurableExecution } = require('@aws/durable-execution-sdk-js');

const effect = (name) => console.log(`EFFECT ${name} ${process.env.AWS_LAMBDA_LOG_STREAM_NAME}`);
const retry = (times) => ({
  retryStrategy: (_, attempt) => ({ shouldRetry: attempt < times, delay: { seconds: 1 } }),
});

const programs = {
  async everything(event, ctx) {
    const tag = event.tag;
    const one = await ctx.step('one', async () => { effect(`${tag}-one`); return 1; });
    const flaky = await ctx.step('flaky', async (c) => {
      effect(`${tag}-flaky`);
      if (c.attempt < 3) throw new Error(`attempt ${c.attempt}`);
      return c.attempt;
    }, retry(5));
    await ctx.wait('nap', { seconds: 1 });
    const both = await ctx.parallel('both', [
      async (c) => c.step('left', async () => { effect(`${tag}-left`); return 'l'; }),
      async (c) => { await c.wait({ seconds: 1 }); return c.step('right', async () => { effect(`${tag}-right`); return 'r'; }); },
    ]);
    const squares = await ctx.map('squares', [1, 2, 3], async (c, n) => c.step(`square-${n}`, async () => n * n));
    const child = await ctx.runInChildContext('child', async (c) => {
      const a = await c.step('inner', async () => { effect(`${tag}-inner`); return 40; });
      return a + 2;
    });
    const called = await ctx.invoke('call', event.plain, { n: 20 });
    const durably = await ctx.invoke('call durably', event.durable, { do: 'double', n: 21 });
    let refused;
    try { await ctx.invoke('call nobody', 'nobody', {}); } catch (e) { refused = e.message; }
    const approved = await ctx.waitForCallback('approval', async (id) => { console.log(`CALLBACK ${tag} ${id}`); });
    const failed = await ctx.step('last', async () => { throw new TypeError('never works'); }, retry(1)).catch((e) => e.message);
    return { one, flaky, both: both.getResults(), squares: squares.getResults(), child, called, durably, refused, approved, failed };
  },
  async double(event, ctx) {
    return ctx.step('double', async () => event.n * 2);
  },
  async sleep(event, ctx) {
    const before = await ctx.step('before', async () => { effect(`${event.tag}-before`); return process.env.AWS_LAMBDA_LOG_STREAM_NAME; });
    await ctx.wait('long', { seconds: event.seconds });
    const after = await ctx.step('after', async () => { effect(`${event.tag}-after`); return process.env.AWS_LAMBDA_LOG_STREAM_NAME; });
    return { before, after };
  },
  async crash(event, ctx) {
    await ctx.step('safe', async () => { effect(`${event.tag}-safe`); return 'kept'; });
    const attempt = await ctx.step('deadly', async () => {
      effect(`${event.tag}-deadly`);
      if (Date.now() < event.until) process.exit(3);
      return 'survived';
    });
    return attempt;
  },
  async fail() { throw new RangeError('as asked'); },
  async call(event, ctx) {
    const cb = await ctx.waitForCallback('call', async (id) => { console.log(`CALLBACK ${event.tag} ${id}`); },
      { timeout: { seconds: event.timeout }, heartbeatTimeout: event.heartbeat ? { seconds: event.heartbeat } : undefined });
    return cb;
  },
};

exports.handler = withDurableExecution(async (event, ctx) => programs[event.do](event, ctx));
