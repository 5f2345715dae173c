// Package tree keeps plain trees: repositories of rpm, Debian, pacman or apk
// packages, or any files, each in complete states called generations. A tree is pushed whole, by the
// hashes of its files, and switched at once to the new generation; what an old
// one alone holds stays readable for a grace time, so that a client in the
// middle of an update finds what its metadata told it to fetch.
//
// # On disk
//
//	<dir>/lock                             held by the one process that may write
//	<dir>/blobs/xx/<sha256>                contents, each once
//	<dir>/incoming/<boot>/<sha256>         uploaded since that boot of the machine, not
//	                                       yet known to be on the disk
//	<dir>/pushes/<id>.json                 a push that was begun: its list of files
//	<dir>/trees/<name>/generations/<n>/…   a generation: hard links to blobs
//	<dir>/trees/<name>/generations/<n>.json   its manifest
//	<dir>/trees/<name>/current             symbolic link to generations/<n>
//	<dir>/trees/<name>/state.json          the generations that are readable
//	<dir>/trees/<name>/intent.json         a switch that is decided and not confirmed
//
// docs/formats/tree-manifest.md draws the JSON files. trees/<name>/current/ may
// be served by any web server or rsync daemon.
//
// # Publishing
//
//  1. Uploaded contents are made durable and become blobs.
//  2. The folder of the generation is built, checked against the manifest, and,
//     where the tree has metadata of packages, these against the files, down
//     to the packages that they name, and against the tree's keys.
//  3. Everything is made durable in one batch; then the intent is written. From
//     here on the switch is decided.
//  4. The link current is replaced by rename, and state.json.
//  5. The caller's commit function makes its own part (the event) agree with
//     the files; then the intent is removed.
//
// A push of what the current generation holds ends before 1, remembered in
// state.json.
//
// A crash before 3 leaves the old generation, and [Open] removes the unfinished
// one. A crash after 3 leaves the intent: Open completes 4, and
// [Trees.Recover] step 5. The commit function may therefore be called more than
// once for one switch, and recognises it by its key.
//
// # Times of modification
//
// Generations share files, and a file has one mtime. Content keeps the mtime it
// was first pushed with, except at a mutable path whose content changed: there
// the manifest's is set, on a copy if need be, because clients that ask
// If-Modified-Since compare it with that of another content.
package tree
