// Package versions knows which version of each repository is the current one, and which
// mirrors have all of it. Only these are offered for the names that stay when the content
// changes: pointers such as repomd.xml and InRelease, and indexes without a checksum in
// their name. Whoever reads the pointer at one mirror and what it names at others then
// finds one version, and finds it whole.
//
//	origin ──pointer──► history ──new version──► closure.Files ──► a list on the disk
//	                       │                                          │
//	prober ─Saw(pointer)─► sightings                 inventory ─► View.Holding(list)
//	                       │                                          │
//	                       └───────────► offered ◄────────────────────┘
//	                                        │
//	                          Allowed(project, path)
//
// # Versions
//
// A version is the SHA-256 of the pointer. The origin is asked for it every minute, and
// when somebody tells of a change. As soon as another one is seen the former is not
// offered any more; mirrors are offered again one by one, when they are known to have the
// new pointer and all that it names. Until then clients are sent to the origin.
//
// # Promises
//
//   - A mirror is offered only while it was last seen with the current pointer, within
//     the last hour, and the inventory knows that it has each file of the version.
//   - Mirrors are added only right after the origin was asked, and showed no other
//     version or did not answer: whoever was sent to the origin and has seen a new
//     version there is not sent to a mirror with the former.
//   - A version that was superseded is not offered for the next hour, whatever the
//     origin and the mirrors show. An origin that goes back to one, such as a cache that
//     is behind, is not followed before it has shown that for an hour without a break,
//     and its mirrors are offered an hour later. All this is remembered over restarts.
//   - A mirror that was seen to go back, such as one name in front of several machines,
//     is offered again when it has shown the current version for an hour. That goes for
//     a week.
//   - While the origin does not answer, the last version stays the current one.
//
// Repositories of OSTree, and those with indexes in a form that cannot be read here, have
// no list: there a mirror has a version if it has all payload that the origin was listed
// to have after the version was there.
//
// # On disk
//
//	<dir>/versions.json   the history of each repository
//	<dir>/<sha256>.list   the files of a repository's current version
//
// docs/formats/versions.md describes them. Both can be deleted: they are made anew from
// what the origin shows.
package versions
