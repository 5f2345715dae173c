// Package ostree reads, writes and checks the files of an OSTree repository in
// archive mode (archive-z2), the one that is served over HTTP. It works on
// bytes, readers and fs.FS; it opens no connection, writes no file by itself
// and has no clock.
//
// A repository, as it lies on disk and behind a URL:
//
//	config                                  key file: [core] mode=archive-z2, …
//	refs/heads/<ref>                        64 hex digits and a line end: a commit
//	refs/mirrors/<collection>/<ref>         the same for other collections
//	objects/xx/<62 hex>.commit              signed root: metadata, parent, root tree
//	objects/xx/<62 hex>.dirtree             names of a directory, sorted
//	objects/xx/<62 hex>.dirmeta             owner, mode and xattrs of a directory
//	objects/xx/<62 hex>.filez               header and deflated content of a file or symlink
//	objects/xx/<62 hex>.commitmeta          detached signatures; the only object that changes
//	deltas/XX/<rest>/superblock, 0, 1, …    static delta; XX<rest> is <to> or <from>-<to> in base64
//	delta-indexes/XX/<41>.index             the deltas that lead to a commit
//	summary, summary.sig                    all refs, for old clients
//	summary.idx, summaries/<sha256>.gz, …   refs by architecture and subset
//
// Objects are named by the SHA-256 of their bytes; for files, of a header and
// the content before compression ([FileHeader]). All but commitmeta never
// change.
//
// What is parsed and encoded again has the same bytes: parsers accept only
// GVariant normal form, and keep what they do not know. Everything from outside
// is bounded: metadata objects by [MaxMetadataSize], names by their form, and
// content is streamed.
package ostree
