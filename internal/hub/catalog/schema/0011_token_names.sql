-- For whom a token was made, as it says itself; "" when it does not, or was not
-- seen since this column is there.
ALTER TABLE tokens ADD COLUMN name TEXT NOT NULL DEFAULT '';
