// Package mirrormanager makes snapshots from the PostgreSQL database of MirrorManager
// (version 2 of the schema), as its generate-mirrorlist-cache does. It only reads.
//
// What a snapshot says follows from these rules:
//
//   - A host counts if it and its site are switched on by their owner and by the
//     administrators. It is private if it or its site is.
//   - A host has a directory if its row for the category is always up to date, or if the
//     crawler found the directory up to date. Only public URLs are handed out.
//   - Private hosts are listed with their URLs alone: they are found by netblock or
//     autonomous system, not by country.
//   - URLs of a host are in this order: https, http, rsync, others; equal ones by id.
//     The database has no order, and the first one that suits is what a client gets.
//   - A directory in several categories belongs to that with the longest top directory.
//   - A netblock is a prefix, an address, an address with a mask, or a name that is
//     resolved. One that is none of these is a problem of the snapshot and holds up
//     nothing: everybody who has a mirror can type one.
//
// All tables are read in one transaction, so that they fit together. The large one,
// which host has which directory, is streamed into one bit for each.
package mirrormanager
