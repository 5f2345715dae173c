// Package fetch gets files of a project from where they are: a server of rsync, or of
// HTTP, which may be another mirror of the same kind.
//
//	Source     one place: reads small files, lists, fetches
//	Job        a whole want list, from siblings by hash, then from one source after the other
//	Fleet      a mirror and its siblings, who share what none of them has yet
//
// Files come to a folder of the caller's that is made for arriving ones, under the paths
// that they have in the tree, whole and checked: the size, the checksum if one is told,
// and the SHA-256 in any case. What a broken transfer leaves behind is in the same
// folder, and is gone on with the next time. Nothing is ever written to a file that
// somebody else sees.
//
// rsync is the system's, see internal/rsync; whatever it receives passes through a gate of
// this process, so that one budget holds for all.
package fetch
