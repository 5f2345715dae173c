// Package handover lets one process take over from another, most often one of a newer
// program, without a connection that is refused or cut:
//
//	old process                          new process
//	───────────                          ───────────
//	order (freshet upgrade)
//	starts the new one, which has ─────► reads its configuration
//	the listening sockets too              prepared ◄─┘ or it ends, and that was all
//	  roles end their work of
//	  their own accord, stop accepting,
//	  give back what only one may have
//	go ────────────────────────────────► runs its roles with these sockets
//	                                       ready ◄─┘ or it fails: the old one kills it,
//	                                                 and runs its roles anew
//	yours ─────────────────────────────► is the service from now on
//	ends the transfers under way, exits
//
// What arrives while nobody accepts waits in the kernel: the sockets are open all the time.
// The two speak by lines over a pair of sockets ([Heir], [Predecessor]); orders come over a
// socket in the abstract namespace of unix(7), whose name has the process id, from root or
// the user of the process ([Order]).
//
// The new process is a child of the old one's parent, not of the old one: a service
// manager that waits for its children hears of its end.
package handover
