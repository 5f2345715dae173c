// Package telemetry tells a watch what a role has served and what it holds.
//
//	request ends ─ Note ─► a list, one for each processor: an append, and nothing waits
//	                          │ several times a second
//	                          ▼
//	        one goroutine: what is it? (place, agent, country) ─► cubes
//	                          │ every five seconds, what was added to them
//	                          ▼
//	                  spool: a batch, durable ─► watch: acknowledged ─► removed
//
// # Promises
//
//   - A request never waits. When lists are full, what it served is counted all the same,
//     without what kind of thing it was.
//   - What is in the spool is counted by a watch once, however often the power fails, the
//     network breaks, or the process is killed. What is not in it yet is lost with the
//     process: at most the last five seconds ([Config.Every]), and of transfers under way
//     what went out in the last ten.
//   - Addresses stay in memory, for less than that time, and go nowhere.
//   - Labels are of closed sets. What is not in them is "other". On top of that the number of
//     label sets is bounded, to 10,000 in a day.
package telemetry
