// Verifies captured deliveries with the official libraries, standardwebhooks and svix. On stdin is one JSON object a
// line: {webhook, secret or publicKey, headers, body}, names of headers in lower case, the body in base64. On stdout is
// one line a check; the first wrong verdict is the last, and makes the exit code 1.
//
// Neither library knows v1a, the ed25519 signatures of Standard Webhooks: they pass over them. For a publicKey
// node:crypto stands in, and the libraries are held to finding nothing that matches.
import { createPublicKey, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import * as standardwebhooks from 'standardwebhooks';
import * as svix from 'svix';

const libraries = { standardwebhooks, svix };

// What the libraries say when they refuse.
const mismatch = 'No matching signature found';
const missing = 'Missing required headers';
const tooOld = 'Message timestamp too old';
const tooNew = 'Message timestamp too new';

// changes lists what is tried on a delivery: a name, the headers, the body, and why it is to be refused, '' if it is not.
function changes(headers, body) {
  const id = headers['webhook-id'];
  const at = Number(headers['webhook-timestamp']);
  const flipped = Buffer.from(body);
  flipped[body.length >> 1] ^= 1;
  const set = (name, value) => ({ ...headers, [name]: String(value) });
  const without = (name) => Object.fromEntries(Object.entries(headers).filter(([key]) => key !== name));
  return [
    ['as it came', headers, body, ''],
    ['a body longer by a space', headers, Buffer.concat([body, Buffer.from(' ')]), mismatch],
    ['a body shorter by a byte', headers, body.subarray(0, -1), mismatch],
    ['a body with another byte', headers, flipped, mismatch],
    ['another id', set('webhook-id', id.slice(0, -1) + (id.endsWith('0') ? '1' : '0')), body, mismatch],
    ['a second later', set('webhook-timestamp', at + 1), body, mismatch],
    ['a second earlier', set('webhook-timestamp', at - 1), body, mismatch],
    ['ten minutes later', set('webhook-timestamp', at + 600), body, tooNew],
    ['ten minutes earlier', set('webhook-timestamp', at - 600), body, tooOld],
    ['no signature', without('webhook-signature'), body, missing],
    ['no id', without('webhook-id'), body, missing],
    ['no timestamp', without('webhook-timestamp'), body, missing],
  ];
}

// verifyAsymmetric is for a receiver that has the public key alone. It does not look at the clock.
function verifyAsymmetric(key, headers, body) {
  const [id = '', at = ''] = [headers['webhook-id'], headers['webhook-timestamp']];
  if (!/^[^.]+$/.test(id) || !/^\d+$/.test(at)) throw new Error(mismatch); // else one signature is good for several bodies
  const signed = Buffer.concat([Buffer.from(`${id}.${at}.`), body]);
  const signatures = (headers['webhook-signature'] ?? '').split(' ').map((s) => s.split(','));
  if (!signatures.some(([version, s]) => version === 'v1a' && verify(null, signed, key, Buffer.from(s, 'base64')))) {
    throw new Error(mismatch);
  }
}

// refusal is the message of a refusal, '' if there is none. What a library throws otherwise is no verdict.
function refusal(verdict, kind) {
  try {
    verdict();
    return '';
  } catch (error) {
    if (error instanceof kind) return error.message;
    throw error;
  }
}

// checksOfSecret and checksOfKey give for each check its name, the refusal that is wanted, and the one that came.
function* checksOfSecret(secret, headers, body) {
  const key = Buffer.from(secret.replace('whsec_', ''), 'base64');
  key[0] ^= 1;
  for (const [name, { Webhook, WebhookVerificationError }] of Object.entries(libraries)) {
    const judge = (h, b) => refusal(() => new Webhook(secret).verify(b, h), WebhookVerificationError);
    for (const [change, h, b, want] of changes(headers, body)) yield [`${name}, ${change}`, want, judge(h, b)];
    const other = new Webhook(`whsec_${key.toString('base64')}`);
    yield [`${name}, another secret`, mismatch, refusal(() => other.verify(body, headers), WebhookVerificationError)];
  }
}

function* checksOfKey(publicKey, headers, body) {
  const raw = Buffer.from(publicKey.replace('whpk_', ''), 'base64');
  const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') }, format: 'jwk' });
  for (const [change, h, b, want] of changes(headers, body)) {
    yield [`node:crypto, ${change}`, want && mismatch, refusal(() => verifyAsymmetric(key, h, b), Error)];
  }
  for (const [name, { Webhook, WebhookVerificationError }] of Object.entries(libraries)) {
    const webhook = new Webhook(raw, { format: 'raw' });
    yield [`${name}, which knows no v1a`, mismatch, refusal(() => webhook.verify(body, headers), WebhookVerificationError)];
  }
}

let input = '';
for await (const chunk of process.stdin.setEncoding('utf8')) input += chunk;
const deliveries = input.split('\n').filter(Boolean).map((line) => JSON.parse(line));
let count = 0;

function run() {
  if (deliveries.length === 0) console.log('WRONG  no deliveries');
  for (const { webhook, secret, publicKey, headers, body } of deliveries) {
    const bytes = Buffer.from(body, 'base64');
    const checks = secret ? checksOfSecret(secret, headers, bytes) : checksOfKey(publicKey, headers, bytes);
    for (const [name, want, got] of checks) {
      const said = got || 'verified';
      if (got !== want) {
        console.log(`WRONG  ${webhook} ${headers['webhook-id']}: ${name}: ${said}, want: ${want || 'verified'}`);
        return false;
      }
      console.log(`ok  ${webhook} ${headers['webhook-id']}: ${name}: ${said}`);
      count++;
    }
  }
  return deliveries.length > 0;
}

if (run()) {
  const { dependencies } = JSON.parse(readFileSync(new URL('package.json', import.meta.url)));
  const by = Object.entries(dependencies).map((dependency) => dependency.join(' ')).join(' and ');
  console.log(`${deliveries.length} deliveries, ${count} checks, ${by}`);
} else {
  process.exitCode = 1;
}
