package scan

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
	"freshet/internal/role"
	"freshet/internal/rsync"
)

// Options are what a Scanner is made of. Catalogue and Inventory are needed.
type Options struct {
	// Catalogue says what there is to scan.
	Catalogue Catalogue
	// Inventory is what scans keep.
	Inventory *inventory.Inventory
	// Rsync says which rsync is run.
	Rsync rsync.Options
	// Transport is how web servers are asked. Nil: that of package http, without a proxy
	// of the environment.
	Transport http.RoundTripper
	// PushedOnly reads nothing: only manifests that are pushed count.
	PushedOnly bool
	// Followed says that somebody else keeps the inventory: nothing is read, and no
	// manifest taken. What is too old is not used, here as well.
	Followed bool
	// Told is told of listings and manifests that counted. Nil: nobody is.
	Told Listener
	// AtOnce is how many scans run at once; 0: 8.
	AtOnce int
	// MaxAge is how long what is known of a mirror is used after the last scan that
	// succeeded, or the last push; 0: a day.
	MaxAge time.Duration
	// Longest is how long one scan may take; 0: six hours.
	Longest time.Duration
	// Rate is how many requests a second one web server is asked, by up to 4 connections;
	// 0: 50.
	Rate int
	// Log receives what fails, and what works again. Nil: discarded.
	Log *slog.Logger
	// Metrics is where metrics are registered. Nil: nowhere.
	Metrics prometheus.Registerer
}

// Listener is told what listings and manifests have changed. It must not wait.
type Listener interface {
	// Pointers returns the paths in a project that Listed is to be told of.
	Pointers(project string) []string
	// Listed tells how a mirror's pointers are listed, and when that was begun. If it was
	// all of the mirror's files, it has none of those that are not found; otherwise these
	// are as they were.
	Listed(mirror, project string, all bool, found map[string]inventory.Entry, at time.Time)
	// Heard tells that a mirror, or the origin, was listed or has told what it has.
	Heard(mirror, project string)
}

// Catalogue is what operators say of mirrors.
type Catalogue interface {
	// Current returns the catalogue, which nobody changes.
	Current() *directorapi.Catalogue
	// Changed returns a channel that is closed when there is a newer one than Current
	// returns.
	Changed() <-chan struct{}
}

const (
	defaultAtOnce  = 8
	defaultMaxAge  = 24 * time.Hour
	defaultLongest = 6 * time.Hour
	defaultRate    = 50
)

func (o Options) withDefaults() Options {
	o.AtOnce = cmp.Or(o.AtOnce, defaultAtOnce)
	o.MaxAge = cmp.Or(o.MaxAge, defaultMaxAge)
	o.Longest = cmp.Or(o.Longest, defaultLongest)
	o.Rate = cmp.Or(o.Rate, defaultRate)
	if o.Transport == nil {
		o.Transport = role.NewTransport((&net.Dialer{Timeout: role.ConnectTimeout}).DialContext)
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// Scanner scans what a catalogue names. All methods may be called concurrently.
type Scanner struct {
	o       Options
	metrics *metrics
	wake    chan struct{} // has room for one: something may be due
	scans   sync.WaitGroup
	samples int           // see checks
	hashing chan struct{} // has room for whoever hashes

	mu    sync.Mutex
	tasks map[key]*task
}

// New returns a Scanner, which does nothing before Run.
func New(o Options) *Scanner {
	return &Scanner{
		o: o.withDefaults(), metrics: newMetrics(o.Metrics),
		samples: defaultSamples, hashing: make(chan struct{}, 1), tasks: make(map[key]*task), wake: make(chan struct{}, 1),
	}
}

// Run scans until ctx ends; then it ends all scans and returns nil. It can be called once.
func (s *Scanner) Run(ctx context.Context) error {
	defer s.scans.Wait()
	var adopted *directorapi.Catalogue
	for {
		changed := s.o.Catalogue.Changed()
		if c := s.o.Catalogue.Current(); c != adopted {
			s.adopt(ctx, c)
			adopted = c
		}
		timer := time.NewTimer(time.Until(s.work(ctx)))
		select {
		case <-timer.C:
		case <-changed:
		case <-s.wake:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		timer.Stop()
	}
}

// stir lets Run look at what is due.
func (s *Scanner) stir() {
	select {
	case s.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Hasten has a mirror scanned as soon as may be: now, if the last scan began more than a
// minute ago. The mirror "" is the origin; the project "" is all that the mirror carries.
// Why is told in the status. It does not wait. It is false if there is nothing to scan.
func (s *Scanner) Hasten(mirror, project, why string) bool {
	s.mu.Lock()
	found := false
	for k, t := range s.tasks {
		if k.mirror == mirror && (project == "" || k.project == project) && !t.target.pushed() {
			t.hasten(why)
			found = true
		}
	}
	s.mu.Unlock()
	s.stir()
	return found
}

// Status is what is known of the scans of a mirror, or of the origin (mirror ""). It is
// false if the mirror is not known to carry the project.
func (s *Scanner) Status(mirror, project string) (directorapi.ScanStatus, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.tasks[key{mirror, project}]
	if !ok {
		return directorapi.ScanStatus{}, false
	}
	return s.statusOf(t), true
}

// Statuses returns those of a mirror, of a project, or of both, sorted by project and
// then by mirror, origins first; "" is any, so all of them are Statuses("", "").
func (s *Scanner) Statuses(mirror, project string) []directorapi.ScanStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []directorapi.ScanStatus
	for k, t := range s.tasks {
		if (mirror == "" || k.mirror == mirror) && (project == "" || k.project == project) {
			all = append(all, s.statusOf(t))
		}
	}
	slices.SortFunc(all, func(a, b directorapi.ScanStatus) int {
		return cmp.Or(cmp.Compare(a.Project, b.Project), cmp.Compare(a.Mirror, b.Mirror))
	})
	return all
}

// Updated is when the last scan began that told the whole of what a mirror has; zero if
// there was none, or if it is too old to be used.
func (s *Scanner) Updated(mirror, project string) time.Time {
	return s.standing(key{mirror, project}).Updated
}

// standing is what the inventory knows.
func (s *Scanner) standing(k key) inventory.Standing {
	h, ok := s.o.Inventory.Lookup(k.mirror)
	if !ok {
		return inventory.Standing{}
	}
	return s.o.Inventory.Project(k.project).View().Standing(h)
}
