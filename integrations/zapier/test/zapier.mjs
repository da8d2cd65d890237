// The app as Zapier runs it, and what Zapier makes of a request to a hook.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

// Only then are the checks of zapier-platform-core errors. It reads this when it is loaded.
process.env.NODE_ENV = 'test';

const require = createRequire(import.meta.url);
export const zapier = require('zapier-platform-core');
export const schema = require('zapier-platform-schema');
export const App = require('../index.js');
export const run = zapier.createAppTester(App);

// asZapier writes a request as Zapier gives it to perform: https://docs.zapier.com/platform/build-cli/core#bundle-rawrequest
export const asZapier = ({ method, headers, content }) => {
  const names = Object.keys(headers).map((name) => {
    const written = name.toLowerCase().replace(/(^|-)[a-z]/g, (letter) => letter.toUpperCase());
    return [/^content-(type|length)$/i.test(name) ? written : `Http-${written}`, headers[name]];
  });
  return {
    rawRequest: { method, querystring: '', headers: Object.fromEntries(names), content },
    cleanedRequest: JSON.parse(content),
  };
};

// refused wants an error of a kind, and gives what it carries: most errors of Zapier are JSON in their message.
export const refused = async (promise, kind) => {
  const error = await promise.then(
    (value) => assert.fail(`want a ${kind}, got ${JSON.stringify(value)}`),
    (reason) => reason,
  );
  assert.equal(error.name, kind, `${error.name}: ${error.message}`);
  try {
    return JSON.parse(error.message);
  } catch {
    return { message: error.message };
  }
};
