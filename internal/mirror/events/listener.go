package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/fetch"
)

// Project is a project, and where it comes from.
type Project struct {
	Name string
	// Upstreams are its URLs; those at which nobody tells of changes are passed over.
	Upstreams []string
}

// Sync is a sync that waits, runs or has ended.
type Sync interface {
	// Done is closed when it has ended.
	Done() <-chan struct{}
	// Report is what came of it. It is called after Done.
	Report() mirrorapi.Report
}

// Options are those of a [Listener]. Log may be left out.
type Options struct {
	Projects []Project
	// Sync has a project synced soon, at a moment of the mirror's own; by says who told of
	// something new. Within a longer time if nobody has, and it is only not known whether
	// there is. When it returns without an error, that is kept over restarts. A nil Sync
	// stands for one that is not wanted.
	Sync func(project, by string, perhaps bool) (Sync, error)
	// State is the folder for how far upstreams were followed.
	State durable.Dir
	// HTTP asks upstreams.
	HTTP *http.Client
	Log  *slog.Logger
}

// Listener follows the upstreams of projects. It is made by [New]; its methods may be
// called by several goroutines at once.
type Listener struct {
	o       Options
	hubs    []*hub
	mirrors []*mirror
	wards   map[string][]*ward // by project
	running sync.WaitGroup
}

// ward is an upstream of a project that is followed.
type ward struct {
	project string
	path    string // at a hub, or the name of the project at a mirror

	mu      sync.Mutex
	st      mirrorapi.Followed
	waiting bool // for the end of a sync, to look again
}

// New returns a listener that hears nothing before Run. URLs were checked.
func New(o Options) *Listener {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Listener{o: o, wards: make(map[string][]*ward)}
	for _, p := range o.Projects {
		for _, text := range p.Upstreams {
			teller, plain := fetch.Split(text)
			u, err := url.Parse(plain)
			if err != nil {
				continue // it was checked
			}
			w := &ward{project: p.Name, st: mirrorapi.Followed{Upstream: text, State: mirrorapi.FollowCatchingUp, Since: time.Now().UTC()}}
			switch teller {
			case fetch.Hub:
				root, path, _ := fetch.SplitHub(u) // it was checked
				w.path = path
				l.hubAt(root, u.Host).add(w)
			case fetch.Mirror:
				root, name := fetch.SplitMirror(u)
				w.path = name
				l.mirrors = append(l.mirrors, &mirror{l: l, ward: w, root: root, host: u.Host})
			case fetch.Nobody:
				continue
			}
			l.wards[p.Name] = append(l.wards[p.Name], w)
		}
	}
	return l
}

// Run follows until ctx ends. It is called once.
func (l *Listener) Run(ctx context.Context) {
	for _, h := range l.hubs {
		l.running.Go(func() { h.run(ctx) })
	}
	for _, m := range l.mirrors {
		l.running.Go(func() { m.run(ctx) })
	}
	l.running.Wait()
}

// Follows tells how the upstreams of a project are followed, in the order of its list.
func (l *Listener) Follows(project string) []mirrorapi.Followed {
	list := make([]mirrorapi.Followed, 0, len(l.wards[project]))
	for _, w := range l.wards[project] {
		w.mu.Lock()
		list = append(list, w.st)
		w.mu.Unlock()
	}
	return list
}

// set notes how the upstream is followed.
func (w *ward) set(s mirrorapi.FollowState, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now().UTC()
	if w.st.State != s {
		w.st.State, w.st.Since = s, now
	}
	w.st.Error = ""
	if why != nil {
		w.st.Error = why.Error()
	}
}

// at notes how far it was followed.
func (w *ward) at(position string, behind int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.st.Position, w.st.Behind, w.st.Heard = position, behind, time.Now().UTC()
}

func (w *ward) counted() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.st.Events++
}

func (l *Listener) hubAt(root, host string) *hub {
	i := slices.IndexFunc(l.hubs, func(h *hub) bool { return h.root == root })
	if i < 0 {
		i = len(l.hubs)
		l.hubs = append(l.hubs, &hub{l: l, root: root, host: host})
	}
	return l.hubs[i]
}

// stateFile is the name of the file for how far somebody was followed.
func stateFile(who string) string {
	sum := sha256.Sum256([]byte(who))
	return "follow-" + hex.EncodeToString(sum[:8]) + ".json"
}

// pace is the least time from one thing that an upstream tells to the next: whoever tells
// without end has neither the disk nor the network of the mirror for himself.
const pace = 500 * time.Millisecond

// Waits after failures in a row.
const (
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
)

// backOff is how long to wait after so many failures in a row, from 1: longer each time,
// and never as long as others do.
func backOff(failures int) time.Duration {
	wait := min(firstPause<<min(failures-1, 16), maxPause)
	return wait/2 + rand.N(wait/2)
}
