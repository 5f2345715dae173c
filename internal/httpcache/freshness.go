package httpcache

import (
	"net/http" //nolint:depguard // its Header type, status names and dates
	"strings"
	"time"
)

// heuristicMax bounds the guessed lifetime of a response without one.
const heuristicMax = 24 * time.Hour

// Storable reports whether a shared cache may store the response to a GET
// request (RFC 9111 §3). req and resp are the header fields of both, reqCC and
// respCC their parsed Cache-Control.
func Storable(req http.Header, reqCC Directives, status int, resp http.Header, respCC Directives) bool {
	switch {
	case status < 200 || status == http.StatusPartialContent || status == http.StatusNotModified:
		return false // partial content is not combined here (§3.3)
	case respCC.MustUnderstand && !understood(status):
		return false // §5.2.2.3
	case respCC.NoStore && !respCC.MustUnderstand:
		return false // §5.2.2.5; must-understand overrides it for those who do (§5.2.2.3)
	case reqCC.NoStore: // §5.2.1.5
		return false
	case respCC.Private: // §5.2.2.7
		return false
	case len(req["Authorization"]) > 0 && !AuthorizationStorable(respCC):
		return false
	}
	if _, any := VaryFields(resp); any {
		return false // it would match no request (§4.1)
	}
	_, explicit := explicitLifetime(resp, respCC)
	return explicit || respCC.Public || heuristic(status)
}

// AuthorizationStorable reports whether the answer to a request with an
// Authorization field may be stored for others (RFC 9111 §3.5).
func AuthorizationStorable(resp Directives) bool {
	return resp.MustRevalidate || resp.Public || resp.SMaxAge.Set
}

// understood tells the final status codes whose caching rules this package
// implements.
func understood(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// heuristic tells the status codes that RFC 9110 §15.1 defines as
// heuristically cacheable, apart from 206.
func heuristic(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// Lifetime is the freshness lifetime of a stored response in a shared cache
// (RFC 9111 §4.2.1). explicit is false if it was guessed from Last-Modified
// (§4.2.2). responseTime stands in for a missing Date.
func Lifetime(status int, h http.Header, cc Directives, responseTime time.Time) (lifetime time.Duration, explicit bool) {
	if d, ok := explicitLifetime(h, cc); ok {
		if d < 0 { // Expires without Date
			expires, _ := ParseDate(h["Expires"][0], responseTime)
			d = max(0, expires.Sub(responseTime))
		}
		return min(d, MaxDelta), true
	}
	if !heuristic(status) && !cc.Public {
		return 0, false
	}
	modified, ok := headerTime(h, "Last-Modified")
	if !ok {
		return 0, false
	}
	date, ok := headerTime(h, "Date")
	if !ok {
		date = responseTime
	}
	return min(max(0, date.Sub(modified)/10), heuristicMax), false
}

// explicitLifetime returns -1 for an Expires that needs the time of reception.
func explicitLifetime(h http.Header, cc Directives) (time.Duration, bool) {
	switch {
	case cc.SMaxAge.Set:
		return cc.SMaxAge.D, true
	case cc.MaxAge.Set:
		return cc.MaxAge.D, true
	}
	lines := h["Expires"]
	if len(lines) == 0 || cc.targeted {
		return 0, false
	}
	expires, ok := ParseDate(lines[0], time.Now())
	if !ok || len(lines) > 1 {
		return 0, true // "0" and the like are in the past (§5.3)
	}
	date, ok := headerTime(h, "Date")
	if !ok {
		return -1, true
	}
	return max(0, expires.Sub(date)), true
}

// InitialAge is corrected_initial_age of RFC 9111 §4.2.3: how old a response
// was when it arrived.
func InitialAge(h http.Header, requestTime, responseTime time.Time) time.Duration {
	var apparent time.Duration
	if date, ok := headerTime(h, "Date"); ok {
		apparent = max(0, responseTime.Sub(date))
	}
	return max(apparent, ageValue(h)+responseTime.Sub(requestTime))
}

// ageValue reads the Age field: the first member of the first line, ignored
// if it is not a number (RFC 9111 §5.1).
func ageValue(h http.Header) time.Duration {
	lines := h["Age"]
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(lines[0], ",")
	age, _ := parseSeconds(strings.Trim(first, " \t"))
	return age
}

// headerTime reads a field that holds an HTTP-date. Its century, where it has
// none, goes by the clock.
func headerTime(h http.Header, name string) (time.Time, bool) {
	lines := h[name]
	if len(lines) != 1 {
		return time.Time{}, false
	}
	return ParseDate(lines[0], time.Now())
}

// Freshness is what decides on the reuse of a stored response at some moment.
type Freshness struct {
	// Lifetime and Age are of this moment: the response is fresh while
	// Age < Lifetime.
	Lifetime, Age time.Duration
	// Revalidate and OnError are how long after Lifetime it may be used while
	// it is validated, and while the origin fails (RFC 5861). Zero forbids.
	Revalidate, OnError time.Duration
	// NoCache demands validation before every use (RFC 9111 §5.2.2.4).
	NoCache bool
}

// Reuse says what to do with a stored response.
type Reuse uint8

const (
	// Fresh says: use it.
	Fresh Reuse = iota
	// Stale says: use it, and validate it meanwhile.
	Stale
	// Validate says: ask the origin first.
	Validate
)

// Decide is the decision of RFC 9111 §4 for a request with the given
// directives (§5.2.1); pass the zero Directives to ignore what clients wish.
func (f Freshness) Decide(req Directives) Reuse {
	if f.NoCache || req.NoCache {
		return Validate
	}
	if req.MaxAge.Set && f.Age > req.MaxAge.D {
		return Validate // §5.2.1.1
	}
	remains := f.Lifetime - f.Age
	switch {
	case remains > 0 && (!req.MinFresh.Set || remains >= req.MinFresh.D):
		return Fresh
	case remains > 0: // §5.2.1.3
		return Validate
	case req.MinFresh.Set || req.MaxAge.Set && !req.MaxStale.Set && !req.maxStaleAny:
		return Validate
	case f.Revalidate > 0 && -remains < f.Revalidate:
		return Stale
	}
	return Validate
}

// UsableOnError reports whether the stored response may be used because the
// origin could not be asked or failed (RFC 9111 §4.2.4, RFC 5861 §4).
func (f Freshness) UsableOnError() bool {
	return !f.NoCache && f.OnError > 0 && f.Age-f.Lifetime < f.OnError
}

// StaleAllowed reports whether a response with these directives may be used
// stale at all (RFC 9111 §4.2.4). s-maxage forbids it (§5.2.2.10) unless the
// response itself asks for it by RFC 5861.
func (d Directives) StaleAllowed() bool {
	if d.MustRevalidate || d.ProxyRevalidate || d.NoCache {
		return false
	}
	return !d.SMaxAge.Set || d.StaleWhileRevalidate.Set || d.StaleIfError.Set
}
