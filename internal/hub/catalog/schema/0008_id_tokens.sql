-- ID tokens that were exchanged, until they are no longer good. id is the SHA-256 of
-- the issuer and the token's own id, in hexadecimal.
CREATE TABLE id_tokens (
    id      TEXT PRIMARY KEY,
    expires BIGINT NOT NULL
);
CREATE INDEX id_tokens_expires ON id_tokens (expires);
