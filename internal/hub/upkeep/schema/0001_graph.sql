-- What needs what in one repository. Objects are named by a byte with their type
-- and the 32 bytes of their checksum.

-- How many of the known commits and dirtrees name an object; at least one.
CREATE TABLE nodes (name BYTEA NOT NULL PRIMARY KEY, refs BIGINT NOT NULL) WITHOUT ROWID;
CREATE INDEX nodes_free ON nodes (name) WHERE refs <= 0;

-- The commits whose edges are counted. ref is one that has or had it; superseded is
-- since when it is no head, 0 for heads.
CREATE TABLE commits (
	sum        BYTEA NOT NULL PRIMARY KEY,
	ref        TEXT NOT NULL,
	parent     BYTEA NOT NULL,
	tree       BYTEA NOT NULL,
	meta       BYTEA NOT NULL,
	superseded BIGINT NOT NULL
) WITHOUT ROWID;

-- Dirtrees that could not be read: what they need is not counted.
CREATE TABLE holes (name BYTEA NOT NULL PRIMARY KEY) WITHOUT ROWID;

-- Objects that nothing needs, since when.
CREATE TABLE doomed (name BYTEA NOT NULL PRIMARY KEY, since BIGINT NOT NULL) WITHOUT ROWID;

-- Since when all objects of the repository are in nodes, commits or doomed; no row
-- when never.
CREATE TABLE scans (at BIGINT NOT NULL);
