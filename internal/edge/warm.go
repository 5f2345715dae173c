package edge

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/edgeapi"
	"freshet/internal/control"
	"freshet/internal/edge/upstream"
	"freshet/internal/httpcache"
)

const (
	defaultParallel = 8
	maxParallel     = 64
	// maxWarm bounds the objects of one warming.
	maxWarm = 1 << 21
	// progressEvery is the pause between two lines of progress.
	progressEvery = 250 * time.Millisecond
)

// adminWarm answers POST /edge/v1/warm.
func (e *Edge) adminWarm(w http.ResponseWriter, r *http.Request, client *control.Client, o *control.Order) error {
	var req edgeapi.WarmRequest
	if err := readOrder(r, &req); err != nil {
		return err
	}
	o.What = req
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(e.ctx, cancel)() //nolint:contextcheck // a stop does not wait for it
	wm, err := e.newWarming(ctx, &req, client)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	ended := make(chan struct{})
	go func() { defer close(ended); wm.run(ctx) }()
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	lines := json.NewEncoder(w)
	tell := func(end bool) {
		for _, p := range wm.report(end) {
			_ = lines.Encode(p) // who has left is noticed by the context
		}
		_ = http.NewResponseController(w).Flush()
	}
	for running := true; running; {
		select {
		case <-ended:
			running = false
		case <-ticker.C:
			tell(false)
		}
	}
	p := wm.progress
	o.Count = p.Stored + p.Fetched
	if ctx.Err() != nil {
		o.Result = string(upstream.ClientGone)
		return nil // without its end the stream is known to be cut
	}
	tell(true)
	if p.Failed > 0 {
		o.Result = "incomplete"
	}
	return nil
}

// warming is one order to fetch things.
type warming struct {
	e        *Edge
	budget   budget
	parallel int
	refs     refWalk

	mu       sync.Mutex
	changed  *sync.Cond
	todo     []warmItem // taken from the end, so that few directories are open at once
	seen     map[warmName]struct{}
	busy     int
	progress edgeapi.WarmProgress
	failures []edgeapi.WarmFailure
}

// warmName tells objects apart.
type warmName struct {
	site *site
	uri  string
	use  string // one may be looked at for several reasons
}

// warmItem is an object to fetch.
type warmItem struct {
	warmName
	// optional: it is no failure if there is none.
	optional bool
	// then, if not nil, is called with the content when it is stored, and with
	// nil if it could not be had. Its error makes it a failure; errNotThere says
	// no more than is known already, errUnknownRef that the use is what failed.
	then func(content []byte) error
}

func (e *Edge) newWarming(ctx context.Context, req *edgeapi.WarmRequest, client *control.Client) (*warming, error) {
	if req.Rate < 0 || req.Parallel < 0 || req.Parallel > maxParallel {
		return nil, badOrder("rate must not be negative, parallel be 0 to %d", maxParallel)
	}
	if len(req.URLs)+len(req.Refs) == 0 {
		return nil, badOrder("nothing is named: want urls or refs")
	}
	name := req.Site
	if name == "" {
		name = e.all[0].label()
	}
	wm := &warming{e: e, budget: budget{rate: req.Rate}, parallel: req.Parallel, seen: make(map[warmName]struct{})}
	if wm.parallel == 0 {
		wm.parallel = defaultParallel
	}
	wm.changed = sync.NewCond(&wm.mu)
	context.AfterFunc(ctx, func() {
		wm.mu.Lock()
		defer wm.mu.Unlock()
		wm.changed.Broadcast()
	})
	for _, text := range req.URLs {
		u, host, err := parseTarget(text)
		if err != nil {
			return nil, err
		}
		s := e.labelled(name)
		if host != "" {
			s = e.site(host)
		}
		if err := mayWarm(s, text, client); err != nil {
			return nil, err
		}
		c, err := s.callFor(u)
		if err != nil {
			return nil, err
		}
		wm.add(warmItem{warmName: warmName{site: s, uri: c.uri}})
	}
	if len(req.Refs) == 0 {
		return wm, nil
	}
	s := e.labelled(name)
	if err := mayWarm(s, name, client); err != nil {
		return nil, err
	}
	return wm, wm.addRefs(s, req)
}

func mayWarm(s *site, what string, client *control.Client) error {
	switch {
	case s == nil:
		return badOrder("%.200q: there is no such site", what)
	case !client.MayTouch(s.label()):
		return refusal(http.StatusForbidden, "forbidden", "client %q may not touch site %q", client.Name, s.label())
	}
	return nil
}

// add puts an object on the list, unless it is or was there.
func (wm *warming) add(item warmItem) {
	wm.mu.Lock()
	defer wm.mu.Unlock()
	if _, known := wm.seen[item.warmName]; known {
		return
	}
	if len(wm.seen) >= maxWarm {
		wm.failLocked(item.uri, 0, "too_many")
		return
	}
	wm.seen[item.warmName] = struct{}{}
	wm.progress.Total++
	wm.todo = append(wm.todo, item)
	wm.changed.Signal()
}

func (wm *warming) failLocked(uri string, status int, reason string) {
	wm.progress.Failed++
	if len(wm.failures) < maxNamed {
		wm.failures = append(wm.failures, edgeapi.WarmFailure{URL: uri, Status: status, Reason: reason})
	}
}

// report returns the lines of progress that are due.
func (wm *warming) report(end bool) []edgeapi.WarmProgress {
	wm.mu.Lock()
	defer wm.mu.Unlock()
	p := wm.progress
	p.Bytes = wm.budget.bytes.Load()
	lines := make([]edgeapi.WarmProgress, 0, len(wm.failures)+1)
	for i := range wm.failures {
		failed := p
		failed.Failure = &wm.failures[i]
		lines = append(lines, failed)
	}
	wm.failures = nil
	p.End = end
	return append(lines, p)
}

// run fetches until nothing is left to do or ctx ends.
func (wm *warming) run(ctx context.Context) {
	ctx = wm.budget.with(ctx)
	var workers errgroup.Group
	for range wm.parallel {
		workers.Go(func() error {
			for {
				item, ok := wm.next(ctx)
				if !ok {
					return nil
				}
				wm.settle(item, wm.e.warm(ctx, item))
			}
		})
	}
	_ = workers.Wait() // they return none
}

// next waits for something to do. It reports false when there will be nothing.
func (wm *warming) next(ctx context.Context) (warmItem, bool) {
	wm.mu.Lock()
	defer wm.mu.Unlock()
	for len(wm.todo) == 0 && wm.busy > 0 && ctx.Err() == nil {
		wm.changed.Wait()
	}
	if len(wm.todo) == 0 || ctx.Err() != nil {
		wm.changed.Broadcast()
		return warmItem{}, false
	}
	item := wm.todo[len(wm.todo)-1]
	wm.todo = wm.todo[:len(wm.todo)-1]
	wm.busy++
	return item, true
}

// warmed is what became of an object.
type warmed struct {
	stored  bool // it was there before
	content []byte
	status  int
	reason  string // why it is not there now; empty if it is
}

// settle counts an object, and goes on with what it names.
func (wm *warming) settle(item warmItem, got warmed) {
	missing := got.status == http.StatusNotFound || got.status == http.StatusGone
	if item.then != nil {
		switch err := item.then(got.content); {
		case errors.Is(err, errNotThere):
			got.reason = cmp.Or(got.reason, "missing")
		case errors.Is(err, errUnknownRef): // the summary is there, so that it is not what failed
			item.uri, got.status, got.reason = item.use, 0, "unknown_ref"
		case err != nil:
			got.reason = "bad_message"
		case got.reason != "":
			missing, item.optional = true, true // then found another way
		}
	}
	wm.mu.Lock()
	defer wm.mu.Unlock()
	wm.busy--
	wm.progress.Done++
	switch {
	case got.reason == "" && got.stored:
		wm.progress.Stored++
	case got.reason == "":
		wm.progress.Fetched++
	case !item.optional || !missing:
		wm.failLocked(item.uri, got.status, got.reason)
	}
	wm.changed.Broadcast()
}

// warm makes sure that an object is stored and fresh. The content of one with
// then is read.
func (e *Edge) warm(ctx context.Context, item warmItem) (got warmed) {
	u, err := url.ParseRequestURI(item.uri)
	if err != nil {
		return warmed{reason: "bad_path"}
	}
	r := (&http.Request{
		Method: http.MethodGet, URL: u, Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	c, ok := item.site.target(r)
	switch {
	case !ok:
		return warmed{reason: "bad_path"}
	case c.policy.Pass:
		return warmed{reason: "not_cacheable"}
	}
	begun := time.Now()
	if got.stored = e.isFresh(&c, r.Header); !got.stored {
		got.status, got.reason = e.fetchFor(&c, r) //nolint:contextcheck // the request has it
		entry := e.lookup(&c, e.names.variant(&c, r.Header), r.Header)
		if got.reason == "" && (entry == nil || entry.State().Validated.Before(begun)) {
			got.reason = "not_stored"
		}
	}
	if got.reason == "" && item.then != nil {
		if got.content, err = e.contentOf(&c, r.Header); err != nil {
			got.reason = "not_stored"
		}
	}
	return got
}

func (e *Edge) isFresh(c *call, h http.Header) bool {
	entry := e.lookup(c, e.names.variant(c, h), h)
	if entry == nil {
		return false
	}
	fresh, _ := e.freshnessOf(c, entry, time.Now())
	return entry.Meta().Status == http.StatusOK && fresh.Decide(httpcache.Directives{}) == httpcache.Fresh
}

// fetchFor answers a request as if a client had made it, and throws the answer
// away. It is in no record and no metric of requests.
func (e *Edge) fetchFor(c *call, r *http.Request) (status int, reason string) {
	sink := &sink{header: make(http.Header)}
	rp := reply{e: e, w: sink, r: r, c: c, begun: time.Now()}
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				panic(p)
			}
			status, reason = sink.status, string(rp.reason) // cut in its middle
		}
	}()
	rp.serve()
	switch {
	case sink.status == http.StatusOK:
		return sink.status, string(rp.detail) // why something stale was used
	case rp.reason != "":
		return sink.status, string(rp.reason)
	case sink.status == http.StatusNotFound || sink.status == http.StatusGone:
		return sink.status, "missing"
	}
	return sink.status, "unexpected_status"
}

// sink is a client that wants nothing.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header { return s.header }

func (s *sink) WriteHeader(status int) {
	if s.status == 0 && status >= http.StatusOK {
		s.status = status
	}
}

func (s *sink) Write(p []byte) (int, error) {
	s.WriteHeader(http.StatusOK)
	return len(p), nil
}

func (s *sink) Flush() {}

// maxContent bounds what is read of an object to find out what it names.
const maxContent = 32 << 20

// contentOf reads a stored object.
func (e *Edge) contentOf(c *call, h http.Header) ([]byte, error) {
	entry := e.lookup(c, e.names.variant(c, h), h)
	if entry == nil || entry.Size() > maxContent {
		return nil, errors.New("not stored, or too long")
	}
	body, err := entry.Open()
	if err != nil {
		return nil, err
	}
	defer body.Close()
	content := make([]byte, entry.Size())
	if n, err := body.ReadAt(content, 0); n < len(content) {
		return nil, err
	}
	return content, nil
}
