-- The id (jti) of the token that created the build; "" when it had none.
ALTER TABLE builds ADD COLUMN token_id TEXT NOT NULL DEFAULT '';
