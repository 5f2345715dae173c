// Package share lets directors know what one of them has found out of files: a [Server]
// answers with the inventory, and a [Follower] keeps one like that of another director, or
// like a file that somebody copies.
//
//	inventory ─► Server: editions, and what has changed between two of them
//	                 │  HTTP, ETag
//	                 ▼
//	             Follower ─► inventory.Replica ─► inventory ─► Server of the follower …
//
// The content is that of docs/formats/inventory.md.
//
// # Promises
//
//   - A change is at a follower within about two seconds, at the cost of what has
//     changed.
//   - What cannot be read whole, or has suddenly lost most of the files, changes nothing.
//     Readers of a follower's inventory see the state before or the one after.
//   - A follower goes on with what it has for as long as nobody answers.
package share
