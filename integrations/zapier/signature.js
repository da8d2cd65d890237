'use strict';

// Signatures of deliveries, as Standard Webhooks describes them.

const { createHmac, timingSafeEqual } = require('node:crypto');

// header finds a header by its name in lower case. Zapier writes webhook-id as Http-Webhook-Id.
const header = (headers, name) =>
  Object.entries(headers).find(([key]) => key.toLowerCase().replace(/^http-/, '') === name)?.[1] ?? '';

// isSigned says whether one of a request's signatures is by the secret. The time of the signature is not looked at: Zapier
// can hold a delivery back for long before it runs the Zap.
const isSigned = (secret, { headers, content }) => {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  const [id, at] = [header(headers, 'webhook-id'), header(headers, 'webhook-timestamp')];
  // With a dot in the id, or more than digits in the time, one signature would be good for several bodies.
  if (!/^[^.]+$/.test(id) || !/^\d+$/.test(at)) return false;
  const message = `${id}.${at}.${content}`;
  const want = createHmac('sha256', key).update(message).digest();
  return header(headers, 'webhook-signature').split(' ').some((signature) => {
    const [version, text = ''] = signature.split(',');
    const got = Buffer.from(text, 'base64');
    return version === 'v1' && got.length === want.length && timingSafeEqual(got, want);
  });
};

module.exports = { isSigned };
