// Package generation keeps the trees of a mirror, so that a reader sees one state of
// a project or the next and never something between.
//
// A state is a generation: a tree of folders and hard links that never changes. The
// next one is made beside it, in a staging, of links to what stays and of files that
// were fetched; when all of it is on the disk, one rename of a symbolic link switches.
//
//	DIR/lock                                  held while the store is open
//	DIR/objects/hh/SHA256                     one more link to each file, by its hash
//	DIR/projects/NAME/current                 -> generations/ID
//	DIR/projects/NAME/generations/ID/tree     what is served
//	                                /manifest.zst, generation.json
//	DIR/projects/NAME/staging/N/tree          becomes generations/ID
//	                         /incoming        where transfers write
//	                         /placed          journal of what was fetched
//	DIR/projects/NAME/trash                   is being removed
//	DIR/projects/NAME/upstream                manifests that were read last of other mirrors
//
// Files decide: what [Open] finds it repairs to the state before or after whatever
// was under way, also after a loss of power. docs/formats/mirror-store.md describes
// the files.
//
// # Switching
//
//	link, place …            into staging/N/tree
//	manifest, generation.json
//	syncfs                   all of it is on the disk
//	rename staging/N         to generations/ID; fsync: from here on it will be current
//	rename current           the switch; fsync
//	superseded               is written into the former one
//	objects                  are linked to what was fetched
//
// A file that was fetched gets its name in objects only when it is durable, so that
// another project never links what a loss of power may take away. [Store.Object] finds
// it before, through the journal of the staging, since who reads it compares the hash.
//
// # Readers
//
// [Project.Open] serves a path from the current generation, and one that is missing
// there from older ones, as long as they are kept: clients that have read the former
// index still find what it names. Pointers and indexes whose name says nothing of
// their content are never served from older ones. Readers take no locks, and what
// they have opened stays whole whatever happens to its generation.
//
// # Files
//
// A file in a tree is one inode with all its other names, in other generations and
// in objects. It is never written to, and its time of modification is the upstream's,
// so that what is made of size and time stays the same over generations. A content
// that upstreams give different times is stored once for each of them.
package generation
