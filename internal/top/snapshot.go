package top

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// rate is how often something happens.
type rate struct {
	name      string
	perSecond float64
}

// span is two quantiles; known says whether there is anything to know.
type span struct {
	p50, p99 time.Duration
	known    bool
}

func spanOf(list []bucket) span {
	p50, ok := quantile(list, 0.5)
	p99, _ := quantile(list, 0.99)
	return span{p50, p99, ok}
}

// outcome is how requests were answered in one of the ways there are.
type outcome struct {
	name            string
	requests, bytes float64 // per second
	firstByte, took span
}

// fill is how full something is.
type fill struct {
	name        string
	used, limit float64 // bytes; limit is 0 if there is none
}

// origin is how a server that is asked is doing.
type origin struct {
	name     string
	inFlight float64
	health   string // "up", "down", or nothing
	failing  []rate // by reason, most first
}

// site is how far the edge is behind a hub.
type site struct {
	name      string
	following bool
	lag       float64
}

// snapshot is what happened between two samples, and how things stand at the
// second.
type snapshot struct {
	outcomes        []outcome
	requests, bytes float64 // per second
	// hitObjects and hitBytes are the parts that were answered without asking
	// an origin, or along with another request; NaN if there was nothing.
	hitObjects, hitBytes float64

	errors, fetches []rate // by reason, most first
	origins         []origin
	upstream        span // first byte
	store           fill
	entries         float64
	failing         bool
	short           float64 // bytes the disk lacks for the store
	pools           []fill
	sites           []site
	open, accepted  float64 // connections, and new ones per second
	dropped         float64 // lines of the access log
	uptime          time.Duration
}

// names of outcomes, in the order they are shown.
func outcomeNames() []string {
	return []string{"hit", "hit-stale", "join", "miss", "pass", "error", "own"}
}

// between works out what happened from before to now.
func between(before, now *sample) *snapshot {
	seconds := now.at.Sub(before.at).Seconds()
	s := &snapshot{hitObjects: math.NaN(), hitBytes: math.NaN()}
	requests, errors := make(map[string]float64), make(map[string]float64)
	for name, n := range rates(before, now, "freshet_edge_requests_total", "outcome", seconds) {
		short, reason, failed := strings.Cut(name, ":")
		requests[short] += n
		if failed {
			errors[reason] += n
		}
	}
	bytes := rates(before, now, "freshet_edge_response_bytes_total", "outcome", seconds)
	var hits, hitBytes float64
	for _, name := range outcomeNames() {
		of := func(metric string) span {
			return spanOf(since(now.histogram(metric, "outcome", name), before.histogram(metric, "outcome", name)))
		}
		s.outcomes = append(s.outcomes, outcome{
			name: name, requests: requests[name], bytes: bytes[name],
			firstByte: of("freshet_edge_first_byte_seconds"), took: of("freshet_edge_request_seconds"),
		})
		s.requests += requests[name]
		s.bytes += bytes[name]
		switch name {
		case "hit", "hit-stale", "join":
			hits += requests[name]
			hitBytes += bytes[name]
		}
	}
	if s.requests > 0 {
		s.hitObjects = hits / s.requests
	}
	if s.bytes > 0 {
		s.hitBytes = hitBytes / s.bytes
	}
	s.errors = sorted(errors)
	s.fetches = sorted(rates(before, now, "freshet_edge_fetches_total", "result", seconds))
	const upstream = "freshet_edge_upstream_seconds"
	s.upstream = spanOf(since(now.histogram(upstream, "phase", "first_byte"), before.histogram(upstream, "phase", "first_byte")))
	s.origins = origins(before, now, seconds)
	s.store = fill{"", now.total("freshet_edge_store_bytes"), now.total("freshet_edge_store_limit_bytes")}
	s.entries = now.total("freshet_edge_store_entries")
	s.failing = now.total("freshet_edge_store_failing") > 0
	s.short = now.total("freshet_edge_store_disk_short_bytes")
	shares := now.sum("freshet_edge_store_pool_share_bytes", "pool")
	for _, m := range now.metrics("freshet_edge_store_pool_bytes") {
		name := label(m, "pool")
		s.pools = append(s.pools, fill{name, value(m), shares[name]})
	}
	lag := now.sum("freshet_edge_event_lag", "site")
	following := now.sum("freshet_edge_following", "site")
	for _, name := range slices.Sorted(maps.Keys(following)) {
		s.sites = append(s.sites, site{name, following[name] > 0, lag[name]})
	}
	s.open = now.total("freshet_http_connections")
	s.accepted = rates(before, now, "freshet_http_connections_total", "", seconds)[""]
	s.dropped = now.total("freshet_access_log_dropped_lines_total")
	if begun := now.total("process_start_time_seconds"); begun > 0 {
		s.uptime = now.at.Sub(time.Unix(int64(begun), 0))
	}
	return s
}

// origins lists those that the edge tells of.
func origins(before, now *sample, seconds float64) []origin {
	name := func(parts ...string) string {
		return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
	}
	list := make(map[string]origin)
	for _, m := range now.metrics("freshet_edge_origin_in_flight") {
		n := name(label(m, "site"), label(m, "origin"))
		list[n] = origin{name: n, inFlight: value(m)}
	}
	for _, m := range now.metrics("freshet_edge_origin_up") {
		n := name(label(m, "site"), label(m, "origin"))
		o := list[n]
		o.name, o.health = n, "down"
		if value(m) > 0 {
			o.health = "up"
		}
		list[n] = o
	}
	const failures = "freshet_edge_origin_failures_total"
	failing := make(map[string]map[string]float64)
	old := make(map[[3]string]float64)
	key := func(m *dto.Metric) [3]string {
		return [3]string{label(m, "site"), label(m, "origin"), label(m, "reason")}
	}
	for _, m := range before.metrics(failures) {
		old[key(m)] = value(m)
	}
	for _, m := range now.metrics(failures) {
		k, n := key(m), value(m)
		if n >= old[k] {
			n -= old[k]
		}
		of := name(k[0], k[1])
		if failing[of] == nil {
			failing[of] = make(map[string]float64)
		}
		if seconds > 0 {
			failing[of][k[2]] += n / seconds
		}
	}
	for n, o := range list {
		o.failing = sorted(failing[n])
		list[n] = o
	}
	return slices.SortedFunc(maps.Values(list), func(a, b origin) int { return cmp.Compare(a.name, b.name) })
}

// rates works out how fast a counter grows, by a label. A counter that is less
// than before began anew.
func rates(before, now *sample, name, by string, seconds float64) map[string]float64 {
	out, old := now.sum(name, by), before.sum(name, by)
	for key, n := range out {
		if n >= old[key] {
			n -= old[key]
		}
		out[key] = 0
		if seconds > 0 {
			out[key] = n / seconds
		}
	}
	return out
}

// sorted lists what happens at all, most first.
func sorted(m map[string]float64) []rate {
	var list []rate
	for name, n := range m {
		if n > 0 {
			list = append(list, rate{name, n})
		}
	}
	slices.SortFunc(list, func(a, b rate) int {
		return cmp.Or(cmp.Compare(b.perSecond, a.perSecond), cmp.Compare(a.name, b.name))
	})
	return list
}
