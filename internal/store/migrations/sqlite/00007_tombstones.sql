-- The same as on PostgreSQL; the comments stand there.

-- +goose Up
ALTER TABLE webhooks ADD COLUMN secrets_until INTEGER NOT NULL DEFAULT 1;
ALTER TABLE webhook_versions ADD COLUMN has_url INTEGER NOT NULL DEFAULT 1;

CREATE INDEX webhook_versions_url ON webhook_versions (webhook_id, version) WHERE has_url = 1;
CREATE INDEX webhooks_secrets_until ON webhooks (id) WHERE secrets_until > 0;
CREATE INDEX webhooks_uncleared ON webhooks (id) WHERE state = 'gone' AND gone_at = 0;
CREATE INDEX webhooks_deleted ON webhooks (organization_id, gone_at, id) WHERE state = 'gone';
CREATE INDEX replays_webhook ON replays (webhook_id);
CREATE INDEX replays_paused ON replays (webhook_id) WHERE state = 'paused';
