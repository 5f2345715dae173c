// Package events hears from upstreams when there is something new: from hubs by their
// event logs, from other mirrors by which generation they serve. A project is synced at
// once then, and not only when its schedule says so.
//
// What is heard only hints: a sync looks itself and checks as ever, and what was not heard
// comes with the next look of the schedule. Hubs that several projects come from are
// followed once. Where it is not known what was missed, after the start for instance,
// every project of the hub is looked at.
//
// # On the disk
//
//	DIR/state/follow-….json    how far an upstream was followed
package events
