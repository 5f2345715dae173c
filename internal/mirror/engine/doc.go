// Package engine syncs projects: it brings what a mirror serves to what the upstream has,
// so that a reader sees the one version or the other, and every file that an index names
// is there.
//
//	probe   a few small files are as they were: nothing is to be done
//	list    every repository: its version, then all files of it, by its own metadata
//	link    what is here already: in the generation that is served, or under its hash
//	fetch   what is left
//	check   all there; the pointers at the upstream still the same
//	switch  all of it durable, then one rename
//
// A repository is a unit of its own. One whose files do not agree is listed again a few
// times, since upstreams publish one file after the other; if that does not help, it
// stays at the version that is served, and the other ones go on. The same happens to one
// that goes backwards, has lost too much, or is not signed as it should be: that is tried
// once, and waits for an operator.
//
// What was fetched is kept whatever happens, and used by the next sync.
//
// Memory is about 130 bytes for each file of a project, of which there are 20 million at most, with 2 GiB
// of names.
package engine
