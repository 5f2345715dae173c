-- A table of one row for what is true of the whole catalogue.
CREATE TABLE catalogue (
	one     BIGINT PRIMARY KEY CHECK (one = 1),
	id      TEXT NOT NULL,
	serial  BIGINT NOT NULL,
	changed BIGINT NOT NULL
);

-- Projects, sites and mirrors, in JSON as the API has them.
CREATE TABLE items (
	items TEXT NOT NULL,
	name  TEXT NOT NULL,
	body  TEXT NOT NULL,
	PRIMARY KEY (items, name)
);

-- What was changed when by whom, and how each item was before and after.
CREATE TABLE changes (
	serial  BIGINT PRIMARY KEY,
	created BIGINT NOT NULL,
	actor   TEXT NOT NULL,
	note    TEXT NOT NULL
);

CREATE TABLE change_items (
	items  TEXT NOT NULL,
	name   TEXT NOT NULL,
	serial BIGINT NOT NULL REFERENCES changes (serial),
	before TEXT,
	after  TEXT,
	PRIMARY KEY (items, name, serial)
);

CREATE INDEX change_items_serial ON change_items (serial);
