// Package redirect answers requests for files of projects: it sends each client to a
// mirror that has exactly the file, or to the origin. An answer is made of [Data]
// and of a [Request], which has the time as well: the same two make the same answer.
//
//	target → place    which project, which path in it      path.go, place.go
//	       → form     what is asked about it               form.go
//	       → File     the origin's current version         of Network
//	       → picks    mirrors, the best first              of Network
//	       → Answer   status, fields, body                 answer.go, fields.go, bodies.go
//
// # What can be asked of a file
//
//	GET /PROJECT/PATH               302 to a mirror, with Link and Repr-Digest fields
//	GET /PROJECT/PATH.meta4         a metalink (RFC 5854), unless there is such a file
//	GET /PROJECT/PATH.metalink      one of version 3
//	GET /PROJECT/PATH.sha256        a line for sha256sum -c
//	GET /PROJECT/PATH?mirrorlist    where it is: a page, lines, or JSON
//	GET /PROJECT/PATH?why           the same with all that was left out, and why
//
// A folder is asked for in the same ways, but has no metalink: its mirrors are those
// that have all that is in it, and without a question it is shown by the origin.
//
// # Promises
//
//   - A file that the inventory does not know is the origin's to answer: what was
//     published a moment ago is never denied.
//   - A client that uses https is never sent to a URL without it.
//   - No path leads out of its project: what is sent to a mirror is the path as it
//     was understood here, written anew.
//   - No answer waits for anything, and a redirect makes little garbage.
package redirect
