// Package spool keeps batches of telemetry on the disk until a watch has them.
//
// # On disk
//
//	EPOCH-FIRST-LAST.batch   a batch, compressed with zstd, whose checksum is in its frame
//	refused/…                batches that a watch has refused for good, and why
//
// A batch is written under another name, made durable, and renamed, so that one that is
// there is whole. EPOCH is made at each start, and sorts by time; numbers begin with 1 in
// each. So nothing else has to be remembered: a number is never used twice.
//
// # What is sent, and what may change
//
// Batches are delivered from the oldest on, one at a time. Of the oldest alone it can be in
// doubt whether a watch has it, and it is never changed. All others may be merged: one
// takes the place of several, with their numbers and the sums of what they count. When the
// spool comes to its bounds, first batches are merged, which loses nothing; then minutes
// become hours; and only then the oldest are dropped, which the next batch tells.
//
// A crash between the writing of a merged batch and the end of those that it was made of is
// seen by their numbers at the next start.
package spool
