// A stand-in for a server of triggerd, in memory: as much of /v1 as the app and its tests use, for when there is no server
// at hand. It refuses what it does not know, as the real one does.
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

const problem = (status, code, title, errors) => ({
  status,
  body: { type: `/docs/problems#${code}`, title, status, code, detail: `${title}, says the stand-in.`, ...(errors && { errors }) },
});
const notFound = () => problem(404, 'not_found', 'Not found');
const invalid = (pointer, detail) => problem(422, 'validation_failed', 'Validation failed', [{ detail, pointer: `#/${pointer}` }]);

// unknown is the problem of a member or query parameter that a route does not have, if there is one.
const unknown = (body, query, members, parameters) => {
  const member = Object.keys(body ?? {}).find((name) => !members.includes(name));
  if (member) return invalid(member, 'is not known');
  const parameter = [...query.keys()].find((name) => !parameters.includes(name));
  return parameter && problem(400, 'invalid_parameter', 'Invalid parameter', [{ detail: 'is not known', parameter }]);
};

const matches = (patterns, type) =>
  patterns.length === 0 ||
  patterns.some((p) => new RegExp(`^${p.split('*').map((s) => s.replace(/[^\w]/g, '\\$&')).join('.*')}$`, 's').test(type));

export const startFake = async () => {
  const key = `sk_${randomBytes(24).toString('hex')}`;
  const events = []; // newest first, as deliveries
  const ids = new Map(); // by dedup id
  const types = new Map();
  const webhooks = new Map();

  const deliver = async (webhook, event) => {
    const content = JSON.stringify(event);
    const at = Math.floor(Date.now() / 1000);
    const secret = Buffer.from(webhook.secret.slice('whsec_'.length), 'base64');
    const signature = createHmac('sha256', secret).update(`${event.id}.${at}.${content}`).digest('base64');
    const headers = { 'content-type': 'application/json', 'webhook-id': event.id, 'webhook-timestamp': `${at}`, 'webhook-signature': `v1,${signature}` };
    const answer = await fetch(webhook.url, { method: 'POST', headers, body: content });
    if (answer.status === 410) webhook.state = 'gone';
  };

  // page cuts a list after each element, and gives an empty page at the start: whoever reads it must go on.
  const page = (all, query) => {
    const from = Number(query.get('cursor') ?? -1);
    return { status: 200, body: { data: all.slice(Math.max(from, 0), from + 1), next_cursor: from + 1 < all.length ? `${from + 1}` : null } };
  };

  const routes = {
    'GET /me': () => ({ status: 200, body: { organization: { id: 1, name: 'Stand-in' }, key: { id: 1 }, rate_limit: null } }),
    'GET /samples': ({ query }) =>
      unknown(null, query, [], ['type', 'limit', 'examples']) ?? {
        status: 200,
        body: events.filter(({ type }) => matches([query.get('type') ?? '*'], type)).slice(0, Number(query.get('limit') ?? 3)),
      },
    'GET /events': ({ query }) => {
      const id = ids.get(query.get('dedup_id'));
      const found = events.filter((event) => event.id === id).map(({ id, type, timestamp, data }) => ({
        id, type, payload: data, dedup_id: query.get('dedup_id'), status: 'pending', created_at: timestamp,
      }));
      return unknown(null, query, [], ['dedup_id', 'cursor', 'limit']) ?? page(found, query);
    },
    'POST /events': ({ body, query }) => {
      const wrong = unknown(body, query, ['type', 'payload', 'dedup_id'], []);
      if (wrong) return wrong;
      if (!body.type) return invalid('type', 'is missing');
      if (!('payload' in body)) return invalid('payload', 'is missing');
      if (Buffer.byteLength(body.dedup_id ?? '') > 255) return invalid('dedup_id', 'is longer than 255 bytes');
      if (ids.has(body.dedup_id)) return { status: 200, body: { status: 'duplicate', id: ids.get(body.dedup_id), payload_matches: true } };
      const event = { id: randomUUID(), type: body.type, timestamp: new Date().toISOString(), data: body.payload };
      events.unshift(event);
      if (body.dedup_id) ids.set(body.dedup_id, event.id);
      for (const webhook of webhooks.values()) if (webhook.state === 'active' && matches(webhook.types, event.type)) deliver(webhook, event);
      return { status: 201, body: { status: 'accepted', id: event.id } };
    },
    'GET /event-types': ({ query }) => unknown(null, query, [], ['cursor', 'limit']) ?? page([...types.values()], query),
    'PUT /event-types/:id': ({ id, body }) => {
      types.set(id, { name: id, mode: 'warn', schema: null, description: '', ...body });
      return { status: 201, body: types.get(id) };
    },
    'DELETE /event-types/:id': ({ id }) => (types.delete(id) ? { status: 204 } : notFound()),
    'POST /webhooks': ({ body, query }) => {
      const wrong = unknown(body, query, ['url', 'types', 'format', 'rate', 'description', 'metadata'], []);
      if (wrong) return wrong;
      if (!URL.canParse(body.url)) return invalid('url', 'is no URL');
      const webhook = { types: [], ...body, state: 'active', id: webhooks.size + 1, secret: `whsec_${randomBytes(32).toString('base64')}` };
      webhooks.set(webhook.id, webhook);
      return { status: 201, body: webhook };
    },
    'GET /webhooks/:id': ({ id }) => {
      const { secret, ...shown } = webhooks.get(Number(id)) ?? {};
      return secret ? { status: 200, body: shown } : notFound();
    },
    'DELETE /webhooks/:id': ({ id }) => (webhooks.delete(Number(id)) ? { status: 204 } : notFound()),
  };

  const answer = (request, text) => {
    const url = new URL(request.url, 'http://fake');
    const [, version, collection, id] = url.pathname.split('/');
    const route = routes[`${request.method} /${collection}${id ? '/:id' : ''}`];
    if (request.headers.authorization !== `Bearer ${key}`) return problem(401, 'unauthorized', 'Unauthorized');
    if (version !== 'v1' || !route) return notFound();
    if (text && request.headers['content-type'] !== 'application/json') return problem(415, 'unsupported_media_type', 'Unsupported media type');
    return route({ id: id && decodeURIComponent(id), query: url.searchParams, body: text ? JSON.parse(text) : undefined });
  };

  const server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request.setEncoding('utf8')) text += chunk;
    const { status, body } = answer(request, text);
    response.writeHead(status, { 'content-type': status < 400 ? 'application/json' : 'application/problem+json' });
    response.end(body === undefined ? undefined : JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    key,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
};
