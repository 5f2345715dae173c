// Package desired keeps what is desired of mirrors: settings that an operator writes, each
// time a version, signed for one mirror by the key of the control side. Mirrors follow theirs
// and say what they make of it. New boxes become mirrors by claims.
//
//	operator ── PUT settings ──► version n, signed ──► GET follow ──► mirror
//	                                                ◄── POST applied ──
//	operator ── POST claim ──► a word ── by hand ──► box ── POST redeem ──► its token, by hash
//
// All of it lies in the database of the catalogue, whose mirrors they are. The signing key lies in a file.
package desired
