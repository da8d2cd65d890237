-- Times are microseconds of Unix time, UTC. Ids of events are UUIDv7: their
-- time is the event's. bucket = hash(organization_id), 0..255, is the first
-- column of every key on events, dedup, deliveries and attempts, which have
-- no foreign keys, so that these four can be distributed by it.

-- +goose Up
CREATE TABLE organizations (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text   NOT NULL,
    tier       text   NOT NULL,
    version    bigint NOT NULL DEFAULT 0, -- bumped by every change of its webhooks
    created_at bigint NOT NULL
);

CREATE TABLE api_keys (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id bigint NOT NULL REFERENCES organizations (id),
    hash            bytea  NOT NULL UNIQUE, -- SHA-256 of the key
    prefix          text   NOT NULL,
    created_at      bigint NOT NULL,
    revoked_at      bigint
);

CREATE TABLE webhooks (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id bigint NOT NULL REFERENCES organizations (id),
    state           text   NOT NULL, -- active, paused, gone (a tombstone)
    url             text   NOT NULL,
    filter          text   NOT NULL,
    secret          bytea  NOT NULL,
    created_at      bigint NOT NULL
);
CREATE INDEX webhooks_organization ON webhooks (organization_id) WHERE state <> 'gone';

-- Append-only: what each webhook was from which version of its organization on.
CREATE TABLE webhook_versions (
    webhook_id bigint NOT NULL REFERENCES webhooks (id),
    version    bigint NOT NULL,
    at         bigint NOT NULL,
    config     text   NOT NULL, -- JSON: state, url, filter
    PRIMARY KEY (webhook_id, version)
);

-- Append-only, a partition a day. There is no default partition on purpose.
CREATE TABLE events (
    bucket          smallint NOT NULL,
    organization_id bigint   NOT NULL,
    id              uuid     NOT NULL,
    type            text     NOT NULL,
    payload         text     NOT NULL,
    dedup_id        text     NOT NULL, -- '': none
    version         bigint   NOT NULL, -- of the organization's webhooks, when it was matched
    PRIMARY KEY (bucket, organization_id, id)
) PARTITION BY RANGE (id);

-- The truth about duplicates; outlives the events.
CREATE TABLE dedup (
    bucket          smallint NOT NULL,
    organization_id bigint   NOT NULL,
    dedup_id        text     COLLATE "C" NOT NULL,
    event_id        uuid     NOT NULL,
    payload_hash    bytea    NOT NULL,
    PRIMARY KEY (bucket, organization_id, dedup_id)
);

-- What is not yet done, and what failed. The state stands in the key, before
-- the event, so that pending and failed events are ranges of it.
CREATE TABLE deliveries (
    bucket          smallint NOT NULL,
    organization_id bigint   NOT NULL,
    state           smallint NOT NULL, -- 0 open, 1 failed
    event_id        uuid     NOT NULL,
    webhook_id      bigint   NOT NULL, -- 0: the inbox
    job             bigint   NOT NULL, -- 0: owed at acceptance
    attempts        integer  NOT NULL,
    due_at          bigint   NOT NULL, -- while claimed: the end of the lease
    claim           uuid     NOT NULL, -- zero: nobody's
    reason          text     NOT NULL, -- why it failed
    PRIMARY KEY (bucket, organization_id, state, event_id, webhook_id, job)
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX deliveries_due ON deliveries (bucket, webhook_id, due_at) WHERE state = 0 AND webhook_id > 0;

-- Append-only, a partition a day of the event's id. One claim makes one attempt.
CREATE TABLE attempts (
    bucket          smallint NOT NULL,
    organization_id bigint   NOT NULL,
    event_id        uuid     NOT NULL,
    webhook_id      bigint   NOT NULL,
    job             bigint   NOT NULL,
    claim           uuid     NOT NULL,
    number          integer  NOT NULL,
    at              bigint   NOT NULL,
    took            bigint   NOT NULL, -- microseconds
    outcome         text     NOT NULL,
    status          integer  NOT NULL, -- HTTP status, 0: no answer
    error           text     NOT NULL,
    response        bytea    NOT NULL,
    PRIMARY KEY (bucket, organization_id, event_id, webhook_id, job, claim)
) PARTITION BY RANGE (event_id);

-- Who is there. Nothing correct depends on it.
CREATE TABLE nodes (
    id      uuid   PRIMARY KEY,
    seen_at bigint NOT NULL
);

-- What organizations have used of their rate limits, while there are several
-- nodes: blocks of permits, by the second in which they were taken.
CREATE TABLE permits (
    organization_id bigint NOT NULL,
    step            bigint NOT NULL, -- seconds of Unix time
    used            bigint NOT NULL,
    PRIMARY KEY (organization_id, step)
);
