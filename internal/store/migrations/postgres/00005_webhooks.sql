-- Webhooks whose receiver answered 410: the stored state 'ended'. The state
-- 'gone' still means deleted. Older programs go on beside newer ones until the
-- first webhook ends, because they would send events to it: then compatibility
-- is set to 5.

-- +goose Up
ALTER TABLE webhooks
    ADD COLUMN gone_at     bigint NOT NULL DEFAULT 0,  -- when its receiver answered 410; 0: it did not
    ADD COLUMN gone_reason text   NOT NULL DEFAULT '';

-- An organization has few webhooks that receive events and up to 1,000 that ended.
CREATE INDEX webhooks_receiving ON webhooks (organization_id, id) WHERE state IN ('active', 'paused');
CREATE INDEX webhooks_ended ON webhooks (organization_id, id) WHERE state = 'ended';
CREATE INDEX webhooks_gone_at ON webhooks (gone_at) WHERE state = 'ended';

-- A breaker that the receiver has asked for outlasts successes of attempts that
-- began before; older programs close it by any success.
ALTER TABLE webhook_health ADD COLUMN lift_at bigint NOT NULL DEFAULT 0; -- a success closes the breaker if its attempt began then or later

-- Each server reads all open breakers twice a second.
CREATE INDEX webhook_health_held ON webhook_health (webhook_id) WHERE held_until > 0;
