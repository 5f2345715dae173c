-- Whether somebody has set the outcome of a check, 0 or 1.
ALTER TABLE checks ADD COLUMN reviewed BIGINT NOT NULL DEFAULT 0;
