package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"freshet/internal/config"
	"freshet/internal/control"
	"freshet/internal/durable"
	"freshet/internal/edge/diskcache"
	"freshet/internal/edge/turns"
	"freshet/internal/edge/upstream"
	"freshet/internal/layout"
	"freshet/internal/networks"
	"freshet/internal/role"
)

// Edge is a caching front: an [http.Handler] with a store, and the followers of
// its hubs' event logs. It is safe for concurrent use.
type Edge struct {
	cfg     Config
	env     role.Env
	log     *slog.Logger
	sites   map[string]*site // by host name
	rest    *site            // for all other host names, may be nil
	all     []*site
	named   map[string]*site // by name
	trusted atomic.Pointer[networks.Set]
	portTLS atomic.Int32 // of the listener with TLS, 0 if there is none
	store   *diskcache.Store
	metrics *metrics
	names   names
	clients atomic.Pointer[control.Clients]
	audit   *control.Audit
	sets    sets
	readers *readers
	// hubToken is what reports to hubs need; empty: there are none.
	hubToken string

	// purgeMu makes a purge of several paths one step: purges hold it alone,
	// who judges freshness or commits holds it shared.
	purgeMu stepMutex

	// flightsMu may be taken while purgeMu is held.
	flightsMu sync.Mutex
	flights   map[diskcache.ID]*flight // that may be joined
	live      map[*flight]struct{}     // all that may still change what is stored

	solo      memo[struct{}] // keys whose answers are not shared
	failing   memo[error]    // keys whose origin fails, while something stale is there
	negatives memo[*memory]  // files that are not there, by ID of the URI
	unsliced  memo[struct{}] // keys that are fetched as a whole, by ID of the URI
	altered   memo[struct{}] // keys of which something changed while it was fetched in parts
	wrong     memo[[]string] // origins that sent wrong content, by ID of the URI

	assembliesMu sync.Mutex
	assemblies   map[*diskcache.Partial]*assembly // in use

	crew    crew
	buffers bufferPool      // of bufferSize
	small   bufferPool      // of streamBuffer
	spare   allowance       // for windows
	ctx     context.Context //nolint:containedctx // ends what outlives requests
	values  context.Context //nolint:containedctx // that of ctx, without its end
	stop    context.CancelCauseFunc
	wg      sync.WaitGroup
}

// New opens the store, which may take seconds if it is large, and prepares to
// serve. The caller runs [Edge.Follow] beside the server, and calls
// [Edge.Close] after both.
func New(ctx context.Context, cfg Config, env role.Env) (*Edge, error) {
	if err := check(cfg); err != nil {
		return nil, err
	}
	cfg = cfg.WithDefaults()
	env = env.WithDefaults()
	e := &Edge{
		cfg: cfg, env: env, log: env.Log,
		flights: make(map[diskcache.ID]*flight), live: make(map[*flight]struct{}), sites: make(map[string]*site),
	}
	e.buffers.size, e.small.size = bufferSize, streamBuffer
	e.readers = newReaders()
	e.solo.max, e.failing.max, e.negatives.max, e.wrong.max = 1<<16, 1<<16, 1<<12, 1<<12
	e.unsliced.max, e.altered.max, e.assemblies = 1<<12, 1<<12, make(map[*diskcache.Partial]*assembly)
	e.negatives.weigh, e.negatives.maxWeight = (*memory).weight, negativeBytes
	e.values = context.WithoutCancel(ctx)
	e.ctx, e.stop = context.WithCancelCause(e.values)
	if err := e.addSites(); err != nil {
		return nil, err
	}
	e.named = make(map[string]*site, len(e.all))
	for _, s := range e.all {
		e.named[s.name] = s
	}
	var err error
	if e.hubToken, err = readHubToken(cfg.HubTokenFile); err != nil {
		return nil, err
	}
	clients, err := cfg.Control.clients()
	if err != nil {
		return nil, err
	}
	e.clients.Store(clients)
	if e.audit, err = control.OpenAudit(cfg.Control.AuditFile, env.Log); err != nil {
		return nil, err
	}
	opened := make(chan struct{})
	defer close(opened)
	if e.store, err = diskcache.Open(ctx, cfg.Store, diskcache.Options{
		Size: int64(cfg.Size), Keys: e.keysOf, Held: e.heldEpoch, Log: env.Log,
		// The store sweeps a folder tmp in its own: it must not be somebody else's.
		Check:    func(dir string) error { return durable.CheckFolder(dir, "lock", "store") },
		Returned: func() { <-opened; e.openStore() },
	}); err != nil {
		return nil, errors.Join(err, e.audit.Close())
	}
	e.metrics = newMetrics(env.Metrics, e.store, e.all)
	e.watchOrigins()
	e.openStore()
	e.tellStore(ctx)
	return e, nil
}

// tellStore logs what the store has, and whether the disk has room for the rest.
func (e *Edge) tellStore(ctx context.Context) {
	stat := e.store.Stat()
	e.log.InfoContext(ctx, "store is open", slog.String("dir", e.cfg.Store), slog.Int("entries", stat.Entries), slog.Int64("bytes", stat.Used))
	total, free, err := e.store.Disk()
	if short, err2 := e.store.Short(); err != nil || err2 != nil || short == 0 {
		return // without a disk, its failure is told of
	}
	e.log.WarnContext(ctx, "the size of the store is more than its disk has: when the disk is full, the store stays that small, and evicts sooner; give it a size below, or a larger disk",
		slog.Any("size", e.cfg.Size), slog.Any("disk", rounded(total)), slog.Any("free", rounded(free)), slog.Any("used", rounded(stat.Used)))
}

// rounded is n with as many digits as anybody wants to read.
func rounded(n int64) config.Size {
	for unit := int64(1 << 40); unit > 1<<10; unit >>= 10 {
		if n >= 10*unit {
			return config.Size(n - n%unit)
		}
	}
	return config.Size(n)
}

// openStore takes note of what is in the store.
func (e *Edge) openStore() {
	if err := e.openCursors(); err != nil {
		// What could not be noted is found again at the next start.
		e.log.Error("cursors cannot be written", slog.Any("error", err))
	}
	e.loadNames()
}

// originsFile, beside the cursors, holds the origin of each site, by name. No
// site's name begins with an underscore, so no cursor has this name.
const originsFile = "_origins.json"

// openCursors removes what a crash left among the cursors, and drops what is
// stored of a site whose origin is another one now: its files are not those of
// the new one.
func (e *Edge) openCursors() error {
	return e.cursors(func(dir durable.Dir) error {
		if _, err := dir.Sweep("."); err != nil {
			return err
		}
		before := make(map[string]string)
		data, err := dir.Root.ReadFile(originsFile)
		if err == nil {
			err = json.Unmarshal(data, &before)
		}
		unknown := err != nil && !errors.Is(err, fs.ErrNotExist)
		if unknown {
			e.log.Warn("origins of the stored answers are not known: they are dropped", slog.Any("error", err))
		}
		now := make(map[string]string)
		changed := false
		for _, s := range e.all {
			now[s.name] = originsID(s.origin)
			if was, known := before[s.name]; unknown || known && !sameOrigins(was, now[s.name]) {
				e.log.Warn("origin changed: what was stored of the earlier one is dropped", slog.String("site", s.label()))
				e.store.Ban(diskcache.Ban{Site: s.name, Fixed: true, Drop: true})
				changed = true
			}
		}
		if changed {
			if err := e.store.Sync(); err != nil {
				return err
			}
		}
		if maps.Equal(before, now) {
			return nil
		}
		if data, err = json.Marshal(now); err != nil {
			return err
		}
		return dir.WriteFile(originsFile, append(data, '\n'), 0o640)
	})
}

func (e *Edge) addSites() error {
	if e.cfg.Origin != "" || len(e.cfg.Origins) > 0 {
		s, err := e.newSite("", SiteConfig{
			Keys: e.cfg.Keys, Prefill: e.cfg.Prefill, Origin: e.cfg.Origin, Origins: e.cfg.Origins, Rules: e.cfg.Rules, Follow: e.cfg.Follow, PurgeMethod: e.cfg.PurgeMethod, PurgeFrom: e.cfg.PurgeFrom,
		})
		if err != nil {
			return err
		}
		e.rest = s
		e.all = append(e.all, s)
	}
	for _, name := range slices.Sorted(maps.Keys(e.cfg.Sites)) {
		s, err := e.newSite(name, e.cfg.Sites[name])
		if err != nil {
			return err
		}
		for _, host := range e.cfg.Sites[name].Hosts {
			e.sites[host] = s
		}
		e.all = append(e.all, s)
	}
	return nil
}

func (e *Edge) newSite(name string, cfg SiteConfig) (*site, error) {
	group, err := e.newGroup(originsOf(cfg.Origin, cfg.Origins))
	if err != nil {
		return nil, err
	}
	base := group.Main().Base
	if cfg.Follow == followAuto && cfg.Rules == rulesNone {
		cfg.Follow = followOff // such an origin is hardly a hub, and need not be asked
	}
	s := &site{
		name: name, ruled: cfg.Rules != rulesNone, follow: cfg.Follow, purgeMethod: cfg.PurgeMethod,
		hubURL: base.Scheme + "://" + base.Host,
		origin: group, loopID: newLoopID(),
		line: turns.Line{
			Most: e.cfg.Limits.Fetches, PerClient: e.cfg.Limits.FetchesPerAddress,
			Waiting: e.cfg.Limits.FetchesWaiting, Patience: e.cfg.Limits.FetchWait,
		},
		passes: turns.Line{
			Most: e.cfg.Limits.Passes, PerClient: e.cfg.Limits.PassesPerAddress,
			Waiting: e.cfg.Limits.FetchesWaiting, Patience: e.cfg.Limits.FetchWait,
		},
	}
	s.fetch = s.ownFields()
	if s.purgeFrom, err = networks.ParseAll(cfg.PurgeFrom); err != nil {
		return nil, fmt.Errorf("purge-from: %w", err)
	}
	s.prefill = prefill{refs: cfg.Prefill, rate: int64(e.cfg.PrefillRate)}
	if len(cfg.Prefill) > 0 {
		s.prefill.within = e.cfg.PrefillWithin
	}
	if s.keys, err = readKeys(cfg.Keys); err != nil {
		return nil, fmt.Errorf("site %s: %w", s.label(), err)
	}
	if isURL(cfg.Follow) {
		s.hubURL = cfg.Follow
	}
	if cfg.Follow != followOff {
		s.news.Store(uint32(newsCatchingUp))
	}
	return s, nil
}

// loadNames rebuilds from the store what is kept in memory only.
func (e *Edge) loadNames() {
	for entry := range e.store.Listed() {
		meta := entry.Meta()
		s := e.named[meta.Site]
		if s == nil {
			continue // of a site that is not served now
		}
		c := s.stored(meta)
		c.id = keyID(s.name, meta.URI, "")
		if c.policy.Set != (layout.Set{}) && entry.ID() != c.id {
			continue // of a generation, or kept under the digest that one lists: its set finds it
		}
		e.names.add(&c, entry.ID(), meta.Vary)
	}
}

// site returns the site of a Host field.
func (e *Edge) site(host string) *site {
	if len(e.sites) > 0 {
		if s := e.sites[hostName(host)]; s != nil {
			return s
		}
	}
	return e.rest
}

// end ends all fetches, those that begin later too.
func (e *Edge) end() {
	e.stop(&upstream.Error{Reason: upstream.Stopping, Err: errors.New("the edge is ending")})
	e.endFlights()
}

// Close ends the fetches that are still going on, and gives the store up.
func (e *Edge) Close() error {
	e.end()
	e.crew.end()
	e.wg.Wait()
	for _, s := range e.all {
		s.origin.Close()
	}
	return errors.Join(e.store.Close(), e.audit.Close())
}

const (
	// bufferSize is that of the buffers bodies are moved with.
	bufferSize = 128 << 10
	// streamBuffer is that of those for short bodies, and for one of many streams
	// of a connection: a client can have all of them wait.
	streamBuffer = 16 << 10
)

// bufferPool lends buffers of one size.
type bufferPool struct {
	size int
	pool sync.Pool
}

func (p *bufferPool) get() *[]byte {
	if b, ok := p.pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, p.size)
	return &b
}

func (p *bufferPool) put(b *[]byte) { p.pool.Put(b) }

// lender lends what a body of n bytes, -1 if that is not known, is moved with.
func (e *Edge) lender(n int64) *bufferPool {
	if n >= 0 && n <= streamBuffer {
		return &e.small
	}
	return &e.buffers
}

// lender lends what n bytes of the answer's body are moved with.
func (rp *reply) lender(n int64) *bufferPool {
	if rp.r.ProtoMajor > 1 {
		return &rp.e.small
	}
	return rp.e.lender(n)
}
