-- The operator's token, where no setting has one: its hash, never the token.
-- Older programs go on beside newer ones: they do not know it.

-- +goose Up
CREATE TABLE operator_token (
    id      smallint PRIMARY KEY CHECK (id = 1), -- there is one row at most
    hash    bytea    NOT NULL,                   -- SHA-256 of the token
    made_at bigint   NOT NULL
);
