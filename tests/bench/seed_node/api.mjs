// The seed document's `enqueueSendMessage` behind the smallest HTTP server that Node has: `node api.mjs SPEC`.
//
// SPEC is JSON: `postgres` (a URL), `redis` (a unix socket), `port`. What a real service would add (a framework,
// authentication, validation, logs) is left out, in the seed's favour.

import http from 'node:http';
import { Queue } from 'bullmq';
import { openStore } from './store.mjs';

const spec = JSON.parse(process.argv[2]);
const store = openStore(spec.postgres);
const queue = new Queue('message-send', {
  connection: { path: spec.redis, maxRetriesPerRequest: null },
  defaultJobOptions: {
    attempts: 5,
    backoff: { type: 'exponential', delay: 2000 },
    removeOnComplete: { age: 3600, count: 100 },
    removeOnFail: { age: 7 * 24 * 3600 },
  },
});
await queue.waitUntilReady();

async function enqueueSendMessage(sessionId, jid, type, payload) {
  const messageId = `msg-${Date.now()}-${Math.random().toString(36).substr(2, 9)}`;
  const message = await store.createMessage({ sessionId, messageId, jid, type, payload });
  const job = await queue.add(
    'send-message',
    { messageDbId: message.id, sessionId, messageId: message.message_id, jid, type, payload },
    { jobId: `msg-send-${message.id}`, priority: 5 },
  );
  await store.createEvent({
    sessionId,
    eventType: 'message.queued',
    payload: { messageDbId: message.id, jobId: job.id },
  });
  return { message, job: { id: job.id } };
}

async function handle(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const { to, type, payload } = JSON.parse(Buffer.concat(parts));
  const sessionId = request.url.split('/')[2];
  const body = JSON.stringify(await enqueueSendMessage(sessionId, `${to}@s.whatsapp.net`, type, payload));
  response.writeHead(202, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

http
  .createServer((request, response) => {
    handle(request, response).catch((error) => {
      console.error(error);
      response.writeHead(500, { 'Content-Length': 0 });
      response.end();
    });
  })
  .listen(spec.port, '127.0.0.1');
