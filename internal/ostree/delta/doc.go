// Package delta makes, reads and applies the parts of OSTree's static deltas: a
// commit in a few files instead of one for each object, from nothing or from
// an earlier commit. Their head, the superblock, is [ostree.Superblock].
//
// A part is a file, deltas/XX/<rest>/<number>:
//
//	1 byte    'x': an .xz file follows; 0: what follows is not compressed
//	content   (a(uuu)aa(ayay)ayay) as GVariant:
//	  modes     owner, group and mode of files, big-endian
//	  xattrs    sets of extended attributes
//	  payload   bytes
//	  program   what to do, see [Op]
//
// The program makes the objects that the superblock lists for the part, one
// after the other. Metadata objects are pieces of the payload. Files are too,
// or they are put together of pieces of the payload and of one file that the
// client has, or patched from that one (package bsdiff).
//
// [Generate] writes a delta. It plans first what becomes of each object, and
// then writes several parts at once, each as a stream: memory holds two
// versions of a file at most, not parts. Inside of a part, content is ordered
// by kind and name, so that what is alike meets in the dictionary of the
// compressor; what does not compress comes first and is stored, then programs
// for x86, for which there is a filter, then everything else.
//
// [Apply] carries a part out and checks each object by its checksum, with bounded
// memory whatever the bytes say. [Verify] does so for a whole delta.
package delta
