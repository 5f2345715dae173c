-- In the order in which they are read, so that no engine prefers the primary key
-- for it, which finds all refs of a repository.
DROP INDEX publish_refs_number;
CREATE INDEX publish_refs_number ON publish_refs (repo, number, ref_name);
