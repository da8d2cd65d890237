-- The same as on PostgreSQL; the comments stand there.

-- +goose Up
ALTER TABLE organizations ADD COLUMN settings TEXT NOT NULL DEFAULT '';
ALTER TABLE organizations ADD COLUMN suspended_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE organizations ADD COLUMN deleted_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE organizations ADD COLUMN types_version INTEGER NOT NULL DEFAULT 0;
CREATE INDEX organizations_deleted ON organizations (deleted_at) WHERE deleted_at > 0;

ALTER TABLE api_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN scopes INTEGER NOT NULL DEFAULT 7;
ALTER TABLE api_keys ADD COLUMN networks TEXT NOT NULL DEFAULT '';
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE api_keys ADD COLUMN last_used_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX api_keys_organization ON api_keys (organization_id, id);

CREATE TABLE event_types (
    organization_id INTEGER NOT NULL REFERENCES organizations (id),
    name            TEXT    NOT NULL,
    mode            TEXT    NOT NULL,
    schema          TEXT    NOT NULL,
    description     TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (organization_id, name)
) STRICT;

ALTER TABLE events ADD COLUMN extra TEXT NOT NULL DEFAULT '';

CREATE INDEX deliveries_inbox ON deliveries (bucket, organization_id, due_at) WHERE state = 0 AND webhook_id = 0;
CREATE INDEX deliveries_inbox_events ON deliveries (bucket, organization_id, event_id) WHERE state = 0 AND webhook_id = 0;

CREATE TABLE idempotency (
    organization_id INTEGER NOT NULL,
    key             TEXT    NOT NULL,
    fingerprint     BLOB    NOT NULL,
    made            INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    PRIMARY KEY (organization_id, key)
) STRICT;
CREATE INDEX idempotency_at ON idempotency (at);
