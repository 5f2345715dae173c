// Package repository publishes builds into one OSTree repository, by itself and
// without any program of the field: it verifies what is uploaded, rewrites
// commits, signs, makes the appstream branches and the summaries, and switches
// the pointers.
//
// # On disk
//
// The repository is an archive repository as ostree and flatpak make it:
//
//	config                        mode=archive-z2, collection-id, [flatpak] …
//	objects/XX/YYY.{commit,commitmeta,dirtree,dirmeta,filez}
//	refs/heads/REF                the commit of every ref, 64 hex digits and a line feed
//	refs/mirrors/COLLECTION/REF   the same for the additional collection ids of a build
//	deltas/XX/YYY/{superblock,0…} static deltas that came with builds
//	delta-indexes/XX/YYY.index    which deltas lead to a commit
//	summary{,.sig}, summary.idx{,.sig}, summaries/…
//	NAME.flatpakrepo              what a user adds
//	appstream/ID.flatpakref       what a user installs
//	appstream/ARCH/…              the files of a catalogue, if wanted
//	media/…                       what builds bring as screenshots/ARCH
//	.lock                         shared by whoever adds, exclusive for whoever deletes
//	.former                       the refs that were removed: TIME REF on a line each
//	.appstream                    of which commits they are: COMMIT ARCH on a line each
//	.fsck, .upkeep/               what checks and prunes remember: package upkeep
//	.signers                      the keys that signed the heads, on a line each: FINGERPRINT KEYID,
//	                              or the ed25519 key in base64 and "ed25519"
//
// A build is a folder BUILDS/ID, which is an archive repository too. What it
// adds to the above:
//
//	uploads/NAME/{superblock,0…}  static deltas as uploaded, until the build is committed
//	ID.flatpakref                 what a tester installs
//	.boot                         the boot of the machine in which everything was written
//	.edit                         since when a program may have written what nobody has verified
//
// # Promises
//
//   - An object has its name only after its content was hashed. A commit becomes
//     reachable from a ref only after everything it needs was seen to be there,
//     and to be as it was when it was verified: commit and publish look at the inode,
//     size and time of each file, look into those that this process has not verified,
//     and verify again what is not as it was.
//   - A published object is never replaced, even where other bytes would
//     decompress to the same content; unless it is damaged, by a verified upload.
//     Until then a scrub may have put it into quarantine (package upkeep): then it
//     is not there.
//   - Publish costs what changed: the objects of the changed refs, one signature
//     for each of their commits and a few for the repository, and the copying
//     and hashing of the summaries and the catalogue. It opens no file of a ref
//     that does not change.
//   - After a crash, [Open] finds the repository before or after a publish as a
//     whole. In the latter case it returns the publish as [Pending] until it is
//     confirmed: what the caller does with a result happens at least once.
//   - Other programs may read and add to the repository at any time and delete
//     from it under the lock, as libostree does. A ref that they move is noticed
//     when it is published next, or at the next Open.
package repository
