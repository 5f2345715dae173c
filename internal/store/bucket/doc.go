// Package bucket keeps a copy of a repository in an object store, such as S3, and
// changes it so that the copy decides what is published: a disk that is lost is
// filled again from it.
//
// # In the bucket
//
// Keys are below the prefix of the repository (docs/formats/bucket.md):
//
//	<path>                      a file, under its path in the repository
//	.freshet/manifest           which change was the last, and who leads
//	.freshet/changes/<n>-<id>   what the change n does to index and pointers
//
// # A change
//
//  1. [Copy.Upload] creates payload: If-None-Match: *, nothing is replaced but what
//     is left of a change that was not decided.
//  2. [Copy.Propose] writes a record with all new index files and pointers, and
//     then the manifest, if that is still the one that this process wrote last:
//     If-Match. From here on the change is decided. [Copy.Withdraw] takes it back,
//     as long as nothing of it was shown.
//  3. [Copy.Show] writes the index files, then the pointers one by one, each only
//     over what was seen there before it was sure to lead, and then removes what is to be removed.
//
// A crash before 2 leaves payload that nobody points to. After it, [Copy.Take] finds
// the record in the manifest, and [Copy.Show] may be repeated as long as no later
// change was decided.
//
// # Who may
//
// The manifest has a fencing number. Whoever takes over writes a higher one; the
// manifest of whoever led before then no longer matches, and it decides nothing more.
// What it still writes matches only what it saw before it last found that it leads.
//
// Files are what a reader of the bucket sees; what is decided is in the manifest. The
// two differ while a change is shown, and in the order of a publish: whoever reads
// summary.idx finds what it names.
package bucket
