package mirror

import (
	"net/http"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/forwarded"
	"freshet/internal/h1"
)

// public is the handler of the public listener. Paths come as they are: no multiplexer
// cleans them on the way.
func (m *mirror) public(site http.Handler) http.Handler {
	triggers := m.triggers()
	return bounded(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		forwarded.Resolve(r, m.now.Load().trusted)
		if r.Method == http.MethodPost && r.URL.Path == mirrorapi.TriggerPath {
			triggers.ServeHTTP(w, r)
			return
		}
		site.ServeHTTP(w, r)
	}))
}

// bodyTime is how long the body of a request may take to come. That of a trigger is short, and no other
// request has a reason to have one.
const bodyTime = 30 * time.Second

// bounded ends what waits for a body that does not come: the server waits for it too, before it sends
// an answer.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTime)) // where that can be
		}
		next.ServeHTTP(w, r)
	})
}

// behind puts the client in the place of a trusted proxy before a request is answered.
type behind struct {
	h1.Watcher
	m *mirror
}

// Answer implements [h1.Handler].
func (b behind) Answer(req *h1.Request, res *h1.Response) bool {
	if trusted := b.m.now.Load().trusted; len(trusted) > 0 {
		forwarded.ResolveReady(req, trusted)
	}
	return b.Watcher.Answer(req, res)
}
