// BullMQ under the bench: `node peer.mjs migrate|produce|work SPEC`, SPEC being JSON.
//
// Both take `redis` (a unix socket) or `postgres` (a URL). `produce` takes an order as in local/bench/producing.py;
// `work` takes `concurrency`, `records`, `immediate` and `options` (BullMQ's own, for the worker).

import fs from 'node:fs';
import { Queue, Worker, createPostgresBackend, runMigrations } from 'bullmq';

const [, , verb, text] = process.argv;
const spec = JSON.parse(text);
const NAME = 'bench';
const BULK = 500;
const WARM_UP = 100;

const connection = spec.postgres
  ? { connectionString: spec.postgres, max: 20 }
  : { path: spec.redis, maxRetriesPerRequest: null };
const backend = spec.postgres ? [createPostgresBackend] : [];

const nowNs = () => BigInt(Math.round((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const cpuSeconds = () => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e6;
};

// 920 letters and six fields are 1 KB of JSON, as in local/bench/producing.py.
const LETTERS = 'abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ0123456789';
let seed = 7;
const random = () => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) / 0x7fffffff;
const TEXT = Array.from({ length: 920 }, () => LETTERS[Math.floor(random() * LETTERS.length)]).join('');
const makeJob = (id) => ({
  id,
  tenant: spec.tenant,
  workMs: spec.work_ms,
  called: Number(nowNs()),
  to: '5511999998888@s.whatsapp.net',
  text: TEXT,
});

async function migrate() {
  const { Client } = (await import('pg')).default;
  const client = new Client({ connectionString: spec.postgres });
  await client.connect();
  await runMigrations(client);
  await client.end();
}

async function produce() {
  // Finished jobs are removed: BullMQ keeps them for ever otherwise, and both memory and time would grow.
  const queue = new Queue(NAME, { connection, defaultJobOptions: { removeOnComplete: true } }, ...backend);
  await queue.waitUntilReady();
  const end = spec.first_id + spec.jobs;
  const warm = spec.mode === 'each' ? Math.min(WARM_UP, Math.floor(spec.jobs / 10)) : 0;
  let next = spec.first_id;
  const add = () => queue.add('job', makeJob(next++));
  for (let i = 0; i < warm; i++) await add();
  const cpu = cpuSeconds();
  const began = performance.now();
  if (spec.mode === 'bulk') {
    while (next < end) {
      const batch = [];
      while (next < end && batch.length < BULK) batch.push({ name: 'job', data: makeJob(next++) });
      await queue.addBulk(batch);
    }
  } else if (spec.mode === 'each') {
    const producer = async () => {
      while (next < end) await add();
    };
    await Promise.all(Array.from({ length: spec.producers }, producer));
  } else {
    while (next < end) {
      const due = performance.now() + spec.interval_ms;
      await add();
      await sleep(Math.max(0, due - performance.now()));
    }
  }
  const seconds = (performance.now() - began) / 1000;
  console.log(JSON.stringify({ jobs: spec.jobs - warm, seconds, cpu_s: cpuSeconds() - cpu }));
  await queue.close();
}

// The twin of local/bench/recorder.py.
let file = null;
let lines = [];
const writeCpu = () => fs.writeSync(file, `C ${nowNs()} ${cpuSeconds()}\n`);
function open() {
  file = fs.openSync(`${spec.records}/${process.pid}.log`, 'a');
  writeCpu();
  if (spec.immediate) return;
  setInterval(() => {
    if (!lines.length) return;
    const batch = lines;
    lines = [];
    fs.writeSync(file, batch.join(''));
    writeCpu();
  }, 50);
}

async function handle({ data }) {
  if (file === null) open();
  const began = nowNs();
  if (spec.immediate) fs.writeSync(file, `S ${data.id} ${began}\n`);
  if (data.workMs) await sleep(data.workMs);
  const line = `E ${data.id} ${data.tenant} ${data.called} ${began} ${nowNs()}\n`;
  if (spec.immediate) fs.writeSync(file, line);
  else lines.push(line);
}

function work() {
  const options = { connection, concurrency: spec.concurrency, ...spec.options };
  const worker = new Worker(NAME, handle, options, ...backend);
  worker.on('error', (error) => console.error('worker error', error.message));
  worker.on('failed', (job, error) => console.error('failed', job?.id, error.message));
}

if (verb === 'migrate') await migrate();
else if (verb === 'produce') await produce();
else work();
