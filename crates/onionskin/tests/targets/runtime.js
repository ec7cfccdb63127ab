// A program with a worker thread, timers and garbage, that checks what it keeps, answers each line
// with its progress, and ends with 3 where something changed.
const { Worker } = require('worker_threads');
const shared = new BigInt64Array(new SharedArrayBuffer(16));

const body = `
const { workerData } = require('worker_threads');
let keep = [];
for (let n = 0; ; n++) {
  keep[n % 300] = Array.from({ length: 40 }, (_, i) => 'x' + (n + i));
  const old = keep[(n * 7) % 300];
  if (old && old.some((s, i) => +s.slice(1) !== +old[0].slice(1) + i)) process.exit(3);
  Atomics.add(workerData, 0, 1n);
}`;
const worker = new Worker(body, { eval: true, workerData: shared });
worker.on('error', () => process.exit(3));

let ticks = 0;
let last = process.hrtime.bigint();
setInterval(() => {
  const now = process.hrtime.bigint();
  if (now < last) process.exit(3);
  last = now;
  ticks++;
}, 2);

function say(value) {
  process.stdout.write(JSON.stringify(value) + '\n');
}
let begun = '';
process.stdin.on('data', (data) => {
  begun += data;
  const lines = begun.split('\n');
  begun = lines.pop();
  for (const line of lines) {
    if (line === 'quit') process.exit(0);
    say({ rounds: Number(Atomics.load(shared, 0)) + ticks });
  }
});
process.stdin.on('end', () => process.exit(0));
say({ pid: process.pid });
