// Package probe finds out which mirrors work: each project of each mirror is looked at
// by http and by https, over IPv4 and over IPv6, as a client would.
//
//	catalogue ─► Prober ─► a goroutine for each way ─► look: a new connection, the canary,
//	                │                                    some of the pointers, files that
//	   reports ─────┤                                    were reported
//	   loads ───────┤                                       │
//	                ▼                                       ▼
//	             State  ◄──────────── judge: two bad looks, or three of ten, and it is
//	         (immutable)              out; so many good ones and a fresh inventory, and
//	                                  it is back
//
// # Promises
//
//   - A way that has stopped working is out within two minutes, however it fails:
//     also one that accepts connections and is silent, that sends a byte now and then,
//     that answers with other bytes, and that does so only every other time.
//   - Nobody is out because the director's own network fails: what could be that is
//     held against a mirror only after something else was reached.
//   - What others report is a reason to look, never a verdict.
//   - Readers take a State and wait for nothing.
//
// docs/director-health.md tells operators what is caught by what, and after how long.
package probe
