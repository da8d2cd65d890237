// The app against a server, at TRIGGERD_URL with the key TRIGGERD_KEY, which has all scopes. The server must be able to
// reach this machine at 127.0.0.1 (triggerd serve --dev). With ZAPIER_OFFLINE=1 the stand-in takes its place.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

import { startFake } from './fake.mjs';
import { App, asZapier, refused, run } from './zapier.mjs';

const { TRIGGERD_URL, TRIGGERD_KEY, ZAPIER_OFFLINE } = process.env;
if (ZAPIER_OFFLINE !== '1' && !(TRIGGERD_URL && TRIGGERD_KEY)) {
  throw new Error('set TRIGGERD_URL and TRIGGERD_KEY to test against a server, or ZAPIER_OFFLINE=1 to do without one');
}

const patience = { timeout: 60_000 };
const { new_event: hook, new_event_polling: polling, event_type: types } = App.triggers;
const unique = randomBytes(6).toString('hex');
const type = `zapier.${unique}.created`;
const pattern = `zapier.${unique}.*`;
const payload = '{ "name": "Zoë 🚀", "n": 0.10, "list": [1, {}], "none": null }';

let fake;
let authData;
let subscribeData;
let receiver;
let delivered; // the request that came to the hook
let posted; // the id of its event

// hooks is a local server in Zapier's place.
const hooks = async () => {
  const server = createServer(async (request, response) => {
    let content = '';
    for await (const chunk of request.setEncoding('utf8')) content += chunk;
    response.writeHead(self.status).end();
    server.emit('delivery', { method: request.method, headers: request.headers, content });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const self = {
    status: 200,
    url: `http://127.0.0.1:${server.address().port}/hooks/standard/1/abc/`,
    // next is the delivery that comes next; ask for it before it can come.
    next: async () => (await once(server, 'delivery', { signal: AbortSignal.timeout(30_000) }))[0],
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
  return self;
};

// ask is for what the app itself has no need of.
const ask = (method, path, body) => fetch(`${authData.base_url}/v1${path}`, {
  method,
  headers: { authorization: `Bearer ${authData.api_key}`, 'content-type': 'application/json' },
  body: body && JSON.stringify(body),
});

const post = (inputData) => run(App.creates.post_event.operation.perform, { authData, inputData });
const subscribe = () => run(hook.operation.performSubscribe, { authData, inputData: { type: pattern }, targetUrl: receiver.url });
const unsubscribe = (data) =>
  run(hook.operation.performUnsubscribe, { authData, subscribeData: data, targetUrl: receiver.url });

before(async () => {
  if (ZAPIER_OFFLINE === '1') fake = await startFake();
  authData = { base_url: fake?.url ?? TRIGGERD_URL, api_key: fake?.key ?? TRIGGERD_KEY };
  receiver = await hooks();
});

after(() => {
  receiver?.close();
  fake?.close();
});

test('a good key is accepted', patience, async () => {
  const me = await run(App.authentication.test, { authData });
  const label = await run(App.authentication.connectionLabel, { authData, inputData: me });
  assert.ok(typeof label === 'string' && label !== '', `the label is ${label}`);
});

test('a bad key is refused', patience, async () => {
  const bad = { ...authData, api_key: `sk_${'0'.repeat(49)}` };
  await refused(run(App.authentication.test, { authData: bad }), 'ExpiredAuthError');
});

test('event types fill the dropdown', patience, async () => {
  const names = [1, 2, 3].map((n) => `zapier.${unique}.type${n}`);
  for (const name of names) assert.ok((await ask('PUT', `/event-types/${name}`, { description: 'of a test' })).ok);
  const found = await run(types.operation.perform, { authData, meta: { isFillingDynamicDropdown: true } });
  for (const name of names) {
    assert.deepEqual(found.filter(({ id }) => id === name), [{ id: name, name, description: 'of a test' }]);
    assert.equal((await ask('DELETE', `/event-types/${name}`)).status, 204);
  }
});

test('a subscription is made', patience, async () => {
  subscribeData = await subscribe();
  assert.deepEqual(Object.keys(subscribeData), ['id', 'secret']);
  assert.match(subscribeData.secret, /^whsec_/);
  const answer = await ask('GET', `/webhooks/${subscribeData.id}`);
  const { url, types: filter } = await answer.json();
  assert.deepEqual({ status: answer.status, url, filter }, { status: 200, url: receiver.url, filter: [pattern] });
});

test('a posted event comes to the hook', patience, async () => {
  const coming = receiver.next();
  await post({ type: `other.${unique}`, payload: '1' }); // which the subscription does not want
  const first = await post({ type, payload, dedup_id: unique });
  assert.equal(first.status, 'accepted');
  posted = first.id;
  delivered = await coming;
  const [event] = await run(hook.operation.perform, { authData, subscribeData, ...asZapier(delivered) });
  assert.deepEqual(event, { id: posted, type, timestamp: event.timestamp, data: JSON.parse(payload) });
  assert.ok(!Number.isNaN(Date.parse(event.timestamp)));
  assert.deepEqual(Object.keys(JSON.parse(delivered.content)), Object.keys(event));
});

test('a forged delivery is halted', patience, async () => {
  const forged = asZapier({ ...delivered, content: delivered.content.replace('Zoë', 'Eve') });
  await refused(run(hook.operation.perform, { authData, subscribeData, ...forged }), 'HaltedError');
});

test('a repeated event is a duplicate', patience, async () => {
  const again = await post({ type, payload, dedup_id: unique });
  assert.deepEqual([again.status, again.id], ['duplicate', posted]);
});

test('an event that the server refuses is an error with its reason', patience, async () => {
  const { message, status } = await refused(post({ type, payload, dedup_id: 'x'.repeat(300) }), 'AppError');
  assert.equal(status, 422);
  assert.match(message, /#\/dedup_id/);
});

test('samples are the deliveries', patience, async () => {
  for (const inputData of [{ type }, { type: pattern }]) {
    const samples = await run(hook.operation.performList, { authData, inputData });
    assert.deepEqual(samples, [JSON.parse(delivered.content)]);
    assert.deepEqual(Object.keys(samples[0]), Object.keys(JSON.parse(delivered.content)));
  }
  const all = await run(hook.operation.performList, { authData, inputData: {} });
  assert.ok(all.length >= 1 && all.length <= 3);
});

test('polling finds new events, the newest first', patience, async () => {
  const coming = receiver.next();
  const { id } = await post({ type, fields: { name: 'Ada' } });
  await coming;
  const found = await run(polling.operation.perform, { authData, inputData: { type } });
  assert.deepEqual(found.map((event) => event.id), [id, posted]);
  assert.deepEqual(found[0].data, { name: 'Ada' });
  assert.deepEqual(await run(polling.operation.perform, { authData, inputData: { type } }), found);
});

test('an event is found by its dedup id', patience, async () => {
  const find = (dedup_id) => run(App.searches.find_event.operation.perform, { authData, inputData: { dedup_id } });
  const [event, ...more] = await find(unique);
  assert.deepEqual([event.id, event.type, event.payload, event.dedup_id], [posted, type, JSON.parse(payload), unique]);
  for (const name of Object.keys(App.searches.find_event.operation.sample)) assert.ok(name in event, name);
  assert.deepEqual(more, []);
  assert.deepEqual(await find(`${unique} is not there`), []);
});

test('a subscription is ended, and again', patience, async () => {
  await unsubscribe(subscribeData);
  assert.equal((await ask('GET', `/webhooks/${subscribeData.id}`)).status, 404);
  await unsubscribe(subscribeData);
});

test('410 ends a subscription', patience, async () => {
  const data = await subscribe();
  receiver.status = 410;
  const coming = receiver.next();
  await post({ type, payload: 'true' });
  await coming;
  const end = Date.now() + 30_000;
  let state;
  while ((state = (await (await ask('GET', `/webhooks/${data.id}`)).json()).state) !== 'gone') {
    assert.ok(Date.now() < end, `the webhook is still ${state}`);
    await sleep(20);
  }
  await unsubscribe(data);
  assert.equal((await ask('GET', `/webhooks/${data.id}`)).status, 404);
});
