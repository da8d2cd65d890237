-- The same as on PostgreSQL; the comments stand there. Here the table stays
-- empty: the token is a file in the data folder.

-- +goose Up
CREATE TABLE operator_token (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    hash    BLOB    NOT NULL,
    made_at INTEGER NOT NULL
) STRICT;
