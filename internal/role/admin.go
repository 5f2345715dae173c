package role

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health knows which roles of the process are ready. The zero value has none
// and is ready. Safe for concurrent use.
type Health struct {
	mu       sync.Mutex
	starting map[string]bool // roles that were added and are not ready yet
}

// Starting adds a role that is not ready until the returned function is called.
func (h *Health) Starting(name string) (ready func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.starting == nil {
		h.starting = make(map[string]bool)
	}
	h.starting[name] = true
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.starting, name)
	}
}

// Waiting lists the roles that are not ready, sorted.
func (h *Health) Waiting() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	names := make([]string, 0, len(h.starting))
	for name := range h.starting {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Admin is the handler of a process's admin listener: /-/healthy, /-/ready,
// /metrics and /debug/pprof. It must never be reachable by the public. Roles
// add their own to it, also while it serves; see [Env.Admin].
func Admin(health *Health, metrics prometheus.Gatherer) *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "For operators: /-/healthy /-/ready /metrics /debug/pprof/")
	})
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if waiting := health.Waiting(); len(waiting) > 0 {
			http.Error(w, "starting: "+strings.Join(waiting, ", "), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
