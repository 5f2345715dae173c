// Package layout tells what a path of a repository is. Writers take from it
// the order in which files are published, servers and caches how long an
// answer may be kept, so that they cannot disagree.
//
// Every path has a [Class], and some have their content's address in their
// name:
//
//	        written   may change        example
//	Payload first     never             objects/ab/….filez, pool/…/x.deb
//	Index   second    if not addressed  summaries/….gz, delta-indexes/…
//	Pointer last      yes               summary.idx, repodata/repomd.xml
//
// A reader that starts at a pointer therefore finds all that it names.
package layout

import "strconv"

// Class is the part a file plays when its repository changes. The order of the
// values is the order of publishing.
type Class uint8

const (
	// Payload is content that readers reach through an index: once published
	// under a name, it is never rewritten. Several publishes may bring the same
	// payload; the first one stays.
	Payload Class = iota
	// Index is what lies between pointers and payload, and every file that is
	// not known to be something else. It may be replaced, and the old pointers
	// work with the new index.
	Index
	// Pointer is where readers begin. The pointers of a repository change
	// together, after everything they lead to is in place.
	Pointer
)

func (c Class) String() string {
	switch c {
	case Payload:
		return "payload"
	case Index:
		return "index"
	case Pointer:
		return "pointer"
	}
	return "class(" + strconv.Itoa(int(c)) + ")"
}

// Kind is what is known of a path from its name alone.
type Kind struct {
	Class Class
	// Addressed says that the name holds a checksum of the content, so that
	// other content under this name is an error. A payload that is not
	// addressed is immutable by custom only: people do re-sign packages.
	Addressed bool
}

// Mutable says whether a new publish may rightly bring other content under
// the same name.
func (k Kind) Mutable() bool { return k.Class != Payload && !k.Addressed }
