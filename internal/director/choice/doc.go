// Package choice decides which mirrors a client is given, in which order, and why. It is
// one function of the client, the file, what operators say of the mirrors and what is
// known of their health and load; it asks nobody, reads no clock, and makes the same of
// the same. docs/director-choice.md says by which rules, with examples.
//
//	catalogue, health, load ──► New ──► Chooser, until one of them changes
//	                                       │
//	address ──► geoip ──► Request ──► Choose ──► Picks: the best first
//
// # Chance
//
// All chance comes from the seed of the request, and of each mirror by itself (rendezvous
// hashing): a mirror that comes, goes or gets another weight moves only the clients that it
// gains or loses, to or from all others in proportion to their weights. With the seed of
// [Seed] a client stays with its mirror for a while, and keeps its connection.
package choice
