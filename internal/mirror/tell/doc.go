// Package tell tells directors which files a mirror serves.
//
// What is told is always a state, never an event: a director is brought to the
// generation that is served, by what differs from the one that it knows, or, where it
// does not know that one, by all of it. A director that is away hears nothing for a
// while, and then the newest. What it has acknowledged last stands in a small file, so
// that a restart tells it only what it does not know.
//
// How busy the mirror is, is told every half minute, and forgotten when it cannot be.
//
// Every now and then a director is told that nothing has changed. So one that has lost
// what it knew asks for it, and it sees that the mirror is up to date.
package tell
