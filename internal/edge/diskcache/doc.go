// Package diskcache keeps HTTP responses on disk for the edge.
//
// # On disk
//
//	DIR/lock              held (flock) by the process that uses the store
//	DIR/store             what tells this store from others
//	DIR/seg/NUMBER        segments: records of entries, short bodies included
//	DIR/big/ab/ID-NUMBER  a body that is too long for a segment, with holes where
//	                      slices are missing
//	DIR/tmp/ID-NUMBER     such a body while it is written
//	DIR/index/NUMBER.log  what happened to the index; NUMBER.ckpt: the index when
//	                      that log began
//
// docs/formats/edge-store.md draws them. In memory there is package index: no
// pointer, name or field for an entry, 24 bytes and some room. A hit is a
// look-up there, and one read of the record, which has everything but a long
// body; what is used often is also kept in memory as it is.
//
// # S3-FIFO in segments
//
// A segment belongs to a queue, and the order of the records in the segments is
// the queue's order: for each of two pools, what binds its name to its bytes
// and what may change, there is one for what is new and one for what was used
// again. To make room, the oldest segment of a queue is gone through: records
// that were used are copied to the end of the main queue, the others are
// dropped, and the file is removed. So nothing is ever freed inside of a file,
// and no list of the entries is kept.
//
// # Promises
//
//   - What is read is what was written, or nothing: a record has a checksum,
//     compared at every read; a long body has one for each slice, compared when
//     the slice is first read after the file was opened.
//   - An entry is readable from the moment [Writer.Commit] returns, and a
//     [Body] stays readable while it is open, even if the entry is evicted.
//   - A kill of the process loses what was done in the last tenth of a second,
//     a loss of power that of the last second; what [Store.Sync] has confirmed
//     is never lost. Marks and bans that it confirmed hold for whatever comes
//     back.
//   - A start takes two seconds for ten million entries, however the process
//     ended.
//   - Files never add up to more than the given size, those that are open only,
//     being written, or the index's own, included. Each pool has a share, and
//     may use what the other does not.
//   - A folder that the disk does not let it use when it is opened (read-only,
//     full, not readable, not there and not to be made) is waited for: the store
//     is empty until then. Only mistakes are errors of [Open].
//   - A disk that is full makes the store smaller; one that cannot be written
//     keeps it from storing; a folder that is gone is begun anew. None of these
//     is an error for who reads, or who reads along with a [Writer]. They end by
//     themselves, and [Store.Alert] tells of them.
package diskcache
