-- The same table as on PostgreSQL; the comments stand there.

-- +goose Up
CREATE TABLE compatibility (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    least INTEGER NOT NULL
) STRICT;
INSERT INTO compatibility (id, least) VALUES (1, 1);
