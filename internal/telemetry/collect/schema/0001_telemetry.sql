-- Which batches of a node and epoch were applied: all up to through, but those in gaps.
CREATE TABLE telemetry_streams (
    node TEXT NOT NULL,
    epoch TEXT NOT NULL,
    through BIGINT NOT NULL,
    PRIMARY KEY (node, epoch)
);
CREATE TABLE telemetry_gaps (
    node TEXT NOT NULL,
    epoch TEXT NOT NULL,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    PRIMARY KEY (node, epoch, first)
);
-- Cells of cubes. labels is a JSON array of strings, at the begin of the window in seconds.
CREATE TABLE telemetry_counts (
    cube TEXT NOT NULL,
    width BIGINT NOT NULL,
    at BIGINT NOT NULL,
    node TEXT NOT NULL,
    labels TEXT NOT NULL,
    requests BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (cube, width, at, node, labels)
);
CREATE TABLE telemetry_times (
    cube TEXT NOT NULL,
    width BIGINT NOT NULL,
    at BIGINT NOT NULL,
    node TEXT NOT NULL,
    labels TEXT NOT NULL,
    bucket BIGINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (cube, width, at, node, labels, bucket)
);
-- What nodes hold: the newest of each, at in microseconds since 1970.
CREATE TABLE telemetry_projects (
    node TEXT NOT NULL,
    project TEXT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (node, project)
);
CREATE TABLE telemetry_disks (
    node TEXT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (node)
);
-- What was not delivered.
CREATE TABLE telemetry_dropped (
    node TEXT NOT NULL,
    reason TEXT NOT NULL,
    batches BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (node, reason)
);
-- The clocks of nodes: sent minus received, of the last batch, in milliseconds.
CREATE TABLE telemetry_clocks (
    node TEXT NOT NULL,
    received BIGINT NOT NULL,
    skew BIGINT NOT NULL,
    PRIMARY KEY (node)
);
