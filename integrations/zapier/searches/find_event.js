'use strict';

const { list } = require('../api');

module.exports = {
  key: 'find_event',
  noun: 'Event',
  display: {
    label: 'Find Event',
    description: 'Finds the event that was posted with a dedup id.',
  },
  operation: {
    inputFields: [
      {
        key: 'dedup_id',
        label: 'Dedup ID',
        type: 'string',
        required: true,
        helpText: 'It is compared byte by byte, upper and lower case apart.',
      },
    ],
    perform: (z, bundle) => list(z, bundle, '/events', { dedup_id: bundle.inputData.dedup_id }, 1),
    outputFields: [
      { key: 'id', label: 'Event ID', type: 'string', primary: true },
      { key: 'type', label: 'Event Type', type: 'string' },
      { key: 'payload', label: 'Payload' },
      { key: 'dedup_id', label: 'Dedup ID', type: 'string' },
      { key: 'status', label: 'Status', type: 'string' },
      { key: 'created_at', label: 'Accepted At', type: 'datetime' },
    ],
    sample: {
      id: '01a201d9-e350-7ff3-8000-2e533c0c7570',
      type: 'user.created',
      payload: { name: 'Ada' },
      dedup_id: 'user-1',
      status: 'delivered',
      created_at: '2026-11-22T06:03:06.448Z',
    },
  },
};
