-- What the console asks for: lists by key, how far each publish has come, what
-- static deltas cost, and who is signed in.

CREATE INDEX builds_repo ON builds (repo, id);
CREATE INDEX builds_state ON builds (repo_state, published_state, id);
CREATE INDEX builds_token ON builds (token_id, id);
CREATE INDEX jobs_build ON jobs (build_id, id);
CREATE INDEX jobs_status_id ON jobs (status, id);
CREATE INDEX jobs_kind ON jobs (kind, id);
CREATE INDEX tokens_used ON tokens (last_used, id);
CREATE INDEX audit_object ON audit (object, id);

-- When the last node had applied the event of a publish, and how many nodes
-- there were; 0 while it is not known.
ALTER TABLE publishes ADD COLUMN everywhere BIGINT NOT NULL DEFAULT 0;
ALTER TABLE publishes ADD COLUMN nodes BIGINT NOT NULL DEFAULT 0;
CREATE INDEX publishes_pending ON publishes (event) WHERE everywhere = 0;

-- The last advances of each node: a ring of which nodes.steps, modulo its
-- length, is the slot of the newest.
ALTER TABLE nodes ADD COLUMN steps BIGINT NOT NULL DEFAULT 0;
CREATE INDEX nodes_serial ON nodes (log, serial);
CREATE TABLE node_steps (
    name   TEXT NOT NULL,
    site   TEXT NOT NULL,
    slot   BIGINT NOT NULL,
    log    TEXT NOT NULL,
    serial BIGINT NOT NULL,
    passed BIGINT NOT NULL,
    PRIMARY KEY (name, site, slot)
);

-- The static deltas that were made, with sizes in bytes as hubapi.MadeDelta has
-- them. from_commit is "" for those from nothing.
CREATE TABLE deltas (
    repo        TEXT NOT NULL,
    to_commit   TEXT NOT NULL,
    from_commit TEXT NOT NULL,
    ref_name    TEXT NOT NULL,
    size        BIGINT NOT NULL,
    instead     BIGINT NOT NULL,
    parts       BIGINT NOT NULL,
    singly      BIGINT NOT NULL,
    micros      BIGINT NOT NULL, -- that it took
    created     BIGINT NOT NULL,
    PRIMARY KEY (repo, to_commit, from_commit)
);

-- Who is signed in to the console. id is a hash of the cookie.
CREATE TABLE sessions (
    id      TEXT PRIMARY KEY,
    content TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);
