'use strict';

const { version: platformVersion } = require('zapier-platform-core');

const authentication = require('./authentication');
const postEvent = require('./creates/post_event');
const { version } = require('./package.json');
const findEvent = require('./searches/find_event');
const eventType = require('./triggers/event_type');
const newEvent = require('./triggers/new_event');
const newEventPolling = require('./triggers/new_event_polling');

const byKey = (...operations) => Object.fromEntries(operations.map((operation) => [operation.key, operation]));

module.exports = {
  version,
  platformVersion,
  authentication,
  triggers: byKey(newEvent, newEventPolling, eventType),
  searches: byKey(findEvent),
  creates: byKey(postEvent),
};
