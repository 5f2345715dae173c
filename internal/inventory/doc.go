// Package inventory knows which mirror has which file. It is kept in memory, answers
// in well under a microsecond, and is written to one file.
//
//	Inventory ─ names of holders
//	    └ Tree, one for each project
//	        └ View, one state of it that does not change
//	            └ folders → files → versions of a file, each with the Set of its holders
//
// # Versions
//
// What a mirror has is compared with what the origin has: a file is known by its path,
// its length and, where both tell it, its SHA-256. Two that differ in one of these are
// two versions of the file, and both are kept while somebody holds them, since a mirror
// may be ahead of what is known of the origin. The origin's version is the current one,
// and the only one that [View.Find] tells. Times of modification are kept and not
// compared: mirrors do not keep them, and origins touch files.
//
// # Updates
//
// [Tree.Replace] takes the whole listing of a holder, [Tree.Apply] what has changed since
// a listing, [Tree.Doubt] a report that a file is not there. The listing is read beside
// the running service and may take its time; only what differs is then rebuilt, and all
// of it appears at once, in a new View. Readers never wait.
//
// What a listing lacks is not offered any more. A listing that lacks more than two fifths
// of what the holder had is refused, since a scan that was cut short looks like that,
// unless the next one of this holder does too.
//
// # In memory
//
// A folder is found by its path in one of 256 maps, of which a change copies those that
// it touches. Its versions lie sorted by name in leaves of up to 128, so that a change
// copies no more than a leaf: names in one string, 25 bytes for each version, and 32 for
// its hash if one of the leaf is known. Sets of holders are bits, kept once for all that
// are equal (see package unique).
//
// The file is described in docs/formats/inventory.md.
package inventory
