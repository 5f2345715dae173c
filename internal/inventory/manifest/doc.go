// Package manifest reads and writes manifests: what a mirror tells a director of the
// files that it has, all of them or what has changed since it last told.
//
// The format is text, a line for each file, so that a shell can make it. It is described
// in docs/formats/manifest.md.
package manifest
