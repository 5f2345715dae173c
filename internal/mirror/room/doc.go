// Package room decides whether what is to come fits on the disk of a mirror, and what goes
// first when there is too little room.
//
//	free
//	├── reserve           stays free: limits.reserve
//	├── under way         what syncs that run have yet to write
//	├── planned           what old generations are going to take until their grace time is
//	│                     over: churn × grace, without what they take already
//	└── the rest          for new projects
//
// A sync of what is served already may use what is planned; the first one of a project
// may not. What goes, when that does not fit:
//
//  1. what interrupted syncs have fetched
//  2. old generations before their grace time is over, but for ten minutes
//  3. whole projects, of those that may be drained
//
// in each case of the projects with the lowest priority first, and for a sync of those
// whose priority is not above its own; nothing of what is served by a project that stays.
package room
