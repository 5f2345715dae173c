-- How far followers of the event log say they have come.
CREATE TABLE nodes (
    name   TEXT NOT NULL,
    site   TEXT NOT NULL,
    log    TEXT NOT NULL,
    serial BIGINT NOT NULL,
    seen   BIGINT NOT NULL,
    PRIMARY KEY (name, site)
);
