// A function that leaves its account's secret wherever a function can leave
// something, and says when it began. See tenant.py.
const born = Number(process.hrtime.bigint()); // the machine's monotonic clock
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

const secret = process.env.SECRET;
const id = randomUUID();
const kept = [];
let n = 0;

function leaveTraces() {
  for (const dir of ['/tmp', '/dev/shm']) writeFileSync(`${dir}/${secret}-node`, secret);
  spawn('/bin/sleep', ['1000'], { argv0: `${secret}-node`, stdio: 'ignore', detached: true }).unref();
  kept.push(Buffer.from(`${secret} `.repeat(1000)));
}

export const handler = async (event) => {
  const at = Number(process.hrtime.bigint());
  n += 1;
  if (n === 1) leaveTraces();
  await setTimeout(event.sleepMs ?? 0);
  return { nonce: event.nonce, secret, process: id, n, born, at };
};
