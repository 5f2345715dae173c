-- What is desired of each mirror, version by version, as it was signed.
CREATE TABLE desired (
	mirror    TEXT NOT NULL,
	version   BIGINT NOT NULL,
	made      BIGINT NOT NULL,
	actor     TEXT NOT NULL,
	note      TEXT NOT NULL,
	text      TEXT NOT NULL,
	signature TEXT NOT NULL,
	PRIMARY KEY (mirror, version)
);

-- What each mirror makes of it, as it says itself.
CREATE TABLE desired_applied (
	mirror  TEXT PRIMARY KEY,
	version BIGINT NOT NULL,
	refused BIGINT NOT NULL,
	why     TEXT NOT NULL,
	heard   BIGINT NOT NULL
);

-- The newest claim of each mirror. Redeemed is the hash of the token of the box that has
-- shown it, empty before.
CREATE TABLE claims (
	mirror   TEXT PRIMARY KEY,
	secret   TEXT NOT NULL,
	made     BIGINT NOT NULL,
	expires  BIGINT NOT NULL,
	actor    TEXT NOT NULL,
	redeemed TEXT NOT NULL
);
