-- When a breaker may be lifted. Older programs lift one that the receiver has
-- asked for by any success.

-- +goose Up
ALTER TABLE webhook_health ADD COLUMN lift_at integer NOT NULL DEFAULT 0; -- a success lifts the breaker if its attempt began then or later
