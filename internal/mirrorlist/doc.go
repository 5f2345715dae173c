// Package mirrorlist holds snapshots of a mirror network: which mirror has which
// directory, under which URLs, and whom it is for. The file is the one that
// MirrorManager's generate-mirrorlist-cache writes and mirrorlist-server reads,
// a protocol buffer; docs/formats/mirrorlist-snapshot.md describes it.
//
//	Read, ReadFile       file → Snapshot
//	Snapshot             what a director asks: directories, hosts, repositories,
//	                     files, netblocks; never changes, for any number of goroutines
//	Builder              anything else → Snapshot, such as a database
//	Write, WriteFile     Snapshot → file, the same bytes for the same content
//	Diff, Stat           what differs between two snapshots, and what is in one
//
// A file of 270 MB tells of 165,000 directories. In memory it is a tenth of that,
// because most directories of a category are on the same mirrors: each set of
// mirrors is kept once, hosts and countries are small numbers, and names lie in a
// few large strings, which leaves the garbage collector little to look at. The file
// is read as a stream, one message at a time; a set that was seen before is known by
// the hash of its bytes and is not even decoded.
//
// The package opens no connection and is safe on foreign bytes: it never panics,
// and the memory it takes is bounded.
package mirrorlist
