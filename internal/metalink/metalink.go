// Package metalink writes and reads what tells a client where the same file can
// be had: metalinks of version 3 as MirrorManager writes them and librepo reads
// them, metalinks of version 4 (RFC 5854), Link header fields (RFC 6249), and
// plain lists of mirrors.
//
// All writing appends to a slice of the caller and makes no garbage. Reading is
// safe on foreign bytes: memory and depth are bounded however large the input is.
package metalink

import "errors"

// ErrMalformed is what every error of [Parse] is, except those of the reader.
var ErrMalformed = errors.New("malformed metalink")

// Media types of the answers.
const (
	TypeV3 = "application/metalink+xml"
	TypeV4 = "application/metalink4+xml"
)

// File is a file that mirrors have.
type File struct {
	// Name is the name that the client gives the file. It may have folders.
	Name string
	// Versions are the contents that a mirror may have under this name, the
	// newest first. Only version 3 can tell of more than one.
	Versions []Version
	// URLs are where it is, the best first.
	URLs []URL
}

// Version is one content of a file. What is zero or empty is not told.
type Version struct {
	// Timestamp is when it was made, in seconds since 1970. Only version 3 has it.
	Timestamp uint64
	// Size in bytes.
	Size uint64
	// Hashes in hex: lower-case as parsed, and written as they are.
	MD5, SHA1, SHA256, SHA512 string
}

// URL is one place of a file: Base followed by Path. A writer may have one path
// for all places, so that URLs need not be put together; [Parse] leaves Path empty.
type URL struct {
	Base, Path string
	// Location is the ISO 3166-1 code of the country where it is; empty: unknown.
	Location string
	// Priority is 1 for the best and up to 999999; 0 is not told. Version 3 has
	// preferences instead, which are 101-Priority and at least 1.
	Priority int
	// Private is whether the place is not for the public (an attribute of
	// MirrorManager's, only in version 3).
	Private bool
}
