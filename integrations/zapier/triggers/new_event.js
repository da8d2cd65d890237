'use strict';

const { send } = require('../api');
const { outputFields, sample, samples, typeField } = require('../event');
const { version } = require('../package.json');
const { isSigned } = require('../signature');

// Zapier takes 30 requests a second for one hook, and then answers 429.
const rate = 30;

// What is returned here is subscribeData in what follows. The secret is shown this once.
const performSubscribe = async (z, bundle) => {
  const { type } = bundle.inputData;
  const { id, secret } = await send(z, bundle, 'POST', '/webhooks', {
    body: {
      url: bundle.targetUrl,
      ...(type ? { types: [type] } : {}),
      format: 'standard',
      rate,
      description: 'Zapier',
      metadata: { client: 'zapier', version },
    },
  });
  return { id, secret };
};

// A webhook that was deleted already is what is wanted.
const performUnsubscribe = async (z, bundle) => {
  await send(z, bundle, 'DELETE', `/webhooks/${bundle.subscribeData.id}`, { missing: 404 });
  return {};
};

// perform gets a delivery. It is halted, which never turns off the Zap, if its signature is wrong.
const perform = (z, bundle) => {
  const secret = bundle.subscribeData?.secret;
  const raw = bundle.rawRequest;
  let event = bundle.cleanedRequest;
  if (secret && raw?.headers && typeof raw.content === 'string') {
    if (!isSigned(secret, raw)) throw new z.errors.HaltedError('The request does not have the signature of triggerd.');
    event = z.JSON.parse(raw.content);
  }
  const { id, type, timestamp, data } = event;
  return [{ id, type, timestamp, data }];
};

module.exports = {
  key: 'new_event',
  noun: 'Event',
  display: {
    label: 'New Event',
    description: 'Triggers when an event is accepted, at once.',
  },
  operation: {
    type: 'hook',
    inputFields: [typeField],
    performSubscribe,
    performUnsubscribe,
    perform,
    performList: (z, bundle) => samples(z, bundle),
    outputFields,
    sample,
  },
};
