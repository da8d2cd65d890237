-- The same as on PostgreSQL; the comments stand there.

-- +goose Up
ALTER TABLE webhooks ADD COLUMN config TEXT NOT NULL DEFAULT '';
ALTER TABLE webhooks ADD COLUMN sealed BLOB NOT NULL DEFAULT x'';
ALTER TABLE webhooks ADD COLUMN paused_by TEXT NOT NULL DEFAULT '';

CREATE TABLE webhook_health (
    webhook_id      INTEGER PRIMARY KEY,
    organization_id INTEGER NOT NULL,
    since           INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    stage           INTEGER NOT NULL,
    held_until      INTEGER NOT NULL,
    holds           INTEGER NOT NULL
) STRICT;

ALTER TABLE attempts ADD COLUMN dns INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN connect INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN tls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN first_byte INTEGER NOT NULL DEFAULT 0;

CREATE TABLE replays (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id INTEGER NOT NULL REFERENCES organizations (id),
    webhook_id      INTEGER NOT NULL REFERENCES webhooks (id),
    state           TEXT    NOT NULL,
    since           INTEGER NOT NULL,
    until           INTEGER NOT NULL,
    types           TEXT    NOT NULL,
    status          TEXT    NOT NULL,
    pace            REAL    NOT NULL,
    cursor          BLOB    NOT NULL,
    queued          INTEGER NOT NULL,
    delivered       INTEGER NOT NULL,
    failed          INTEGER NOT NULL,
    created_at      INTEGER NOT NULL
) STRICT;
CREATE INDEX replays_organization ON replays (organization_id, id);
CREATE INDEX replays_running ON replays (id) WHERE state IN ('running', 'cancelling');

CREATE INDEX deliveries_replayed ON deliveries (bucket, job, due_at) WHERE state = 3;
