// Package kind tells what a mirrored project consists of: which repositories are in its
// tree, which files belong to each of them, which version each has and whether that may
// follow the one before.
//
// All is read from the project's own metadata, through functions of the caller, so that
// an upstream, a staging tree and a generation on disk are asked in the same way:
//
//	Probe         a few small files: when they are as they were, so is everything
//	Repositories  from patterns ("dists/{release}"), or from a listing of the tree
//	Version       the pointer: its hash, its signature, its place in time
//	Files         what the pointer leads to, down to the packages: the want list
//	Rest          what lies in the tree beside the repositories
//	Follows       refuses a step backwards
//	Stamps, Trace the files by which projects judge how fresh a mirror is
//
// Each repository is a unit of its own: one whose files do not agree can stay as it is
// while the others go on.
//
// Filters go by meaning, not by name: architectures, releases, components, debug
// information, sources, images. Metadata stay as they are, byte by byte, since they are
// signed; what an index lists beyond the filter is counted in [Left].
//
// Input is foreign: memory is bounded, and nothing panics. Every failure has one word,
// see [Reason].
package kind
