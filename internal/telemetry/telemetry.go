package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/watchapi"
	"freshet/internal/accesslog"
	"freshet/internal/geoip"
	"freshet/internal/histogram"
	"freshet/internal/telemetry/spool"
)

// Options are what an [Emitter] is told. Log, Metrics and HTTP may be left out.
type Options struct {
	// Config has a URL and its defaults. Its Spool is set.
	Config
	// Node is the name of the node, Role what it is.
	Node, Role string
	// Project reports whether the site of a record is a project, whose name may be a label.
	// It is called by one goroutine.
	Project func(name string) bool
	// Place says what a path of a project is, that of no project if the name is empty. It
	// is called by one goroutine, and its answers are kept until [Emitter.Changed].
	Place func(project, path string) Place
	// State returns what is held, as lines of a batch. It is called once a minute and after
	// changes. Nil: nothing is told.
	State   func() []watchapi.Line
	HTTP    *http.Client
	Log     *slog.Logger
	Metrics prometheus.Registerer
}

// Place is what a path is. Each field is of a closed set; empty is "other".
type Place struct{ Release, Repo, Arch, Class string }

// Emitter counts what a role serves, and tells a watch. A nil Emitter counts nothing. Note
// and Under may be called by any number of goroutines.
type Emitter struct {
	o      Options
	lists  *lists
	spool  *spool.Spool
	client watchapi.Client

	moved atomic.Bool // what paths are has changed

	// What follows belongs to who collects.
	cubes   *cubes
	names   dictionary
	places  map[placeKey]place
	agents  map[string]uint16
	hot     map[uint16]*hot
	locate  geoip.Locator
	systems map[uint16]map[uint32]struct{} // that are told apart, by project
	scale   histogram.Scale
	begun   time.Time // what the next batch begins with
	slow    time.Time // when the hot sets and the state were told
	pending spool.Sum // what could not be written
	failing bool

	metrics metrics
}

type placeKey struct{ project, path string }

type place struct {
	release, repo, arch, class uint16
	hot                        pathID
}

const (
	// maxPlaces and maxAgents bound what is remembered of paths and of names of programs.
	maxPlaces = 16 << 10
	maxAgents = 4096
	// maxNames is how many labels have numbers until they are numbered anew.
	maxNames = 1 << 15
	// maxKept is the length of what is remembered.
	maxKept = 256
	// maxSystems is how many autonomous systems of a project are told apart in a day.
	maxSystems = 200
	// batchLines is how many lines a batch has at most, pendingLines how many wait while the
	// disk takes none.
	batchLines   = 50_000
	pendingLines = 100_000
)

// Open opens the spool. Nothing is told before Run. The caller closes the Emitter.
func Open(o Options) (*Emitter, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	e := &Emitter{
		o: o, lists: newLists(), cubes: newCubes(), scale: histogram.NewScale(), begun: time.Now(),
		places: make(map[placeKey]place), agents: make(map[string]uint16), hot: make(map[uint16]*hot),
		client: watchapi.Client{Base: o.URL, HTTP: o.HTTP},
	}
	e.names.id(other)
	if err := e.readGeoIP(); err != nil {
		return nil, err
	}
	var err error
	e.spool, err = spool.Open(o.Spool, spool.Options{
		Bytes: int64(o.SpoolSize), Age: o.SpoolTime, Node: o.Node, Role: o.Role, Log: o.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("spool of telemetry %s: %w", o.Spool, err)
	}
	e.metrics = newMetrics(e)
	for _, c := range e.cubes.all() {
		c.over = e.metrics.overflow.WithLabelValues(c.name)
	}
	return e, nil
}

func (e *Emitter) readGeoIP() error {
	if e.o.GeoIP != "" {
		data, err := os.ReadFile(e.o.GeoIP)
		if err == nil {
			e.locate.Countries, err = geoip.ParseCountries(data)
		}
		if err != nil {
			return fmt.Errorf("geoip %s: %w", e.o.GeoIP, err)
		}
	}
	if e.o.GeoIPASN != "" {
		data, err := os.ReadFile(e.o.GeoIPASN)
		if err == nil {
			e.locate.Systems, err = geoip.ParseSystems(data)
		}
		if err != nil {
			return fmt.Errorf("geoip-asn %s: %w", e.o.GeoIPASN, err)
		}
	}
	return nil
}

// Note counts a transfer that has ended. The record is not kept.
func (e *Emitter) Note(r *accesslog.Record) {
	if e != nil {
		e.lists.note(r, r.Bytes-r.Told, false)
	}
}

// Under counts what went out of a transfer that is under way, since the last time. Whoever
// calls it adds that to the Told of its record.
func (e *Emitter) Under(r *accesslog.Record, sent int64) {
	if e != nil {
		e.lists.note(r, sent, true)
	}
}

// Changed says that paths may be something else than before, and that the state is told
// anew.
func (e *Emitter) Changed() {
	if e != nil {
		e.moved.Store(true)
	}
}

// Stat is how it stands with the spool.
func (e *Emitter) Stat() spool.Stat { return e.spool.Stat() }

// Run collects and delivers until ctx ends.
func (e *Emitter) Run(ctx context.Context) {
	if e == nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { e.deliver(ctx) })
	e.collect(ctx)
	both.Wait()
}

// Close makes what was counted durable, and gives the spool back. Nothing may be counted any
// more, and Run has returned.
func (e *Emitter) Close() error {
	if e == nil {
		return nil
	}
	e.lists.drain(e.count, e.beyond)
	begun, now := e.begun, time.Now()
	e.slow = time.Time{} // all of it
	_, err := e.write(begun, now, e.take(now))
	return errors.Join(err, e.spool.Close())
}

// collect counts what waits in the lists, and makes batches of it.
func (e *Emitter) collect(ctx context.Context) {
	tick := time.NewTicker(e.o.Every)
	defer tick.Stop()
	type written struct {
		lines []watchapi.Line
		err   error
	}
	var writing chan written // nil: nothing is being written
	done := func(w written) {
		writing = nil
		for _, l := range w.lines {
			e.pending.Add(l)
		}
		if failing := w.err != nil; failing != e.failing {
			e.failing = failing
			if failing {
				e.o.Log.ErrorContext(ctx, "telemetry cannot be written to the spool: it waits in memory", slog.Any("error", w.err))
			} else {
				e.o.Log.InfoContext(ctx, "telemetry can be written to the spool again")
			}
		}
		e.bound()
	}
	for {
		select {
		case <-e.lists.wake:
			e.lists.drain(e.count, e.beyond)
		case <-tick.C:
			e.lists.drain(e.count, e.beyond)
			if writing != nil {
				continue // the disk is slow
			}
			begun, now := e.begun, time.Now()
			lines := e.take(now)
			if len(lines) == 0 {
				continue
			}
			results := make(chan written, 1)
			writing = results
			go func() {
				rest, err := e.write(begun, now, lines)
				results <- written{rest, err}
			}()
		case w := <-writing:
			done(w)
		case <-ctx.Done():
			if writing != nil {
				done(<-writing)
			}
			return
		}
	}
}

// write makes batches of lines, and returns those that could not be written.
func (e *Emitter) write(begun, ended time.Time, lines []watchapi.Line) ([]watchapi.Line, error) {
	for len(lines) > 0 {
		n := min(len(lines), batchLines)
		if err := e.spool.Add(begun, ended, lines[:n]); err != nil {
			return lines, err
		}
		lines = lines[n:]
	}
	return nil, nil
}

// take returns what was counted since the last time.
func (e *Emitter) take(now time.Time) []watchapi.Line {
	lines := e.pending.Lines()
	for _, c := range e.cubes.all() {
		lines = c.take(lines, e.names.names)
	}
	if now.Sub(e.slow) >= hotEvery*time.Second || e.moved.Load() {
		e.slow = now
		for project, h := range e.hot {
			lines = h.take(lines, e.names.names[project], second(now))
		}
		if e.o.State != nil {
			lines = append(lines, e.o.State()...)
		}
	}
	if e.moved.Swap(false) {
		clear(e.places)
	}
	if len(e.names.names) > maxNames {
		lines = e.rename(lines, now)
	}
	if now.UTC().YearDay() != e.begun.UTC().YearDay() {
		e.systems = nil
	}
	e.begun = now
	return lines
}

// rename numbers labels anew, when there were so many over the months that no other would find a
// number. All cubes are empty.
func (e *Emitter) rename(lines []watchapi.Line, now time.Time) []watchapi.Line {
	for project, h := range e.hot {
		lines = h.take(lines, e.names.names[project], second(now))
	}
	clear(e.hot)
	clear(e.places)
	clear(e.agents)
	e.systems = nil
	for _, c := range e.cubes.all() {
		clear(c.seen)
	}
	e.names = dictionary{}
	e.names.id(other)
	return lines
}

// bound keeps what could not be written within bounds.
func (e *Emitter) bound() {
	if e.pending.Len() > pendingLines {
		e.pending.Coarsen()
	}
	if e.pending.Len() > pendingLines {
		requests, bytes := e.pending.Served()
		for _, l := range e.pending.Lines() {
			if l.Dropped != nil {
				e.pending.Add(l)
			}
		}
		e.pending.Add(watchapi.Line{Dropped: &watchapi.Dropped{Reason: "disk", Requests: requests, Bytes: bytes}})
	}
}

// count counts a transfer.
func (e *Emitter) count(t *entry, agent []byte) {
	project, path := "", t.path
	if t.project != "" && e.o.Project(t.project) {
		project = t.project
		path = strings.TrimPrefix(strings.TrimPrefix(path, "/"), project)
		path = strings.TrimPrefix(path, "/")
	}
	id := uint16(0)
	if project != "" {
		id = e.names.id(project)
	}
	at := e.place(project, path, t.proto == "rsync")
	status, cache := e.names.id(statusClass(t.status)), e.names.id(cacheOf(t.outcome, t.status))
	add := func(c *cube, l labels) *cell {
		cell := c.at(t.ended, l)
		cell.bytes += t.bytes
		if !t.under {
			cell.requests++
		}
		return cell
	}
	add(e.cubes.classes, labels{id, at.arch, at.class, status, cache})
	add(e.cubes.releases, labels{id, at.release, at.repo, at.arch, at.class, status, cache})
	add(e.cubes.protocols, labels{id, e.names.id(familyOfAddr(t.client)), e.names.id(protoOf(t.proto)), e.names.id(tlsOf(t.tls))})
	add(e.cubes.agents, labels{id, e.agent(agent, t.proto)})
	e.countPlace(t, id, add)
	if t.reason != "" && !t.under {
		add(e.cubes.failures, labels{id, e.names.id(t.reason), e.names.id(strconv.Itoa(int(t.status)))})
	}
	isFile := t.status == http.StatusOK || t.status == http.StatusPartialContent
	if t.firstByte > 0 && !t.under && t.status < http.StatusBadRequest && t.proto != "rsync" {
		c := e.cubes.latencies.at(t.ended, labels{id, at.class, cache})
		if c.times == nil {
			c.times = make(map[int16]int64)
		}
		c.times[int16(e.scale.Index(t.firstByte))]++
		c.requests++
	}
	if isFile && project != "" && t.proto != "rsync" && path != "" && !strings.HasSuffix(path, "/") {
		h := e.hot[id]
		if h == nil {
			h = new(hot)
			e.hot[id] = h
		}
		requests := int64(1)
		if t.under {
			requests = 0
		}
		h.add(at.hot, requests, t.bytes)
	}
}

// countPlace counts a transfer by where its client is.
func (e *Emitter) countPlace(t *entry, project uint16, add func(*cube, labels) *cell) {
	if e.locate.Countries == nil && e.locate.Systems == nil {
		return
	}
	loc := e.locate.Locate(t.client)
	if e.locate.Countries != nil {
		country := uint16(0)
		if code := loc.Country.Code(); code != "" {
			country = e.names.id(code)
		}
		add(e.cubes.countries, labels{project, country})
	}
	if e.locate.Systems == nil {
		return
	}
	system := uint16(0)
	seen := e.systems[project]
	if _, ok := seen[loc.ASN]; loc.ASN != 0 && (ok || len(seen) < maxSystems) {
		if !ok {
			if seen == nil {
				if e.systems == nil {
					e.systems = make(map[uint16]map[uint32]struct{})
				}
				seen = make(map[uint32]struct{})
				e.systems[project] = seen
			}
			seen[loc.ASN] = struct{}{}
		}
		system = e.names.id("AS" + strconv.FormatUint(uint64(loc.ASN), 10))
	}
	add(e.cubes.networks, labels{project, system})
}

// beyond counts what found no room in the lists, of which nothing is known but the project.
func (e *Emitter) beyond(project string, c cell) {
	id := uint16(0)
	if project != "" && e.o.Project(project) {
		id = e.names.id(project)
	}
	for _, cube := range []*cube{e.cubes.classes, e.cubes.releases, e.cubes.protocols, e.cubes.agents} {
		at := cube.at(second(time.Now()), labels{id})
		at.requests += c.requests
		at.bytes += c.bytes
	}
	e.metrics.beyond.Add(float64(c.requests))
}

// place says what a path is.
func (e *Emitter) place(project, path string, rsync bool) place {
	if rsync {
		return place{class: e.names.id("rsync")}
	}
	if len(path) > maxPath {
		return place{}
	}
	k := placeKey{project, path}
	if p, ok := e.places[k]; ok {
		return p
	}
	var at Place
	if e.o.Place != nil {
		at = e.o.Place(project, path)
	}
	id := func(name string) uint16 {
		if name == "" {
			return 0
		}
		return e.names.id(name)
	}
	p := place{release: id(at.Release), repo: id(at.Repo), arch: id(at.Arch), class: id(at.Class), hot: pathIDOf(project, path)}
	if len(path) <= maxKept {
		if len(e.places) >= maxPlaces {
			clear(e.places)
		}
		e.places[placeKey{project, strings.Clone(path)}] = p
	}
	return p
}

// agent says which family a program is of.
func (e *Emitter) agent(name []byte, proto string) uint16 {
	if proto == "rsync" {
		return e.names.id("rsync")
	}
	if id, ok := e.agents[string(name)]; ok {
		return id
	}
	id := e.names.id(familyOf(lower([]byte(string(name)))))
	if len(e.agents) >= maxAgents {
		clear(e.agents)
	}
	e.agents[string(name)] = id
	return id
}
