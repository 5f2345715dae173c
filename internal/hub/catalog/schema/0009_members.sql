-- The hub processes that share the database, and what each of them leads. beat
-- grows with every sign of life; holder is the boot of a member, '' for nobody.
CREATE TABLE members (
    name    TEXT PRIMARY KEY,
    boot    TEXT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    beat    BIGINT NOT NULL,
    joined  BIGINT NOT NULL
);

CREATE TABLE leads (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    fence  BIGINT NOT NULL,
    since  BIGINT NOT NULL
);
