-- Which programs may open this database: those that know at least the schema
-- (the number of a migration) that the one row names. A migration that only
-- expands leaves it as it is, so that older programs go on beside newer ones.
-- One that contracts, which takes away or changes what an older program uses,
-- ends with UPDATE compatibility SET least = the first schema whose programs
-- can do without. This table itself never changes.

-- +goose Up
CREATE TABLE compatibility (
    id    smallint PRIMARY KEY CHECK (id = 1), -- there is one row
    least bigint   NOT NULL
);
INSERT INTO compatibility (id, least) VALUES (1, 1);
