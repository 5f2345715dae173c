// Package deltaworker makes static deltas for a hub on another machine.
//
// It takes one delta after the other by a lease (api/hubapi, deltawork.go), fetches
// the commits from the hub's repository, verifying each object, makes the delta
// with an engine of package deltas, uploads it, and hands it in. The hub verifies it
// and publishes it.
//
// # On disk
//
// Everything lies below one directory, which one worker uses at a time:
//
//	id          tells the hub that a worker was begun anew, and its former leases
//	            are over
//	lock        held while a worker runs
//	repo/       an archive repository without refs: what was fetched. What was not
//	            used for longest goes when it grows too large.
//	work/       deltas while they are made; emptied at the start
//	made/       deltas that are made and not yet accepted by the hub. When the same
//	            one is leased again, after the hub or the worker were restarted, it
//	            is uploaded and not made again.
//
// A worker may be killed at any moment. The hub gives the delta to the worker when it
// is back, or to somebody else when the lease has expired.
package deltaworker
