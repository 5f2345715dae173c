// Package rsyncd serves the projects of a mirror by rsync: it listens, bounds and
// counts, and runs the system's rsync for each client that comes.
//
//	listener ─ too many, or too many from there? ─► told so, closed
//	   └─► rsync --daemon, a process for each client, which has the connection as its
//	       input and output: when nobody else wants the processor, in the tree of one
//	       generation, as nobody
//
// A client that names no module has its place only while nobody else wants it, and not for
// long. No more of them than there are processors begin at a time, when rsync reads what a
// module has; the others wait for their turn.
//
// A module is a project. A client sees one generation from its first byte to its last,
// whatever is switched meanwhile: the folder is opened when it comes.
//
// What went over each connection is counted by the kernel, and told as an access record
// and by metrics, so that rsync's bytes are seen as those of HTTP are.
package rsyncd
