-- The checks of builds, each with its newest job. status is that of package
-- hubapi; reason and results are texts for people and for programs.
CREATE TABLE checks (
    build_id      BIGINT NOT NULL REFERENCES builds (id),
    check_name    TEXT NOT NULL,
    job_id        BIGINT NOT NULL UNIQUE REFERENCES jobs (id),
    status        BIGINT NOT NULL,
    status_reason TEXT,
    results       TEXT,
    PRIMARY KEY (build_id, check_name)
);
