'use strict';

const { outputFields, sample, samples, typeField } = require('../event');

module.exports = {
  key: 'new_event_polling',
  noun: 'Event',
  display: {
    label: 'New Event (Polling)',
    description: 'Triggers when an event was accepted since the last look, of which it finds the newest 100.',
  },
  operation: {
    type: 'polling',
    inputFields: [typeField],
    perform: (z, bundle) => samples(z, bundle, 100, bundle.meta?.isLoadingSample ?? false),
    outputFields,
    sample,
  },
};
