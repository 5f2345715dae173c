// Package scan finds out which files origins and mirrors have, and keeps the inventory
// ([inventory.Inventory]) true:
//
//	rsync     the listing of an rsync server, by the system's rsync
//	http      the listings of folders that web servers make, folder by folder
//	filelist  a list of the whole tree in one file (fullfiletimelist)
//	folder    a local folder, of origins; payload is hashed in the background
//	manifest  what a mirror pushes; nothing is read
//
// # When
//
// Each mirror and origin is scanned every so often, no two at the same beat, a few at
// once, and one mirror by one scan at a time. A push, a suspicion or an operator hastens
// the next one ([Scanner.Hasten]). After a failure the scan is tried again soon, and then
// less and less often.
//
// # What counts
//
// A listing counts as a whole or not at all: one that breaks off changes nothing. What is
// known of a mirror that cannot be scanned is used for a while, [Options.MaxAge], and then
// not at all. What is known of an origin is used until something better is known.
//
// Files that not everybody may read do not count, nor what rsync keeps aside while it
// copies. A link counts as what it leads to, if that is in the same tree.
package scan
