// What the app makes of each kind of answer and of each kind of request to a hook. The server here says what the test
// wants it to.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { createServer } from 'node:http';
import { test } from 'node:test';

import { App, asZapier, refused, run } from './zapier.mjs';

const { test: me, connectionLabel } = App.authentication;
const { new_event: hook, new_event_polling: polling } = App.triggers;
const { post_event: post } = App.creates;

// answering starts a server that gives one answer to everything, and keeps the requests.
const answering = async (t, status, headers, body) => {
  const requests = [];
  const server = createServer(async (request, response) => {
    let content = '';
    for await (const chunk of request.setEncoding('utf8')) content += chunk;
    requests.push({ method: request.method, url: request.url, headers: request.headers, content });
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, requests, authData: { base_url: url, api_key: 'sk_of_the_test' } };
};

const problem = (status, code, title, more) => ({ type: `/docs/problems#${code}`, title, status, code, ...more });

test('401 asks to connect again', async (t) => {
  const { authData } = await answering(t, 401, {}, problem(401, 'unauthorized', 'Unauthorized', { detail: 'The key is wrong.' }));
  const { message } = await refused(run(me, { authData }), 'ExpiredAuthError');
  assert.equal(message.split('\n')[0], 'Unauthorized – The key is wrong.'); // Zapier adds what had happened
});

for (const [status, title] of [[408, 'Request timeout'], [429, 'Quota exceeded'], [503, 'Reduced capacity']]) {
  test(`${status} waits as long as the server says`, async (t) => {
    const { authData } = await answering(t, status, { 'retry-after': '34' }, problem(status, 'rate_limited', title));
    const inputData = { type: 'a', payload: '1' };
    for (const [operation, bundle] of [[me, {}], [polling.operation.perform, {}], [post.operation.perform, { inputData }]]) {
      const { message, delay } = await refused(run(operation, { authData, ...bundle }), 'ThrottledError');
      assert.deepEqual({ message, delay }, { message: title, delay: 34 });
    }
  });
}

test('429 without Retry-After waits a minute', async (t) => {
  const { authData } = await answering(t, 429, {}, 'from a proxy');
  assert.equal((await refused(run(me, { authData }), 'ThrottledError')).delay, 60);
});

test('a problem is readable', async (t) => {
  const errors = [{ detail: 'is too long', pointer: '#/dedup_id' }, { detail: 'is unknown', parameter: 'q' }, { detail: 'is odd' }];
  const body = problem(422, 'validation_failed', 'Validation failed', { detail: 'Three members are wrong.', errors });
  const { authData } = await answering(t, 422, { 'content-type': 'application/problem+json' }, body);
  assert.deepEqual(await refused(run(me, { authData }), 'AppError'), {
    message: 'Validation failed – Three members are wrong. – #/dedup_id: is too long; q: is unknown; is odd',
    code: 'validation_failed',
    status: 422,
  });
});

test('an answer that is not from triggerd is an error', async (t) => {
  for (const [status, body] of [[200, '<html>'], [502, '<html>'], [404, '"text"'], [500, '']]) {
    const { authData } = await answering(t, status, {}, body);
    const { message } = await refused(run(me, { authData }), 'AppError');
    assert.equal(message, `The server answered with status ${status}, and not as triggerd does.`);
  }
});

test('a redirect is not followed', async (t) => {
  const elsewhere = await answering(t, 200, {}, []);
  const { authData } = await answering(t, 301, { location: `${elsewhere.url}/v1/me` }, '');
  const { message } = await refused(run(me, { authData }), 'AppError');
  assert.match(message, /redirects to http.*\/v1\/me/);
  assert.equal(elsewhere.requests.length, 0);
});

test('the URL of the server', async (t) => {
  const { url, requests, authData } = await answering(t, 200, {}, { organization: { name: 'Mine' } });
  const found = await run(me, { authData: { ...authData, base_url: `${url}/under/` } });
  assert.equal(await run(connectionLabel, { authData, inputData: found }), 'Mine');
  assert.equal(requests[0].url, '/under/v1/me');
  assert.equal(requests[0].headers.authorization, 'Bearer sk_of_the_test');
  for (const wrong of ['triggerd.example.com', 'ftp://example.com', '', undefined]) {
    await refused(run(me, { authData: { ...authData, base_url: wrong } }), 'AppError');
  }
});

test('results are checked', async (t) => {
  const { authData } = await answering(t, 200, {}, [{ type: 'no.id' }]);
  const { message } = await refused(run(polling.operation.perform, { authData }), 'CheckError');
  assert.match(message, /missing the "id"/);
});

test('a payload passes as it is', async (t) => {
  const { requests, authData } = await answering(t, 201, {}, { status: 'accepted', id: 'x' });
  const big = '{ "n": 12345678901234567890, "s": "{{bundle.inputData.x}} {{y}}" }';
  for (const [inputData, want] of [
    [{ type: 'a', payload: big }, `{"type":"a","payload":${big}}`],
    [{ type: '"', payload: '"x"', dedup_id: '{{"}}' }, '{"type":"\\"","payload":"x","dedup_id":"{{\\"}}"}'],
    [{ type: 'a', fields: { name: 'Ada' } }, '{"type":"a","payload":{"name":"Ada"}}'],
    [{ type: 'a', payload: '', fields: { name: 'Ada' } }, '{"type":"a","payload":{"name":"Ada"}}'],
    [{ type: 'a', payload: { n: 1 } }, '{"type":"a","payload":{"n":1}}'],
  ]) {
    await run(post.operation.perform, { authData, inputData });
    assert.equal(requests.pop().content, want);
  }
  for (const inputData of [{}, { payload: '{}', fields: { a: 'b' } }, { payload: 'text' }, { payload: '1,"type":"b"' }]) {
    await refused(run(post.operation.perform, { authData, inputData: { type: 'a', ...inputData } }), 'AppError');
  }
  assert.equal(requests.length, 0);
});

test('a query passes as it is', async (t) => {
  const { requests, authData } = await answering(t, 200, {}, { data: [], next_cursor: null });
  await run(App.searches.find_event.operation.perform, { authData, inputData: { dedup_id: 'a {{b}}&c=ä' } });
  assert.equal(requests[0].url, `/v1/events?${new URLSearchParams({ dedup_id: 'a {{b}}&c=ä' })}`);
});

test('which samples are asked for', async (t) => {
  const { requests, authData } = await answering(t, 200, {}, []);
  for (const [inputData, list, poll] of [
    [{}, '/v1/samples', '/v1/samples?limit=100&examples=false'],
    [{ type: '' }, '/v1/samples', '/v1/samples?limit=100&examples=false'],
    [{ type: 'user.*' }, '/v1/samples?type=user.*', '/v1/samples?type=user.*&limit=100&examples=false'],
  ]) {
    await run(hook.operation.performList, { authData, inputData });
    assert.equal(requests.pop().url, list);
    await run(polling.operation.perform, { authData, inputData });
    assert.equal(requests.pop().url, poll);
  }
});

test('what is subscribed', async (t) => {
  const { requests, authData } = await answering(t, 201, {}, { id: 7, secret: 'whsec_AAAA', url: 'http://hook' });
  const targetUrl = 'https://hooks.example.com/1/abc';
  const more = { format: 'standard', rate: 30, description: 'Zapier', metadata: { client: 'zapier', version: App.version } };
  for (const [inputData, types] of [[{ type: 'user.*' }, { types: ['user.*'] }], [{}, {}]]) {
    const data = await run(hook.operation.performSubscribe, { authData, inputData, targetUrl });
    assert.deepEqual(data, { id: 7, secret: 'whsec_AAAA' });
    assert.deepEqual(JSON.parse(requests.pop().content), { url: targetUrl, ...types, ...more });
  }
});

test('a delivery that triggerd did not sign is halted', async () => {
  const event = { id: '01a2', type: 'a', timestamp: '2026-11-22T06:03:06.448Z', data: { n: 1, s: 'Zoë 🚀' } };
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  const sign = (key, id, at, content) => createHmac('sha256', Buffer.alloc(32, key)).update(`${id}.${at}.${content}`).digest('base64');
  const content = JSON.stringify(event);
  const right = sign(7, '01a2', 1795327386, content);
  const request = (signature, body = content, more = {}) => asZapier({
    method: 'POST',
    headers: { 'content-type': 'application/json', 'webhook-id': '01a2', 'webhook-timestamp': '1795327386', 'webhook-signature': signature, ...more },
    content: body,
  });
  const perform = (bundle) => run(hook.operation.perform, { subscribeData: { id: 1, secret }, ...bundle });

  const other = sign(8, '01a2', 1795327386, content);
  for (const good of [`v1,${right}`, `v1,${other} v1,${right}`, `v1a,${other} v1,${right}`]) {
    assert.deepEqual(await perform(request(good)), [event]);
  }
  const changed = content.replace('"n":1', '"n":2');
  const cut = sign(7, '01a2', 1795327386, `1795327387.${content}`); // a payload of its own, cut elsewhere
  for (const forged of [
    request(`v1,${cut}`, content, { 'webhook-id': '01a2.1795327386', 'webhook-timestamp': '1795327387' }),
    request(`v1,${cut}`, content, { 'webhook-timestamp': '1795327386.1795327387' }),
    request(`v1,${other}`), request(`v1a,${right}`), request(right), request('v1'), request('v1,'), request(''),
    request(`v1,${right}`, changed), request(`v1,${right}`, `${content} `),
    request(`v1,${right}`, content, { 'webhook-id': '01a3' }), request(`v1,${right}`, content, { 'webhook-timestamp': '1795327387' }),
    { ...request(''), rawRequest: { headers: {}, content } },
  ]) {
    await refused(perform(forged), 'HaltedError');
  }
  // What was verified counts, not what Zapier has made of it.
  assert.deepEqual(await perform({ ...request(`v1,${right}`), cleanedRequest: { id: 'other' } }), [event]);
  // Without a secret, or without the bytes, there is nothing to verify.
  assert.deepEqual(await perform({ ...request(''), subscribeData: { id: 1 } }), [event]);
  assert.deepEqual(await perform({ cleanedRequest: { ...event, querystring: {} } }), [event]);
});
