'use strict';

// What the triggers share: both give the same members, which are those of a delivery.

const { send } = require('./api');

// examples are those of registered event types, where nothing is stored: good to set up a Zap with, and no events.
const samples = (z, bundle, limit, examples) =>
  send(z, bundle, 'GET', '/samples', { query: { type: bundle.inputData.type || undefined, limit, examples } });

const typeField = {
  key: 'type',
  label: 'Event Type',
  type: 'string',
  dynamic: 'event_type.id.name',
  helpText:
    'Choose one, or give a custom value. A `*` stands for any run of characters: `user.*`. Leave it empty for all events.',
};

const outputFields = [
  { key: 'id', label: 'Event ID', type: 'string', primary: true },
  { key: 'type', label: 'Event Type', type: 'string' },
  { key: 'timestamp', label: 'Accepted At', type: 'datetime' },
  { key: 'data', label: 'Data' },
];

const sample = {
  id: '01a201d9-e350-7ff3-8000-2e533c0c7570',
  type: 'user.created',
  timestamp: '2026-11-22T06:03:06.448Z',
  data: { name: 'Ada' },
};

module.exports = { samples, typeField, outputFields, sample };
