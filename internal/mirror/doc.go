// Package mirror is the role that holds whole copies of projects, keeps them up to date,
// and serves them.
//
//	project, presets   what a project is: a table of the configuration
//	schedule           when a project is synced
//	events             what upstreams tell of
//	   ▼
//	engine             one sync, step by step
//	   ├─► kind        what there must be, by the project's own metadata
//	   ├─► fetch       brings it, within a budget
//	   └─► generation  keeps it: versions that switch as a whole
//	   ▼
//	tell, reports      directors, mirrors downstream, operators
//	serve, rsyncd      clients; status: what everybody may know
//	plan               what a project will take, before
//	setup, desired     how a box becomes a mirror, and whom it follows
//	room               what fits on the disk, and what goes when it is full
//	checkup            what is wrong with the machine
//
// What a project consists of is taken from its own metadata, is fetched beside what is
// served, checked, and served in one step. Nothing is served that is not whole.
//
// # On the disk
//
//	DIR/projects/NAME/          generations and staging of a project               generation
//	DIR/objects/                each file once more, by its SHA-256                generation
//	DIR/state/schedule.json     when projects were synced, what waits, triggers    schedule
//	DIR/state/reports/          what came of syncs                                 reports
//	DIR/state/follow-*.json     how far upstreams were followed                    events
//	DIR/state/told-*.json       what directors know                                tell
//	DIR/state/desired.json      the last good desired state                        desired
//	DIR/state/verify-*.json     how far checks of all files are
//	DIR/state/damage-*.json     what they have found, until it is repaired
//	DIR/state/readers*          what clients were reading                          serve
//	DIR/state/disk.json         how full the disk was                              status
//	DIR/lock                    one mirror at a time
//
// # The listeners
//
// Orders come in on the admin listener (admin*.go), from clients that desk.go lets through;
// triggers on the public one (trigger.go), beside what serve answers.
package mirror
