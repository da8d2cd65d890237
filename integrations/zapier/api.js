'use strict';

// The way to the server's API. All requests of the app go through send, which also turns what is not a success into the
// error that tells Zapier, and its user, what to do.

const baseURL = (z, { base_url: text = '' }) => {
  let url;
  try {
    url = new URL(text);
  } catch {
    // judged below
  }
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:') {
    throw new z.errors.Error(`The URL of the server must be like https://triggerd.example.com, not "${text}".`, 'base_url');
  }
  return text.replace(/\/+$/, '');
};

// send returns the answer's JSON, and undefined for a 204. The query leaves out what is undefined. A text as body is sent
// as it is, all else as JSON. The status in missing counts as success.
const send = async (z, bundle, method, path, { query = {}, body, missing } = {}) => {
  const given = Object.entries(query).filter(([, value]) => value !== undefined);
  const response = await z.request({
    method,
    url: `${baseURL(z, bundle.authData)}/v1${path}${given.length ? `?${new URLSearchParams(given)}` : ''}`,
    headers: {
      accept: 'application/json',
      authorization: `Bearer ${bundle.authData.api_key}`,
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    body: typeof body === 'object' ? JSON.stringify(body) : body,
    // A redirect that is followed can make a GET of a POST, and an answer to that would look like a success.
    redirect: 'manual',
    // Curly braces in what people send are theirs.
    merge: false,
    // What is wrong is said below.
    skipThrowForStatus: true,
    throwForThrottlingEarly: false,
  });
  if (response.status === 204 || response.status === missing) return undefined;
  if (response.status >= 200 && response.status < 300 && response.data !== undefined) return response.data;
  throw failure(z, response);
};

// failure is the error for an answer that is not a success.
//
// ExpiredAuthError is the one for custom authentication: it stops the Zap and asks its owner to connect again.
// RefreshAuthError would ask for a new key where there is no way to get one. ThrottledError makes Zapier try again after
// so many seconds.
const failure = (z, { status, data, getHeader }) => {
  const text = explain(status, data, getHeader('location'));
  if (status === 401) return new z.errors.ExpiredAuthError(text);
  if (status === 408 || status === 429 || status === 503) {
    const seconds = Number.parseInt(getHeader('retry-after'), 10);
    return new z.errors.ThrottledError(text, Number.isNaN(seconds) ? 60 : seconds);
  }
  return new z.errors.Error(text, data?.code, status);
};

// explain makes one readable text of a problem (RFC 9457), or of what came in its place.
const explain = (status, problem, location) => {
  if (location) return `The server redirects to ${location}: connect with the URL that it is reached at.`;
  if (typeof problem?.title !== 'string') return `The server answered with status ${status}, and not as triggerd does.`;
  const errors = (problem.errors ?? []).map(({ detail, pointer, parameter }) => {
    const place = pointer ?? parameter;
    return place ? `${place}: ${detail}` : detail;
  });
  return [problem.title, problem.detail, errors.join('; ')].filter(Boolean).join(' – ');
};

// list goes through the pages of a list until there are no more of them, or enough is found. A page can be empty and not
// be the last.
const list = async (z, bundle, path, query, enough = Infinity) => {
  const found = [];
  let cursor;
  do {
    const page = await send(z, bundle, 'GET', path, { query: { ...query, cursor } });
    found.push(...page.data);
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined && found.length < enough);
  return found;
};

module.exports = { send, list };
