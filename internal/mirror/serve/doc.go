// Package serve answers requests for the files of a mirror over HTTP.
//
//	GET /PROJECT/PATH        a file of the current generation, or, when that has
//	                         it not any more, of an older one that is kept
//	GET /PROJECT/FOLDER/     a listing of it, in HTML or JSON
//	GET /                    the projects
//	GET /.freshet/by-hash/sha256/HASH   a file by its content, for siblings
//	GET /.freshet/generations/PROJECT   which generation is served, for mirrors downstream, and
//	     its manifest, what is different in it, and files below that
//	GET /.freshet/assets/…   what pages need
//
// # The way of a request
//
//	front ─ a plain request for a file that is open already: the loops of
//	   │    internal/h1 and internal/h2 send it from memory or by sendfile
//	   ▼
//	ServeHTTP ─ path cleaned ─ project ─ file, listing, by-hash or an error
//
// # Promises
//
//   - Only what a generation holds is reachable, and what leads there within its
//     tree: never a staging, never another folder of the mirror.
//   - A file is sent as it is: no byte of it is changed, whatever its name or type,
//     and no coding is applied. Listings answer paths that end in a slash, and
//     nothing else does.
//   - A file keeps its ETag and its time over generations, for as long as its size
//     and time are the same: downloads resume over a switch. A transfer that has
//     begun ends with the bytes of the file that it began with.
//   - A client that has read a pointer, such as repomd.xml, or its signature, reads the
//     indexes and pointers of the same generation for up to [Settling] after the switch,
//     since those of two generations do not go together. It is known by its connection,
//     or by its address and program.
//   - Every failed request has one reason word: in the field Freshet-Reason, in the
//     log and in the metric.
package serve
