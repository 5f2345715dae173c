package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
	"freshet/internal/ostree"
	"freshet/internal/pause"
)

const (
	// leadName is what one of the hubs leads that share a directory: all that moves
	// pointers, and what has its state in one process.
	leadName = "publishing"
	// beatTimeout bounds how long the database may take for a sign of life.
	beatTimeout = 5 * time.Second
	// leaveTimeout bounds how long a hub that stops waits for the database.
	leaveTimeout = 3 * time.Second
)

// fleet is what a hub knows of those that share the directory with it. The zero
// value is that of a hub alone.
type fleet struct {
	// leader is the hub that publishes, nil while nobody does.
	leader atomic.Pointer[leader]
	// treesOpen is set while the trees can be used.
	treesOpen atomic.Bool
	metrics   *fleetMetrics
	// direct is the way to the leader. No proxy is on it: what is passed on has the
	// tokens of clients.
	direct *http.Transport
}

// newDirect returns the way to leaders.
func newDirect() *http.Transport {
	return &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     time.Minute,
	}
}

type leader struct {
	name, address string
	self          bool // this hub
}

type fleetMetrics struct {
	members, leads prometheus.Gauge
}

func newFleetMetrics(reg prometheus.Registerer) *fleetMetrics {
	m := &fleetMetrics{
		members: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_hub_members",
			Help: "Hubs that share the directory and give signs of life, this one included; 0 while the database is away.",
		}),
		leads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "freshet_hub_leads",
			Help: "1 while this hub publishes for those that share the directory: alert when the sum over all is not 1 for a minute.",
		}),
	}
	reg.MustRegister(m.members, m.leads)
	return m
}

// share is the life of a hub among others, until stop ends: whenever they took it
// for dead, it ends all that it was doing and begins anew.
func (s *server) share(jobs, stop context.Context) {
	for stop.Err() == nil {
		err := s.era(jobs, stop)
		if err == nil {
			continue // it stops
		}
		s.fleet.leader.Store(nil)
		s.fleet.metrics.members.Set(0)
		if errors.Is(err, catalog.ErrBuried) {
			s.log.WarnContext(stop, "the other hubs took this one for dead; it begins anew", slog.Any("error", err))
		} else {
			s.log.ErrorContext(stop, "cannot join the other hubs", slog.Any("error", err))
			s.commits.hold(waitsForDatabase, err)
			for _, q := range s.queues {
				q.hold(waitsForDatabase, err)
			}
		}
		s.pause(beatPause)
	}
}

// era is the time in which the others count this hub as one.
func (s *server) era(jobs, stop context.Context) error {
	if err := s.catalog.Join(stop, s.address); err != nil {
		return err
	}
	s.resumeQueues()
	jobs, cancel := context.WithCancelCause(jobs)
	defer cancel(nil)
	stop, end := context.WithCancel(stop)
	defer end()
	var building errgroup.Group
	s.startBuilding(jobs, stop, &building)
	e := era{server: s, jobs: jobs, stop: stop}
	err := e.watch(stop)
	if err != nil {
		cancel(err)
	}
	end()
	e.resign()
	_ = building.Wait() // its functions return no errors
	if err != nil {
		return err
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(stop), leaveTimeout)
	defer done()
	if err := s.catalog.Leave(ctx); err != nil {
		s.log.WarnContext(ctx, "the other hubs will take this one for dead", slog.Any("error", err))
	}
	return nil
}

// resumeQueues forgets what the queues waited for: whoever works on them finds out.
func (s *server) resumeQueues() {
	s.commits.resume()
	for _, q := range s.queues {
		q.resume()
	}
}

// era is one era, as the goroutine sees it that watches the others.
type era struct {
	*server
	jobs, stop context.Context //nolint:containedctx // the life of the era, not of a call
	vigil      vigil
	reign      *reign // nil: this hub does not lead
	away       bool   // the database is
}

// watch gives signs of life until stop ends, or the others took this hub for dead.
func (e *era) watch(stop context.Context) error {
	ticker := time.NewTicker(beatPause)
	defer ticker.Stop()
	for {
		if err := e.look(stop); err != nil {
			return err
		}
		select {
		case <-stop.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// look gives a sign of life and does what the state of the others asks for. The
// error is [catalog.ErrBuried]; all others pass.
func (e *era) look(stop context.Context) error {
	ctx, done := context.WithTimeout(stop, beatTimeout)
	defer done()
	members, leads, err := e.catalog.Beat(ctx)
	if errors.Is(err, catalog.ErrBuried) {
		return err
	}
	if err == nil {
		err = e.conclude(ctx, members, leads)
	}
	if errors.Is(err, catalog.ErrBuried) {
		return err
	}
	if err != nil && stop.Err() == nil && !e.away {
		e.log.ErrorContext(stop, "the other hubs get no sign of life", slog.Any("error", err))
	}
	if e.away = err != nil; e.away {
		e.fleet.metrics.members.Set(0)
	}
	return nil
}

// conclude buries the dead, ends a lead that is lost and takes one that is free.
func (e *era) conclude(ctx context.Context, members []catalog.Member, leads []catalog.Lead) error {
	e.fleet.metrics.members.Set(float64(len(members)))
	for _, dead := range e.vigil.gone(time.Now(), members) {
		found, buried, err := e.catalog.Bury(ctx, dead)
		if err != nil {
			return err
		}
		if buried {
			e.log.WarnContext(ctx, "another hub is taken for dead", slog.String("hub", dead.Name), slog.Int("jobs", len(found.Requeued)))
			members = slices.DeleteFunc(members, func(m catalog.Member) bool { return m.Boot == dead.Boot })
		}
	}
	var now catalog.Lead
	if i := slices.IndexFunc(leads, func(l catalog.Lead) bool { return l.Name == leadName }); i >= 0 {
		now = leads[i]
	}
	holder := slices.IndexFunc(members, func(m catalog.Member) bool { return m.Boot == now.Holder })
	if e.reign != nil && (now.Holder != e.catalog.Boot() || now.Fence != e.reign.fence || e.reign.over()) {
		e.resign()
		holder = -1
	}
	if holder >= 0 && e.reign == nil && now.Holder != e.catalog.Boot() {
		e.fleet.leader.Store(&leader{name: members[holder].Name, address: members[holder].Address})
		return nil
	}
	if e.reign != nil {
		return nil
	}
	e.fleet.leader.Store(nil)
	newest, err := e.newestFence(ctx)
	if err != nil {
		return err
	}
	fence, taken, err := e.catalog.TakeLead(ctx, leadName, newest)
	if err != nil || !taken {
		return err
	}
	e.log.WarnContext(ctx, "this hub publishes from now on", slog.Int64("fence", fence))
	e.reign = e.begin(e.jobs, e.stop, fence) //nolint:contextcheck // ctx is that of one look
	return nil
}

// resign ends the reign, if there is one, and waits for its end.
func (e *era) resign() {
	if e.reign != nil {
		e.reign.resign()
		e.reign = nil
	}
}

// newestFence is the highest fencing number that a repository knows.
func (s *server) newestFence(ctx context.Context) (newest int64, err error) {
	for _, repo := range s.repos {
		fence, err := repo.Fence(ctx)
		if err != nil {
			return 0, err
		}
		newest = max(newest, fence)
	}
	return newest, nil
}

// follow keeps what this hub knows of the repositories up to date with what the
// others publish, until stop ends. It begins after the event with the serial.
func (s *server) follow(stop context.Context, serial int64) {
	for stop.Err() == nil {
		changed, poll := s.catalog.EventsChanged(), idlePoll
		page, err := s.catalog.Events(stop, serial, followed)
		if err == nil {
			err = s.learn(stop, page.Events)
		}
		if err != nil {
			if stop.Err() == nil {
				s.log.WarnContext(stop, "cannot follow what other hubs publish", slog.Any("error", err))
			}
			changed, poll = nil, time.Second
		} else if len(page.Events) > 0 {
			serial = page.Events[len(page.Events)-1].Serial
			s.metrics.eventHead.Set(float64(serial))
			continue
		}
		pause.Until(stop, changed, poll)
	}
}

// followed bounds the events that are looked at together.
const followed = 100

// learn takes in what events tell of refs.
func (s *server) learn(ctx context.Context, events []hubapi.Event) error {
	refs := make(map[string]map[string]bool) // by repository
	for _, event := range events {
		if _, exists := s.repos[event.Repo]; !exists || event.Kind != hubapi.EventPublish {
			continue
		}
		if refs[event.Repo] == nil {
			refs[event.Repo] = make(map[string]bool)
		}
		for ref := range event.Refs {
			refs[event.Repo][ref] = true
		}
		for _, file := range event.Changed {
			if ref, found := strings.CutPrefix(file, ostree.RefPath("")); found {
				refs[event.Repo][ref] = true // branches of the catalogue too
			}
		}
	}
	for repo, touched := range refs {
		infos, err := s.catalog.RefInfos(ctx, repo, slices.Collect(maps.Keys(touched)))
		if err != nil {
			return err
		}
		known := toInfos(infos)
		for _, info := range infos {
			delete(touched, info.Ref)
		}
		if err := s.repos[repo].Learn(ctx, known, slices.Collect(maps.Keys(touched))); err != nil {
			return fmt.Errorf("repository %s: %w", repo, err)
		}
	}
	return nil
}
