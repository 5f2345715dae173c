-- What was published when, and what may not be published now.

-- Who asked for the job; "" for the hub itself.
ALTER TABLE jobs ADD COLUMN actor TEXT NOT NULL DEFAULT '';

-- The number of the last publish of each repository, see publishes.
CREATE TABLE repositories (
    name   TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);

-- Each change of refs. number is in the summaries of the repository; jobs is a
-- JSON array of hubapi.PublishJob.
CREATE TABLE publishes (
    repo    TEXT NOT NULL,
    number  BIGINT NOT NULL,
    event   BIGINT NOT NULL,
    created BIGINT NOT NULL,
    jobs    TEXT NOT NULL,
    PRIMARY KEY (repo, number)
);

-- The refs that moved; "" is no commit.
CREATE TABLE publish_refs (
    repo        TEXT NOT NULL,
    ref_name    TEXT NOT NULL,
    number      BIGINT NOT NULL,
    from_commit TEXT NOT NULL,
    to_commit   TEXT NOT NULL,
    PRIMARY KEY (repo, ref_name, number)
);
CREATE INDEX publish_refs_number ON publish_refs (repo, number);

CREATE TABLE holds (
    id      BIGINT PRIMARY KEY,
    repo    TEXT NOT NULL,
    app     TEXT NOT NULL, -- "" is all
    kind    TEXT NOT NULL, -- hubapi.HoldWait, hubapi.HoldFreeze
    reason  TEXT NOT NULL,
    actor   TEXT NOT NULL,
    created BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('hold', 0);
