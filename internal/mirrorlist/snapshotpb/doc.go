// Package snapshotpb is generated from snapshot.proto, the schema of snapshots. It
// makes one object of each message, which for a snapshot of the size of Fedora's are
// gigabytes: the director reads and writes with package mirrorlist, and this one is for
// tests, small snapshots and the curious.
package snapshotpb
