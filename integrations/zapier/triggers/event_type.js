'use strict';

const { list } = require('../api');

// Nobody sees this trigger: it fills the dropdowns of event types.
const perform = async (z, bundle) => {
  const types = await list(z, bundle, '/event-types', { limit: 100 });
  return types.map(({ name, description }) => ({ id: name, name, description }));
};

module.exports = {
  key: 'event_type',
  noun: 'Event Type',
  display: {
    label: 'List Event Types',
    description: 'Triggers when the dropdown of event types is filled.',
    hidden: true,
  },
  operation: {
    type: 'polling',
    perform,
    sample: { id: 'user.created', name: 'user.created', description: 'A user has signed up' },
    outputFields: [
      { key: 'id', label: 'ID', type: 'string', primary: true },
      { key: 'name', label: 'Name', type: 'string' },
      { key: 'description', label: 'Description', type: 'string' },
    ],
  },
};
