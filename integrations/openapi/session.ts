// A session with the API by openapi-fetch, with the types that openapi-typescript makes of its description: if this
// compiles, the description says enough, and if it runs, it says what is true. lint.sh compiles it. It asks the server at
// TRIGGERD_URL, with the key TRIGGERD_KEY, which has all scopes; TRIGGERD_HOOK is a URL that takes deliveries with 200.
//
// With `prism proxy --errors` between it and the server, every request and answer is also held against the description as
// a whole; a finding of prism ends the session. So what is refused here has to be well formed.
import createClient, { type Middleware } from 'openapi-fetch';

import type { components, paths } from './api.js';

declare const process: { env: Record<string, string | undefined> };

type Accepted = components['schemas']['Accepted'];
type Duplicate = components['schemas']['Duplicate'];
type Verdict = components['schemas']['Verdict'];
type Posted = Accepted | Duplicate | components['schemas']['Verdicts'] | string;
type Problem = components['schemas']['Problem'];
type Answer = { data?: unknown; error?: unknown; response: Response };

const unknownEvent = '01a201d9-e350-7ff3-8000-2e533c0c7570';
const patience = 30_000;

function env(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}`);
  return value;
}

// want ends the session if two values are not the same JSON.
function want<T>(what: string, got: T, wanted: T): void {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`${what}: ${a}, want ${b}`);
}

// ok gives what an answer carries, and wants its status. The type is that of all good answers of the route.
function ok<A extends Answer>(answer: A, status = 200): NonNullable<A['data']> {
  want(`${answer.response.url}: ${JSON.stringify(answer.error)}`, answer.response.status, status);
  return answer.data as NonNullable<A['data']>;
}

// refused wants a problem.
function refused(answer: { error?: Problem; response: Response }, status: number, code: Problem['code']): void {
  want(answer.response.url, [answer.response.status, answer.error?.status, answer.error?.code], [status, status, code]);
  want(answer.response.url, answer.response.headers.get('content-type'), 'application/problem+json');
}

// judged ends the session with what prism has found.
const judged: Middleware = {
  async onResponse({ request, response }) {
    const found = response.headers.get('sl-violations');
    const text = found ?? (response.ok ? '' : await response.clone().text());
    if (found !== null || text.includes('prism/errors#')) {
      throw new Error(`prism: ${request.method} ${request.url}: ${response.status} ${text}`);
    }
  },
};

// until asks again until there is an answer, which the server has to come to by itself.
async function until<T>(what: string, ask: () => Promise<T | undefined>): Promise<T> {
  for (const end = Date.now() + patience; Date.now() < end; ) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${what} does not come`);
}

const client = (key: string) => {
  const made = createClient<paths>({ baseUrl: env('TRIGGERD_URL'), headers: { authorization: `Bearer ${key}` } });
  made.use(judged);
  return made;
};
const api = client(env('TRIGGERD_KEY'));

async function account(): Promise<void> {
  const me = ok(await api.GET('/v1/me'));
  want('scopes', me.key?.scopes, ['ingest', 'read', 'manage']);
  want('inbox', me.organization.inbox, 'unmatched');
  refused(await client(`sk_${'0'.repeat(49)}`).GET('/v1/me'), 401, 'unauthorized');
  const key = ok(await api.POST('/v1/keys', { body: { name: 'reader', scopes: ['read'] } }), 201);
  const reader = client(key.key ?? '');
  refused(await reader.POST('/v1/events', { body: { type: 'order.created', payload: 1 } }), 403, 'missing_scope');
  const { data: keys } = ok(await api.GET('/v1/keys'));
  want('keys', keys.map(({ id }) => id), [me.key?.id, key.id]);
  ok(await api.DELETE('/v1/keys/{key_id}', { params: { path: { key_id: key.id } } }), 204);
}

async function subscribe(): Promise<number> {
  const name = 'order.created';
  const schema = { properties: { total: { type: 'number' } } };
  const type = ok(await api.PUT('/v1/event-types/{name}', { params: { path: { name } }, body: { mode: 'warn', schema } }), 201);
  want('event types', ok(await api.GET('/v1/event-types')).data, [type]);
  const body = { url: env('TRIGGERD_HOOK'), types: ['order.*'], metadata: { owner: 'ada' } };
  const { secret, ...webhook } = ok(await api.POST('/v1/webhooks', { body }), 201);
  want('secret', secret?.startsWith('whsec_'), true);
  want('webhooks', ok(await api.GET('/v1/webhooks')).data, [webhook]);
  const path = { webhook_id: webhook.id };
  want('test', ok(await api.POST('/v1/webhooks/{webhook_id}/test', { params: { path }, body: {} })).outcome, 'success');
  return webhook.id;
}

// one and many read what posting gives: for an event, and for an array of them.
function one(posted: Posted): Accepted | Duplicate {
  if (typeof posted === 'string' || 'data' in posted) throw new Error(`for one event: ${JSON.stringify(posted)}`);
  return posted;
}

function many(posted: Posted): Verdict[] {
  if (typeof posted === 'string' || !('data' in posted)) throw new Error(`for an array: ${JSON.stringify(posted)}`);
  return posted.data;
}

// post gives the ids of an event that the webhook gets, and of one that is for the inbox.
async function post(): Promise<[order: string, note: string]> {
  const order = { type: 'order.created', payload: { total: 12.5 }, dedup_id: 'order-1' };
  const { status, id } = one(ok(await api.POST('/v1/events', { body: order }), 201));
  want('first', status, 'accepted');
  const again = await api.POST('/v1/events', { body: order, params: { header: { 'Idempotency-Key': 'order-1' } } });
  want('again', one(ok(again)), { status: 'duplicate', id, payload_matches: true });
  const { warnings } = one(ok(await api.POST('/v1/events', { body: { type: order.type, payload: { total: 'x' } } }), 201));
  want('warnings', warnings?.map(({ pointer }) => pointer), ['#/payload/total']);
  const note = { type: 'note', payload: 'Zoë 🚀' };
  const repeat = { ...order, payload: null };
  const [accepted, duplicate] = many(ok(await api.POST('/v1/events', { body: [note, repeat] })));
  want('duplicate', duplicate, { index: 1, status: 'duplicate', id, payload_matches: false });
  if (accepted?.status !== 'accepted') throw new Error(`the verdict is ${accepted?.status}`);
  const late = { ...note, deliver_at: '2999-01-01T00:00:00Z' };
  const verdicts = many(ok(await api.POST('/v1/events', { body: [repeat, late] }), 207));
  want('verdicts', verdicts.map((verdict) => verdict.status), ['duplicate', 'rejected']);
  const keyed = { body: order, params: { header: { 'Idempotency-Key': 'other' } } };
  refused(await api.POST('/v1/events', keyed), 422, 'validation_failed');
  return [id, accepted.id];
}

async function follow(order: string, webhook: number): Promise<void> {
  const params = { path: { event_id: order } };
  const why = await until('a delivery', async () => {
    const { data } = ok(await api.GET('/v1/events/{event_id}/why', { params }));
    return data.find(({ verdict }) => verdict === 'delivered');
  });
  want('why', [why.webhook_id, why.attempts, why.last_attempt?.status], [webhook, 1, 200]);
  const event = ok(await api.GET('/v1/events/{event_id}', { params }));
  want('event', [event.status, event.payload, event.deliveries], ['delivered', { total: 12.5 }, [why]]);
  want('attempts', ok(await api.GET('/v1/events/{event_id}/attempts', { params })).data, [why.last_attempt]);
  const { data: found } = ok(await api.GET('/v1/events', { params: { query: { dedup_id: 'order-1' } } }));
  want('found', found.map(({ id }) => id), [order]);
  const ids: string[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const query = cursor === undefined ? { limit: 1 } : { limit: 1, cursor };
    const page = ok(await api.GET('/v1/events', { params: { query } }));
    ids.push(...page.data.map(({ id }) => id));
    cursor = page.next_cursor;
  }
  want('events', [ids.length, new Set(ids).size, ids.at(-1)], [3, 3, order]);
  const samples = ok(await api.GET('/v1/samples', { params: { query: { type: 'order.*' } } }));
  want('samples', samples.at(-1), { id: order, type: 'order.created', timestamp: event.created_at, data: event.payload });
  const unknown = { path: { event_id: unknownEvent } };
  refused(await api.GET('/v1/events/{event_id}', { params: unknown }), 404, 'not_found');
}

async function handle(note: string): Promise<void> {
  const { claim, data } = ok(await api.POST('/v1/inbox/claim', { body: { limit: 10, lease_seconds: 60 } }));
  want('claimed', data.map(({ id, attempts }) => [id, attempts]), [[note, 1]]);
  const body = { claim: claim ?? '', ids: [note] };
  for (const _ of ['once', 'again']) {
    want('acknowledged', ok(await api.POST('/v1/inbox/ack', { body })).data, [{ id: note, status: 'acknowledged' }]);
  }
  const nothing = ok(await api.POST('/v1/inbox/claim', { body: { wait_seconds: 0 } }));
  want('nothing', nothing, { claim: null, leased_until: null, data: [] });
}

async function again(webhook: number): Promise<void> {
  const dry = ok(await api.POST('/v1/webhooks/dry-run', { body: { types: ['note'], webhook_id: webhook } }));
  want('dry run', [dry.matched, dry.difference?.added, dry.difference?.removed], [1, 1, 2]);
  const body = { webhook_id: webhook, types: ['order.*'], pace: 0 };
  want('preview', ok(await api.POST('/v1/replays/preview', { body })).matched, 2);
  const { id, state } = ok(await api.POST('/v1/replays', { body }), 201);
  const params = { path: { replay_id: id } };
  const paused = ok(await api.POST('/v1/replays/{replay_id}/pause', { params }));
  const resumed = ok(await api.POST('/v1/replays/{replay_id}/resume', { params }));
  want('states', [state, paused.state, resumed.state], ['running', 'paused', 'running']);
  ok(await api.POST('/v1/replays/{replay_id}/cancel', { params }));
  const replay = await until('the end of the replay', async () => {
    const now = ok(await api.GET('/v1/replays/{replay_id}', { params }));
    return now.state === 'cancelled' ? now : undefined;
  });
  want('replays', ok(await api.GET('/v1/replays')).data, [replay]);
  refused(await api.POST('/v1/replays/{replay_id}/resume', { params }), 409, 'conflict');
  want('deliveries', ok(await api.GET('/v1/deliveries')).data, []);
  const path = { webhook_id: webhook };
  ok(await api.DELETE('/v1/webhooks/{webhook_id}', { params: { path } }), 204);
  refused(await api.GET('/v1/webhooks/{webhook_id}', { params: { path } }), 404, 'not_found');
}

await account();
const webhook = await subscribe();
const [order, note] = await post();
await follow(order, webhook);
await handle(note);
await again(webhook);
console.log('the session is as described');
