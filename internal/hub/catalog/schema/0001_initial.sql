-- Control state of a hub. Portable SQL: see package sqldb.
-- Times are microseconds since 1970; 0 or NULL is "never". States, kinds and
-- statuses are the numbers of package hubapi.

-- The last number given out, by what it counts. "job-change" counts changes of
-- jobs, so that other processes notice them.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES
    ('build', 0), ('build-ref', 0), ('job', 0), ('event', 0), ('audit', 0), ('job-change', 0);

-- "log" is the identity of the event log.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE builds (
    id                     BIGINT PRIMARY KEY,
    created                BIGINT NOT NULL,
    repo                   TEXT NOT NULL,
    app_id                 TEXT,
    extra_ids              TEXT NOT NULL, -- JSON array, sorted
    public_download        BIGINT NOT NULL,
    build_log_url          TEXT,
    token_name             TEXT,
    token_type             BIGINT,
    repo_state             BIGINT NOT NULL,
    repo_state_reason      TEXT,
    published_state        BIGINT NOT NULL,
    published_state_reason TEXT,
    commit_job_id          BIGINT,
    publish_job_id         BIGINT
);
CREATE INDEX builds_app_id ON builds (app_id, id);

CREATE TABLE build_refs (
    id            BIGINT PRIMARY KEY,
    build_id      BIGINT NOT NULL REFERENCES builds (id),
    ref_name      TEXT NOT NULL,
    checksum      TEXT NOT NULL, -- of the commit uploaded
    build_log_url TEXT,
    UNIQUE (build_id, ref_name)
);

CREATE TABLE jobs (
    id          BIGINT PRIMARY KEY,
    kind        BIGINT NOT NULL,
    status      BIGINT NOT NULL,
    repo        TEXT NOT NULL, -- "" for jobs of no repository
    build_id    BIGINT NOT NULL, -- 0 for jobs of no build
    contents    TEXT NOT NULL, -- JSON
    results     TEXT, -- JSON
    log_size    BIGINT NOT NULL DEFAULT 0, -- bytes in job_logs
    created     BIGINT NOT NULL,
    start_after BIGINT NOT NULL DEFAULT 0,
    started     BIGINT NOT NULL DEFAULT 0,
    ended       BIGINT NOT NULL DEFAULT 0,
    -- The claim: how often the job was started, by which process, and until
    -- when that process is taken to be alive; and how often it died meanwhile.
    attempt     BIGINT NOT NULL DEFAULT 0,
    instance    TEXT NOT NULL DEFAULT '',
    boot        TEXT NOT NULL DEFAULT '',
    lease       BIGINT NOT NULL DEFAULT 0,
    interrupted BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX jobs_status ON jobs (status, repo, kind);
CREATE INDEX jobs_ended ON jobs (ended);

CREATE TABLE job_dependencies (
    job_id     BIGINT NOT NULL REFERENCES jobs (id),
    depends_on BIGINT NOT NULL REFERENCES jobs (id),
    PRIMARY KEY (job_id, depends_on)
);

-- A log is the concatenation of its chunks. start is the offset of a chunk.
CREATE TABLE job_logs (
    job_id BIGINT NOT NULL REFERENCES jobs (id),
    start  BIGINT NOT NULL,
    chunk  BYTEA NOT NULL,
    PRIMARY KEY (job_id, start)
);

-- What is published now, with what the publisher wants to remember of it.
CREATE TABLE published_refs (
    repo     TEXT NOT NULL,
    ref_name TEXT NOT NULL,
    checksum TEXT NOT NULL,
    info     BYTEA NOT NULL,
    PRIMARY KEY (repo, ref_name)
);

-- The event log. body is a hubapi.Event in JSON.
CREATE TABLE events (
    serial  BIGINT PRIMARY KEY,
    created BIGINT NOT NULL,
    kind    TEXT NOT NULL,
    repo    TEXT NOT NULL,
    body    TEXT NOT NULL
);

-- Which changes were recorded already, so that recording one again after a
-- crash does nothing. serial is the event, 0 when there was nothing to tell.
CREATE TABLE recorded (
    request TEXT PRIMARY KEY,
    serial  BIGINT NOT NULL,
    created BIGINT NOT NULL
);
CREATE INDEX recorded_created ON recorded (created);

-- Tokens that were used or revoked, by jti.
CREATE TABLE tokens (
    id        TEXT PRIMARY KEY,
    expires   BIGINT NOT NULL,
    last_used BIGINT NOT NULL DEFAULT 0,
    revoked   BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE audit (
    id      BIGINT PRIMARY KEY,
    created BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL, -- "build.publish"
    object  TEXT NOT NULL, -- "build/7"
    detail  TEXT NOT NULL
);
CREATE INDEX audit_created ON audit (created);
