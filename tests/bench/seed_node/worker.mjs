// The seed document's `messageSendWorker`, with its mocked send: `node worker.mjs SPEC`.
//
// SPEC is JSON: `postgres` (a URL), `redis` (a unix socket), `concurrency` (the seed's is 5).

import { Worker } from 'bullmq';
import { openStore } from './store.mjs';

const spec = JSON.parse(process.argv[2]);
const store = openStore(spec.postgres);

async function processSendMessage(job) {
  const { messageDbId, sessionId } = job.data;
  await store.updateMessageStatus(messageDbId, 'processing');
  const waMessageId = `wamid.${Date.now()}_${Math.random().toString(36).substr(2, 9)}`;
  await store.updateMessageStatus(messageDbId, 'sent', { waMessageId, waTimestamp: Date.now() });
  await store.createEvent({ sessionId, eventType: 'message.sent', payload: { messageDbId, waMessageId } });
  return { success: true, messageDbId, waMessageId };
}

const worker = new Worker('message-send', processSendMessage, {
  connection: { path: spec.redis, maxRetriesPerRequest: null },
  concurrency: spec.concurrency,
});
worker.on('failed', (job, error) => console.error('failed', job?.id, error.message));
