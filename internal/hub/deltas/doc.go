// Package deltas decides which static deltas a repository should have, and makes
// them in folders of their own, to be published by package repository.
//
// What is wanted follows from the rules and from what is published, so nothing
// has to be kept: [Wanted] compares, [Engine] makes what is missing, and what
// no rule asks for any more is retired and, after a time, removed ([Retired]).
// A crash leaves a folder that the next start clears.
package deltas
