// Package edge is the caching front: it serves what an origin (a hub or any
// web server) has, from disk where it can, and tells the truth about what it
// cannot.
//
// # The way of a request
//
//	internal/doors ─ TCP, with TLS or not, behind proxies or not; HTTP/3, which
//	   │    goes straight to gated
//	   ▼
//	front ─ fresh hits, by the loops of internal/h1 and internal/h2; what
//	   │    is no hit goes on to gated from there, what they do not understand
//	   │    from net/http:
//	   ▼
//	gated ─ who the client is; access rules, HTTPS, robots.txt, health (gate);
//	   │    front asks the same rules
//	   ▼
//	ServeHTTP ─ site by host ─ path cleaned, policy of internal/layout, key
//	   │
//	   ├─ root of a set, or listed by one: fromSet ─ the generation shown, or a
//	   │     candidate: fetch, compare, fetch what is listed and used, show
//	   ├─ stored and fresh, or stale within bounds ───────────► fromEntry
//	   ├─ known to be missing, a moment ago ──────────────────► fromMemory
//	   ├─ not to be shared: known from before, Authorization ─► a flight alone
//	   └─ join a flight, or begin one, and wait for its verdict
//	          origin's header arrives: the verdict frees all who wait
//	          ├─ fill    body into the store, all read along ─► fromFill
//	          ├─ entry   304, or checked before it is shown ──► fromEntry
//	          │          a part of a long file, asked for in slices: what is
//	          │          missing comes by runs, one for each slice ► fromPartial
//	          ├─ memory  404, 410: kept for seconds ──────────► fromMemory
//	          ├─ alone   leader gets it, others ask themselves ► fromOrigin
//	          └─ error   stale copy if it may be used, else 5xx with the reason
//
// # Parts
//
//	diskcache  the store: answers on disk
//	gate       what stands before the cache of a site
//	turns      how much is asked of the origins at once, and who is next
//	upstream   origins: which is asked, by which connection, for how long
//
// # On disk
//
//	STORE/                    the answers: package diskcache
//	STORE/cursors/SITE.json   place in the hub's event log, up to which every
//	                          purge is applied and on disk
//
// docs/formats/edge-store.md draws them. Everything may be deleted while the
// edge does not run; it is fetched again.
//
// # Promises
//
//   - One fetch per object, however many want it. Who leaves takes nobody
//     along, and nobody is held by a fetch: a client's leaving, or the end of the
//     drain time, ends his request at once. An answer that cannot be shared frees those who waited for it as
//     soon as its header shows that, and is remembered as such for a minute.
//   - A body is stored only when it is whole: of the length announced, ended as
//     HTTP ends a body (where rules are on, the end of the connection is no such
//     end: it might have been cut), and, where its name tells a digest (OSTree metadata
//     objects, repodata/HASH-…, by-hash/…, summaries/HASH.gz), with that
//     digest. A client never gets a broken body as a complete one: the
//     connection is cut, or, for small verified bodies, another origin is asked
//     and, if there is none, the answer is 502.
//     A body that cannot be stored (larger than half the store, or the disk
//     refuses it, also in the middle) is checked on its way: its last piece is
//     kept back. An HTTP/1.0 client, for whom the end of the connection may be
//     that of the body, sees it break. What a client asked for in a content
//     coding, or as a part, is left to its own check.
//   - When the store refuses a body in its middle, whoever reads along gets the
//     rest as well, through a bounded window in memory, at the pace of the
//     slowest; one that takes nothing for 30 s while others wait is cut.
//   - A part of a long file costs the slices it lies in, not the file: of one
//     that has no digest in its name, belongs to no set, is 8 MiB or longer, has
//     a strong validator, and of which nothing is on its way as a whole. Each
//     slice is fetched once, kept, and found again after a restart; when nobody
//     reads any more, no further ones are fetched. A part that begins more than
//     16 MiB ahead of a whole on its way is had for its client alone; of such a
//     whole whose last reader leaves before its half, the slices are kept. All of them
//     are of one file: when the origin has another, who has seen the header is
//     cut with the reason "changed", and everybody else gets the new one. What
//     the store does not take is passed on. An origin whose parts are of no use
//     is asked for the whole.
//   - The root files of a set (summary and its signature, repomd.xml, InRelease,
//     a database of pacman and its signature, …) are shown together, and with
//     what they list: who reads one of them over a connection, or several at
//     the same time, gets the others of the same publish. What does not fit, or is not signed by a key that
//     is configured, is not shown; docs/sets.md.
//   - Stale metadata of apt is not used after its Valid-Until. Metadata named by
//     its content stays for a week although the origin deletes it.
//   - The key is the site and the whole path, with its query where no rule
//     applies. Two repositories never share an object.
//   - Errors are not stored, and missing files for seconds only; where HTTP alone
//     decides (rules = "none"), as long as the origin says, but never in the
//     place of something better. While the origin is away, what is stored is served
//     within its bounds with an honest Age; what is not is answered 502 or 504
//     with the reason, never 404. One word per reason stands in Proxy-Status,
//     Freshet-Reason, the log and the metrics.
//   - A purge meets everything it names in one step, also fetches under way, and
//     variants that no list has; it is durable before its answer, and costs the
//     same for one answer as for a million. What is purged hard is never used
//     again.
//   - An event of the hub makes all the paths it names stale in one step, also
//     for fetches under way, and this survives a crash. While something may
//     have been missed, nothing that an event could change counts as fresh;
//     while the hub is away, only its short lifetime does.
//   - Where rules apply, nothing a client sends but path, Range and conditions
//     has an effect on what is fetched or stored; for unknown files of such a
//     site, the fields of negotiation have. What is fetched in the background
//     is fetched for nobody: without credentials.
//   - Where HTTP alone decides, RFC 9111 does, with CDN-Cache-Control (RFC 9213)
//     before Cache-Control. The tests are a list of its statements.
package edge
