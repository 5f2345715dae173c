// Package flatmanager takes over a flat-manager: its database (PostgreSQL, of
// version 0.5.3) and its repositories.
//
// Builds, their refs, jobs with recent logs, checks and tokens keep their
// numbers and ids, so that links and tokens go on to work, revoked tokens stay
// revoked, and new builds get higher numbers. What was under way has ended
// badly: files of builds that were not published are not taken along.
//
// A repository is taken over by hard links where the file system is the same,
// else by copies. Objects come first and refs last, each file under its name
// only when it is whole, so that an interrupted import leaves nothing that points
// to what is not there. It may be begun again as often as wanted: what is there
// is left alone. The source is only read, and may be in use, but what is
// published during the import may be missed.
package flatmanager
