// Package director is the role that tells clients which mirrors to download from, in two
// ways.
//
// It speaks the protocol of MirrorManager's mirrorlist-server, and can stand in its place:
//
//	GET …/metalink?repo=NAME&arch=ARCH     a metalink of the repository's repomd.xml
//	GET …/mirrorlist?repo=NAME&arch=ARCH   URLs, one on each line
//	GET …/mirrorlist?path=PATH&redirect    302 to one mirror
//
// And it sends whoever asks for a file of a project to a mirror that has it:
//
//	GET /PROJECT/PATH                      302 to a mirror, or to the origin
//
// # The way of a request
//
//	sitePages ─ /-/ is pages for everybody                      status
//	   ▼
//	split ─ what is in a project, and what is not
//	   │
//	   ├─► redirects ─► redirect: path, form, answer
//	   │                   └─► network: who has the file        inventory, versions
//	   │                          └─► choice: in which order    probe, headroom, geoip
//	   │
//	   └─► front ─► lists: reads the parameters, finds directory and client, chooses
//	                mirrors, writes the answer: of data that does not change
//
// Each answers by the loop of internal/h1 or, for what that does not understand, by
// net/http.
//
// # The data of lists
//
//	mirrorlist_cache.proto   which mirror has what     internal/mirrorlist
//	*.mmdb                   country of an address     internal/geoip
//	global_netblocks.txt     network of an address     internal/geoip
//	country_continent.csv    continent of a country    internal/geoip
//
// The files are looked at every few seconds (inputs.go). One that has changed, and has
// then stayed as it is for one look, is read beside the running service, and all is
// exchanged in one step; each answer is made of one state of all. A file that cannot
// be used, or a snapshot that has lost more than half of its directories, changes
// nothing, and is told of.
//
// # The data of redirects
//
//	catalogue   who there is, by what operators say     internal/director/catalogue
//	inventory   who has which file                      internal/inventory
//	scan        keeps the inventory true                internal/director/scan
//	share       has it from another director            internal/director/share
//	hubs        tell at once of new versions            internal/director/hubs
//	versions    who has all of a repository's version   internal/director/versions
//	probe       who works                               internal/director/probe
//
// They run beside answering (redirector.go), and are put together whenever catalogue,
// health, load or location data change; inventory and versions answer each request by
// their newest state.
//
// # Promises
//
//   - Nothing is written but what is found out, in the state folder, and the log of
//     requests for the statistics, if one is configured, by lines that are appended whole.
//   - All that is needed is in memory: when files, origins or databases vanish, answers
//     go on.
//   - No request makes the director ask anybody.
//   - The same data, request, time and seed make the same answer.
package director
