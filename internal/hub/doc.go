// Package hub is the role that publishes. It takes builds of OSTree and
// Flatpak repositories and whole plain trees over HTTP, checks every byte,
// commits, signs and publishes them, serves what it published, and keeps the
// event log by which edges and mirrors learn of it.
//
// The HTTP API is that of api/hubapi: flat-manager's build API, which its
// clients speak, and the hub's own tree API and event log. All routes stand in
// routes.go.
//
// # On disk
//
// Everything lies below one directory, on one file system:
//
//	hub.db           control state (internal/hub/catalog), unless a PostgreSQL DSN is configured
//	secret           the key that signs tokens, base64, made at the first start
//	signing-key.asc  the OpenPGP key that signs commits and summaries, made at
//	                 the first start unless gpg-keys names others (docs/signing.md)
//	lock             held while a hub runs, so that there is one per directory, or
//	                 shared by those with an instance name
//	instances/NAME   held by the hub of that name
//	repos/NAME/      an OSTree repository in archive mode (internal/hub/repository)
//	builds/ID/       what was uploaded into a build, and its commits; with a
//	                 negative ID, that of its job, what a republish works on
//	deltas/NAME/     static deltas while they are made (internal/hub/deltas), and
//	                 retired.json, since when others are not wanted any more. A
//	                 folder for each lease; internal/hub/deltaworker is the other end
//	trees/           generations of plain trees (internal/hub/tree)
//
// A prune (internal/hub/upkeep) leaves what builds need, which are told by
// internal/hub/relied; internal/hub/repolock is the lock that both take, and
// internal/hub/nameset what they remember of objects with. internal/hub/quarantine
// keeps damaged objects apart until they are repaired; internal/hub/stamps is what a
// build remembers of the files it has verified.
//
// internal/hub/rights says what of all that the claims of a token let people see.
//
// Commands of the operator, checks and hooks, are run by internal/hub/hook;
// internal/hub/flatmanager takes over a flat-manager, and internal/hub/inspect
// shows what is in a repository.
//
// # Several hubs
//
// Hubs with an instance name share directory and database (docs/hub-shared.md). Each
// does the work of builds. One leads: it has the repositories and trees open to be
// changed, and does what startPublishing starts. shared.go is the life of a hub among
// others, reign.go that of the one that leads, vigil.go how the dead are noticed, and
// forward.go passes requests on to the one that leads.
//
// # Promises
//
//   - Objects are verified while they arrive. A bad one is refused by name; the
//     good ones of the same request stay. Nothing that was not verified is
//     reachable from a published ref.
//   - A publish shows readers the complete old or the complete new state. Its
//     event is visible only after the change is.
//   - A job that was accepted is done: the hub may be killed at any moment, and
//     the next start takes up every job where it was. A failed publish can be
//     asked for again.
//   - Publishes of one repository happen one after the other, and those that
//     wait are merged into one. Different repositories do not wait for each
//     other, nor for commits.
//   - Checks hold up neither commits nor publishes of other builds. What a
//     repository's publishes need and is missing for a while, the key or room on
//     the disk, makes all of them wait in order.
//   - An answer that is not a success carries one word for its reason, which is
//     also in the access record and the metric.
package hub
