// Package catalogue holds what operators say of mirrors ([directorapi.Catalogue]): in a
// database of its own ([Store]), or as another director or a file has it ([Follower]).
// Whoever answers requests reads it from memory.
//
// # Promises
//
//   - A catalogue that [Source.Current] returns never changes: the next one is another.
//   - A change happens as a whole, on stable storage, with who made it and what was
//     before, or not at all; the catalogue with it is one that [Check] finds nothing
//     wrong with. The serial rises by one with each, without a gap.
//   - Several directors may share a PostgreSQL database; each sees the changes of the
//     others within about a second.
//   - A follower keeps the last good catalogue on disk, and goes on with it for as long
//     as it takes.
package catalogue
