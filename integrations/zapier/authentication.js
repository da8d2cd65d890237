'use strict';

const { send } = require('./api');

module.exports = {
  type: 'custom',
  fields: [
    {
      key: 'base_url',
      label: 'Server URL',
      type: 'string',
      required: true,
      default: 'https://triggerd.example.com',
      helpText: 'Where your triggerd is reached from the internet, without the path of its API.',
      isNoSecret: true,
    },
    {
      key: 'api_key',
      label: 'API Key',
      type: 'password',
      required: true,
      helpText: 'A key of your organization, with the scopes `ingest`, `read` and `manage`. It begins with `sk_`.',
    },
  ],
  test: (z, bundle) => send(z, bundle, 'GET', '/me'),
  // inputData is what the test has returned.
  connectionLabel: (z, bundle) => bundle.inputData.organization.name,
};
