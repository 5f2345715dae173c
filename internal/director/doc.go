// Package director is the role that tells clients which mirrors to download from. It
// speaks the protocol of MirrorManager's mirrorlist-server, and can stand in its place:
//
//	GET …/metalink?repo=NAME&arch=ARCH     a metalink of the repository's repomd.xml
//	GET …/mirrorlist?repo=NAME&arch=ARCH   URLs, one on each line
//	GET …/mirrorlist?path=PATH&redirect    302 to one mirror
//
// # The way of a request
//
//	front ─ by the loop of internal/h1, or, for what that does not understand,
//	   │    by net/http
//	   ▼
//	lists ─ reads the parameters, finds directory and client, chooses mirrors,
//	        writes the answer: of data that does not change
//
// # The data
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
// # Promises
//
//   - Nothing is written but the log of requests for the statistics, if one is
//     configured, by lines that are appended whole.
//   - All that is needed is in memory: when files vanish, or those who make them do,
//     answers go on.
//   - No request makes the director ask anybody.
//   - The same data, request, time and seed make the same answer.
package director
