// Package flatpak reads and writes what makes an OSTree repository a Flatpak
// repository: refs, commit metadata, the appstream branches, the summaries and
// the small files (.flatpakrepo, .flatpakref) by which people find it.
//
// # On disk
//
// Of the repository folder this package makes
//
//	summary, summary.sig          every ref, for clients before 1.9   pointer
//	summary.idx, summary.idx.sig  the digests of the subsummaries     pointer
//	summaries/<digest>.gz         one architecture, or one subset of one
//	summaries/<old>-<new>.delta   the way from an earlier one to the current one
//	summaries/<digest>.idx.sig    the signature of the summary.idx with that digest
//	delta-indexes/XX/YYY.index    which static deltas lead to a commit   index
//
// and the refs appstream/<arch>, appstream2/<arch> and appstream2/<subset>-<arch>,
// whose commits hold the catalogue of applications.
//
// # The cost of a publish
//
// An [Index] holds a [CommitInfo] and the encoded entries of every ref. One
// changed ref is one call of [Index.Update]; the builders then copy, hash and
// write, but parse nothing and compress only the neighbourhood of what changed
// (see package splice).
//
// # Promises
//
// Everything that comes from a commit is foreign: sizes are bounded, no input
// panics, and an application whose catalogue entry cannot be read is named in a
// warning and left out of the catalogue instead of failing the publish.
// The package opens no connection, starts no goroutine and reads no clock.
package flatpak
