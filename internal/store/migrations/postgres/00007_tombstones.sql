-- What a deleted webhook keeps: its id, when it was deleted, and the filters
-- that it had (in webhook_versions). The URL, the settings and the secrets go
-- with the deletion, and gone_at is then when that was; a webhook that an older
-- program has deleted has gone_at 0 until the sweeper has cleared it. Older
-- programs go on beside newer ones: they read a cleared webhook as one without
-- settings, and send nothing to it.

-- +goose Up
ALTER TABLE webhooks
    ADD COLUMN secrets_until bigint NOT NULL DEFAULT 1; -- when the first of its secrets ends; 0: none does; 1: not known. An older program leaves it: its version says that it is not known

-- Versions hold state and filter. Those of older programs also hold the URL.
ALTER TABLE webhook_versions
    ADD COLUMN has_url smallint NOT NULL DEFAULT 1; -- 0: the URL is not in config

CREATE INDEX webhook_versions_url ON webhook_versions (webhook_id, version) WHERE has_url = 1;
CREATE INDEX webhooks_secrets_until ON webhooks (id) WHERE secrets_until > 0;
CREATE INDEX webhooks_uncleared ON webhooks (id) WHERE state = 'gone' AND gone_at = 0;
CREATE INDEX webhooks_deleted ON webhooks (organization_id, gone_at, id) WHERE state = 'gone';
CREATE INDEX replays_webhook ON replays (webhook_id); -- a webhook goes after its replays
CREATE INDEX replays_paused ON replays (webhook_id) WHERE state = 'paused';
