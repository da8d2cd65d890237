-- What webhooks can be told, how they fare, where the time of attempts goes,
-- and replays. Older programs go on beside newer ones until the first webhook
-- is stored that they cannot serve, or a secret is sealed: then compatibility
-- is set to 3.

-- +goose Up
ALTER TABLE webhooks
    ADD COLUMN config    text  NOT NULL DEFAULT '', -- JSON: what its owner has set; '': url and filter are all
    ADD COLUMN sealed    bytea NOT NULL DEFAULT '', -- JSON, encrypted with SECRET_KEY: secrets, headers, authentication; '': secret is all
    ADD COLUMN paused_by text  NOT NULL DEFAULT '';

-- Webhooks whose last attempt failed; the others have no row.
CREATE TABLE webhook_health (
    webhook_id      bigint   PRIMARY KEY,
    organization_id bigint   NOT NULL,
    since           bigint   NOT NULL, -- the first failure after the last success
    last_at         bigint   NOT NULL, -- the latest failure
    failures        bigint   NOT NULL, -- since then
    stage           smallint NOT NULL, -- 0 noted, 1 warned, 2 paused, 3 recovered
    held_until      bigint   NOT NULL, -- the breaker is open until then; 0: closed
    holds           integer  NOT NULL  -- how often in a row it has opened
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

ALTER TABLE attempts
    ADD COLUMN dns        bigint NOT NULL DEFAULT 0, -- microseconds from the beginning, as the next three
    ADD COLUMN connect    bigint NOT NULL DEFAULT 0,
    ADD COLUMN tls        bigint NOT NULL DEFAULT 0,
    ADD COLUMN first_byte bigint NOT NULL DEFAULT 0;

CREATE TABLE replays (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id bigint NOT NULL REFERENCES organizations (id),
    webhook_id      bigint NOT NULL REFERENCES webhooks (id),
    state           text   NOT NULL, -- running, paused, done, cancelling, cancelled
    since           bigint NOT NULL,
    until           bigint NOT NULL,
    types           text   NOT NULL, -- JSON list of patterns
    status          text   NOT NULL, -- failed, delivered, '': all
    pace            double precision NOT NULL, -- deliveries a second; 0: no limit
    cursor          uuid   NOT NULL, -- of the last event that was looked at
    queued          bigint NOT NULL,
    delivered       bigint NOT NULL,
    failed          bigint NOT NULL,
    created_at      bigint NOT NULL
);
CREATE INDEX replays_organization ON replays (organization_id, id);
CREATE INDEX replays_running ON replays (id) WHERE state IN ('running', 'cancelling');

-- The open deliveries of replays have state 3, so that they stand in nobody's
-- way. deliveries is small next to its history; this takes a moment.
CREATE INDEX deliveries_replayed ON deliveries (bucket, job, due_at) WHERE state = 3;
