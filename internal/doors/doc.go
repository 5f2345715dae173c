// Package doors is the way into a role from outside: its listeners, and the
// servers behind them.
//
//	listen, listen-tls ─ TCP, behind balancers or not (forwarded), with TLS or
//	   │                 not (certs), as one
//	   ├─► HTTP/1.1 by internal/h1, HTTP/2 by internal/h2: what is at hand is
//	   │   answered by an [h1.Handler], all else by an http.Handler
//	   │
//	UDP ─► HTTP/3, all of it by the http.Handler
//
// A role has the settings [Listeners] and [Limits] in its table, opens all doors
// or none ([Listeners.Open]), and serves behind them until it is told to stop
// ([Doors.Serve]).
package doors
