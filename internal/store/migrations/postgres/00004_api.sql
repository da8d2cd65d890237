-- What /v1 can be told: settings of organizations and keys, types of events,
-- what few events have besides, and requests that are not to be repeated.
-- Older programs go on beside newer ones until something is stored that they
-- would do wrong: then compatibility is set to 4.

-- +goose Up
ALTER TABLE organizations
    ADD COLUMN settings      text   NOT NULL DEFAULT '', -- JSON: rate_limit, inbox, deduplication; '': none
    ADD COLUMN suspended_at  bigint NOT NULL DEFAULT 0,  -- 0: it is not
    ADD COLUMN deleted_at    bigint NOT NULL DEFAULT 0,  -- 0: it is not; else all that it has is being erased
    ADD COLUMN types_version bigint NOT NULL DEFAULT 0;  -- bumped by every change of its event types
CREATE INDEX organizations_deleted ON organizations (deleted_at) WHERE deleted_at > 0;

ALTER TABLE api_keys
    ADD COLUMN name         text     NOT NULL DEFAULT '',
    ADD COLUMN scopes       smallint NOT NULL DEFAULT 7,  -- 1 ingest, 2 read, 4 manage
    ADD COLUMN networks     text     NOT NULL DEFAULT '', -- CIDRs with commas between; '': any
    ADD COLUMN expires_at   bigint   NOT NULL DEFAULT 0,  -- 0: never
    ADD COLUMN last_used_at bigint   NOT NULL DEFAULT 0;  -- to the minute; 0: never
CREATE INDEX api_keys_organization ON api_keys (organization_id, id);

CREATE TABLE event_types (
    organization_id bigint NOT NULL REFERENCES organizations (id),
    name            text   COLLATE "C" NOT NULL,
    mode            text   NOT NULL, -- off, warn, reject
    schema          text   NOT NULL, -- JSON Schema; '': none
    description     text   NOT NULL,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL,
    PRIMARY KEY (organization_id, name)
);

-- JSON: deliver_at, traceparent, what a CloudEvent has besides; '': nothing, as nearly always.
ALTER TABLE events ADD COLUMN extra text NOT NULL DEFAULT '';

-- What the inbox is owed, in the order in which it comes due, and in that of its events.
CREATE INDEX deliveries_inbox ON deliveries (bucket, organization_id, due_at) WHERE state = 0 AND webhook_id = 0;
CREATE INDEX deliveries_inbox_events ON deliveries (bucket, organization_id, event_id) WHERE state = 0 AND webhook_id = 0;

-- Requests that have made something, by their Idempotency-Key, for a day.
CREATE TABLE idempotency (
    organization_id bigint NOT NULL, -- 0: the operator's
    key             text   COLLATE "C" NOT NULL,
    fingerprint     bytea  NOT NULL, -- of the request
    made            bigint NOT NULL, -- the id of what it made
    at              bigint NOT NULL,
    PRIMARY KEY (organization_id, key)
);
CREATE INDEX idempotency_at ON idempotency (at);
