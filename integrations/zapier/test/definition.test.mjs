// The definition of the app, judged by Zapier's schema and by those of its checks before publishing that need no account.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { App, schema, zapier } from './zapier.mjs';

const operations = [...Object.values(App.triggers), ...Object.values(App.searches), ...Object.values(App.creates)];

// definitionOf is what a push would send to Zapier: the app with a placeholder for each function.
const definitionOf = async (app) => (await zapier.createAppHandler(app)({ command: 'definition' })).results;

test('the definition is valid', async () => {
  const { errors } = schema.validateAppDefinition(await definitionOf(App));
  assert.deepEqual(errors.map(String), []);
  assert.deepEqual((await zapier.createAppHandler(App)({ command: 'validate' })).results, []);
});

test('a wrong definition is not', async () => {
  const wrong = { ...App, triggers: { new_event: { ...App.triggers.new_event, noun: 1 } } };
  const { errors } = schema.validateAppDefinition(await definitionOf(wrong));
  assert.match(errors.join(), /new_event\.noun/);
});

test('dropdowns are filled by triggers that are there', () => {
  const dynamic = operations.flatMap(({ operation }) => operation.inputFields ?? []).filter((field) => field.dynamic);
  assert.equal(dynamic.length, 3);
  for (const field of dynamic) {
    const [key, value, label] = field.dynamic.split('.');
    const sample = App.triggers[key].operation.sample;
    assert.ok(value in sample && label in sample, field.dynamic);
  }
});

test('texts are as Zapier wants them', () => {
  for (const { key, display } of Object.values(App.triggers)) assert.match(display.description, /^Triggers when .*\.$/, key);
  for (const { display } of operations) assert.match(display.label, /^[A-Z]\w*( \(?[A-Z]\w*\)?)*$/);
  const texts = operations.flatMap(({ operation, display }) => [
    display.description, ...(operation.inputFields ?? []).map((field) => field.helpText),
  ]);
  for (const text of texts) assert.doesNotMatch(text, /https?:/, 'links have to be Markdown');
});

test('samples have all output fields', () => {
  for (const { key, operation } of operations) {
    for (const field of operation.outputFields) assert.ok(field.key in operation.sample, `${key}: ${field.key}`);
  }
});

test('both triggers give the same', () => {
  const { new_event: hook, new_event_polling: polling } = App.triggers;
  assert.deepEqual(hook.operation.outputFields, polling.operation.outputFields);
  assert.deepEqual(hook.operation.sample, polling.operation.sample);
});
