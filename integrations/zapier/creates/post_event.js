'use strict';

const { send } = require('../api');

// payloadText is the payload as JSON. A text of JSON is kept as it is: numbers that JavaScript cannot hold pass unharmed.
const payloadText = (z, { payload, fields }) => {
  const hasPayload = payload !== undefined && payload !== '';
  const hasFields = fields !== undefined && Object.keys(fields).length > 0;
  if (hasPayload === hasFields) throw new z.errors.Error('Give either Payload or Payload Fields.', 'payload');
  if (hasFields) return JSON.stringify(fields);
  if (typeof payload !== 'string') return JSON.stringify(payload);
  try {
    JSON.parse(payload);
  } catch (error) {
    throw new z.errors.Error(`Payload is not JSON: ${error.message}. A text must be in quotes.`, 'payload');
  }
  return payload;
};

const perform = (z, bundle) => {
  const { type, dedup_id: dedupID } = bundle.inputData;
  const members = [`"type":${JSON.stringify(type)}`, `"payload":${payloadText(z, bundle.inputData)}`];
  if (dedupID) members.push(`"dedup_id":${JSON.stringify(dedupID)}`);
  return send(z, bundle, 'POST', '/events', { body: `{${members.join()}}` });
};

module.exports = {
  key: 'post_event',
  noun: 'Event',
  display: {
    label: 'Post Event',
    description: 'Posts an event, which goes to all webhooks that asked for its type.',
  },
  operation: {
    inputFields: [
      {
        key: 'type',
        label: 'Event Type',
        type: 'string',
        required: true,
        dynamic: 'event_type.id.name',
        helpText: 'Choose one, or give a custom value: `user.created`.',
      },
      {
        key: 'payload',
        label: 'Payload',
        type: 'text',
        helpText: 'JSON, for instance `{"name":"Ada"}`. It is delivered byte for byte. Give this or Payload Fields.',
      },
      {
        key: 'fields',
        label: 'Payload Fields',
        dict: true,
        helpText: 'Names and values, which become a JSON object with texts as values.',
      },
      {
        key: 'dedup_id',
        label: 'Dedup ID',
        type: 'string',
        helpText:
          'Two posts with the same id make one event. Without it, an event can be stored twice if an answer is lost and the step runs again.',
      },
    ],
    perform,
    outputFields: [
      { key: 'id', label: 'Event ID', type: 'string', primary: true },
      { key: 'status', label: 'Status', type: 'string' },
    ],
    sample: { id: '01a201d9-e350-7ff3-8000-2e533c0c7570', status: 'accepted' },
  },
};
