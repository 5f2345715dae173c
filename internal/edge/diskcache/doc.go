// Package diskcache keeps HTTP responses on disk for the edge.
//
// # On disk
//
//	DIR/lock             held (flock) by the process that uses the store
//	DIR/obj/ab/ID-SEQ    one entry; ID is 32 hex digits and begins with ab
//	DIR/tmp/ID-SEQ       an entry being written, or written and not yet synced
//
// An entry is one file: a fixed head, the response's fields as JSON, the body.
// docs/formats/edge-store.md draws it. SEQ, 16 hex digits, grows with every
// entry: of two files with one ID the greater SEQ is valid.
//
// # Promises
//
//   - An entry is complete or absent, whenever the process or the machine
//     dies: its bytes are synced before it is renamed from tmp/ to obj/. Syncs
//     are shared by all entries of a tenth of a second, so that a burst of
//     small ones costs one.
//   - An entry is readable from the moment [Writer.Commit] returns, and a
//     [Body] stays readable while it is open, even if the entry is evicted.
//   - Files never add up to more than the given size; each counts with its
//     blocks and a share of its folder. What is used again stays (S3-FIFO).
//   - Files that are not whole are removed by the next [Open]; bodies up to
//     1 MiB are checked against their CRC-32C when first opened after a start.
package diskcache
