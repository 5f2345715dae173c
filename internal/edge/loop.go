package edge

import (
	"crypto/rand"
	"net/http"
	"strings"
)

// loopField names every cache that a request came through (RFC 8586). Ours are
// "freshet;id=…", with an id that only those know who saw a request of ours.
const loopField = "Cdn-Loop"

const (
	// maxHops is how many caches of ours a request may come through.
	maxHops = 8
	// maxSharedHops is from how many on nobody else waits for its answer: the
	// next one might refuse it, and a client can write what it likes.
	maxSharedHops = 3
)

// newLoopID makes the id of a site of this process.
func newLoopID() string { return rand.Text()[:16] }

// hops counts the caches of ours that a request came through. looped says that
// this site was one of them.
func (s *site) hops(h http.Header) (n int, looped bool) {
	for _, line := range h[loopField] {
		for member := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(member, ";")
			if !strings.EqualFold(strings.TrimSpace(name), product) {
				continue
			}
			n++
			for param := range strings.SplitSeq(params, ";") {
				key, value, _ := strings.Cut(param, "=")
				if strings.TrimSpace(key) == "id" && strings.TrimSpace(value) == s.loopID {
					looped = true
				}
			}
		}
	}
	return n, looped
}

// mark adds this site to the caches that the client's request came through.
func (s *site) mark(h, client http.Header) {
	before := client[loopField]
	line := make([]string, 0, len(before)+1)
	h[loopField] = []string{strings.Join(append(append(line, before...), product+";id="+s.loopID), ", ")}
}
