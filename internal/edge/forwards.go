package edge

import (
	"net/http"
	"strconv"
	"strings"
)

// lastHop counts a request down that says how often it may be forwarded, as
// TRACE and OPTIONS may (RFC 9110 §7.6.2). It reports true if this is as far as
// it goes. A field that is no number is left alone.
func lastHop(r *http.Request) bool {
	lines := r.Header["Max-Forwards"]
	if len(lines) != 1 || r.Method != http.MethodOptions && r.Method != http.MethodTrace {
		return false
	}
	n, err := strconv.ParseUint(strings.Trim(lines[0], " \t"), 10, 32)
	switch {
	case err != nil:
		return false
	case n == 0:
		return true
	}
	r.Header["Max-Forwards"] = []string{strconv.FormatUint(n-1, 10)}
	return false
}

// answerHere answers a request that goes no further: what this hop can do.
// TRACE is not: an echo of credentials is of use to thieves only.
func (rp *reply) answerHere() {
	const methods = "GET, HEAD, OPTIONS"
	rp.outcome = outcomePass
	h := rp.w.Header()
	h["Allow"] = []string{methods}
	h["Content-Length"] = []string{"0"}
	if rp.r.Method == http.MethodTrace {
		rp.start(http.StatusMethodNotAllowed)
		return
	}
	rp.start(http.StatusOK)
}
