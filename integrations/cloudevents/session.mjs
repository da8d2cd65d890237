// The CloudEvents SDK for JavaScript against the server at TRIGGERD_URL, with the key TRIGGERD_KEY, which has all scopes: it
// posts events in each mode, and receives each again from a webhook of the format cloudevents. The server must be able to
// reach this machine at 127.0.0.1 (triggerd serve --dev). The first thing that is wrong ends it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { CloudEvent, HTTP, Mode, emitterFor, httpTransport } from 'cloudevents';

const { TRIGGERD_URL, TRIGGERD_KEY } = process.env;
assert.ok(TRIGGERD_URL && TRIGGERD_KEY, 'set TRIGGERD_URL and TRIGGERD_KEY');
const posting = `${TRIGGERD_URL}/v1/events`;
const headers = { authorization: `Bearer ${TRIGGERD_KEY}` };
const patience = 30_000;

// In binary mode this SDK writes attributes as they are, so that what is not ASCII cannot be sent, and extensions as texts.
const plain = {
  time: '2026-01-02T03:04:05.678Z', type: 'order.created', source: 'https://example.com/orders?shop=1',
  datacontenttype: 'application/json',
};
const rich = { ...plain, subject: 'orders/Zoë 日本 "x" 100%', dataschema: 'https://example.com/schema#1', count: 3, paid: true };
const trace = { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', partitionkey: 'a b' };
const total = { total: 12.5, name: 'Zoë 🚀' };

const sent = {
  [Mode.BINARY]: [
    new CloudEvent({ ...plain, ...trace, id: 'binary', subject: 'orders/4711 (new)', data: total }),
    new CloudEvent({ ...plain, id: 'text', datacontenttype: 'text/plain', data: 'two\nlines, "quoted"' }),
    new CloudEvent({ ...plain, id: 'bytes', datacontenttype: 'image/png', data: Uint8Array.of(0x89, 0x50, 0xff, 0, 0xfe) }),
  ],
  [Mode.STRUCTURED]: [
    new CloudEvent({ ...rich, ...trace, id: 'structured', data: total }),
    new CloudEvent({ ...rich, id: 'list', data: [1, 'two', null] }),
    new CloudEvent({ ...rich, id: 'no data', datacontenttype: undefined }),
    new CloudEvent({ ...rich, id: 'base64', datacontenttype: 'image/png', data_base64: 'iVD/AP4=' }),
  ],
  [Mode.BATCH]: [1, 2, 3].map((n) => new CloudEvent({ ...rich, id: `batch ${n}`, data: { n } })),
};

// shown is an event as two are compared. This SDK gives what is not there as undefined, and bytes in arrays of all kinds.
const shown = ({ data = null, data_base64, ...attributes }) => ({
  ...Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined)),
  data: data_base64 ?? (ArrayBuffer.isView(data) ? Buffer.from(data).toString('base64') : data),
});

const ask = async (method, path, body) => {
  const json = { 'content-type': 'application/json' };
  const answer = await fetch(`${TRIGGERD_URL}/v1${path}`, { method, headers: { ...headers, ...json }, body: JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
};

// receive makes a webhook, and gives what comes to it, by the id of the CloudEvent.
const receive = async () => {
  const received = new Map();
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    response.end();
    server.emit('delivery', { headers: request.headers, body });
  });
  server.on('delivery', (message) => {
    const event = HTTP.toEvent(message);
    event.validate();
    assert.ok(!received.has(event.id), `${event.id} came twice`);
    received.set(event.id, event);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  await ask('POST', '/webhooks', { url: `http://127.0.0.1:${server.address().port}/`, types: ['order.*'], format: 'cloudevents' });
  const until = async (count) => {
    const signal = AbortSignal.timeout(patience);
    while (received.size < count) await once(server, 'delivery', { signal });
    server.close();
    server.closeAllConnections();
    return received;
  };
  return { until };
};

const handshake = async () => {
  const origin = 'eventemitter.example.com';
  const answer = await fetch(posting, { method: 'OPTIONS', headers: { 'WebHook-Request-Origin': origin, 'WebHook-Request-Rate': '120' } });
  assert.equal(answer.status, 204);
  assert.equal(answer.headers.get('webhook-allowed-origin'), origin);
  assert.equal(answer.headers.get('webhook-allowed-rate'), '*');
  assert.match(answer.headers.get('allow'), /\bPOST\b/);
};

// post sends one event with the transport of the SDK, and gives what was said.
const post = async (mode, event) => {
  const { body } = await emitterFor(httpTransport(posting), { mode })(event, { headers });
  return JSON.parse(body);
};

// postBatch does what the SDK has no function for, with its own JSON of each event.
const postBatch = async (events) => {
  const batch = { 'content-type': 'application/cloudevents-batch+json' };
  const answer = await fetch(posting, { method: 'POST', headers: { ...headers, ...batch }, body: JSON.stringify(events) });
  assert.equal(answer.status, 200);
  return (await answer.json()).data;
};

await handshake();
const { until } = await receive();
const ids = new Map(); // what triggerd gave, by the id of the CloudEvent
for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
  for (const event of sent[mode]) {
    const { status, id } = await post(mode, event);
    assert.equal(status, 'accepted', event.id);
    ids.set(event.id, id);
  }
}
for (const [i, { index, status, id }] of (await postBatch(sent[Mode.BATCH])).entries()) {
  assert.deepEqual([index, status], [i, 'accepted']);
  ids.set(sent[Mode.BATCH][i].id, id);
}

// The same source and id are the same event, whatever the mode; another source is another one.
const [first] = sent[Mode.BINARY];
for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
  const { status, id } = await post(mode, first);
  assert.deepEqual([status, id], ['duplicate', ids.get(first.id)]);
}
const [repeat] = await postBatch([sent[Mode.STRUCTURED][0]]);
assert.deepEqual([repeat.status, repeat.id], ['duplicate', ids.get('structured')]);
const other = first.cloneWith({ source: '/other', type: 'not.received' });
assert.equal((await post(Mode.STRUCTURED, other)).status, 'accepted');

// What is no CloudEvent is delivered as one, too.
const ordinary = await ask('POST', '/events', { type: 'order.paid', payload: total });
const { created_at: time } = await ask('GET', `/events/${ordinary.id}`);

const all = Object.values(sent).flat();
const received = await until(all.length + 1);
for (const event of all) assert.deepEqual(shown(received.get(event.id)), shown(event), event.id);
const { source, ...made } = shown(received.get(ordinary.id));
assert.match(source, /^\/organizations\/\d+$/);
assert.deepEqual(made, {
  id: ordinary.id, time, type: 'order.paid', specversion: '1.0', datacontenttype: 'application/json', data: total,
});
for (const event of all) {
  const { cloudevent } = await ask('GET', `/events/${ids.get(event.id)}`);
  assert.deepEqual([cloudevent.id, cloudevent.source, cloudevent.time], [event.id, event.source, event.time]);
}
console.log(`${received.size} events received as they were sent`);
