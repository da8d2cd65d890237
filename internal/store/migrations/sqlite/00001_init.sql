-- The same tables as on PostgreSQL; the comments stand there.

-- +goose Up
CREATE TABLE organizations (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    tier       TEXT    NOT NULL,
    version    INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE api_keys (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id INTEGER NOT NULL REFERENCES organizations (id),
    hash            BLOB    NOT NULL UNIQUE,
    prefix          TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    revoked_at      INTEGER
) STRICT;

CREATE TABLE webhooks (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id INTEGER NOT NULL REFERENCES organizations (id),
    state           TEXT    NOT NULL,
    url             TEXT    NOT NULL,
    filter          TEXT    NOT NULL,
    secret          BLOB    NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_organization ON webhooks (organization_id) WHERE state <> 'gone';

CREATE TABLE webhook_versions (
    webhook_id INTEGER NOT NULL REFERENCES webhooks (id),
    version    INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    config     TEXT    NOT NULL,
    PRIMARY KEY (webhook_id, version)
) STRICT, WITHOUT ROWID;

-- With a rowid, unlike the other three: payloads are large, and rows without
-- rowid keep a part of them in the inner pages of the key.
CREATE TABLE events (
    bucket          INTEGER NOT NULL,
    organization_id INTEGER NOT NULL,
    id              BLOB    NOT NULL,
    type            TEXT    NOT NULL,
    payload         BLOB    NOT NULL,
    dedup_id        TEXT    NOT NULL,
    version         INTEGER NOT NULL,
    PRIMARY KEY (bucket, organization_id, id)
) STRICT;

CREATE TABLE dedup (
    bucket          INTEGER NOT NULL,
    organization_id INTEGER NOT NULL,
    dedup_id        TEXT    NOT NULL,
    event_id        BLOB    NOT NULL,
    payload_hash    BLOB    NOT NULL,
    PRIMARY KEY (bucket, organization_id, dedup_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE deliveries (
    bucket          INTEGER NOT NULL,
    organization_id INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    event_id        BLOB    NOT NULL,
    webhook_id      INTEGER NOT NULL,
    job             INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    due_at          INTEGER NOT NULL,
    claim           BLOB    NOT NULL,
    reason          TEXT    NOT NULL,
    PRIMARY KEY (bucket, organization_id, state, event_id, webhook_id, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (bucket, webhook_id, due_at) WHERE state = 0 AND webhook_id > 0;

CREATE TABLE attempts (
    bucket          INTEGER NOT NULL,
    organization_id INTEGER NOT NULL,
    event_id        BLOB    NOT NULL,
    webhook_id      INTEGER NOT NULL,
    job             INTEGER NOT NULL,
    claim           BLOB    NOT NULL,
    number          INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    took            INTEGER NOT NULL,
    outcome         TEXT    NOT NULL,
    status          INTEGER NOT NULL,
    error           TEXT    NOT NULL,
    response        BLOB    NOT NULL,
    PRIMARY KEY (bucket, organization_id, event_id, webhook_id, job, claim)
) STRICT;

CREATE TABLE nodes (
    id      BLOB    PRIMARY KEY,
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE permits (
    organization_id INTEGER NOT NULL,
    step            INTEGER NOT NULL,
    used            INTEGER NOT NULL,
    PRIMARY KEY (organization_id, step)
) STRICT, WITHOUT ROWID;
