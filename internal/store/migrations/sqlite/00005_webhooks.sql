-- The same as on PostgreSQL; the comments stand there.

-- +goose Up
ALTER TABLE webhooks ADD COLUMN gone_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhooks ADD COLUMN gone_reason TEXT NOT NULL DEFAULT '';

CREATE INDEX webhooks_receiving ON webhooks (organization_id, id) WHERE state IN ('active', 'paused');
CREATE INDEX webhooks_ended ON webhooks (organization_id, id) WHERE state = 'ended';
CREATE INDEX webhooks_gone_at ON webhooks (gone_at) WHERE state = 'ended';

ALTER TABLE webhook_health ADD COLUMN lift_at INTEGER NOT NULL DEFAULT 0;

CREATE INDEX webhook_health_held ON webhook_health (webhook_id) WHERE held_until > 0;
