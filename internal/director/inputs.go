package director

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"freshet/internal/director/lists"
	"freshet/internal/geoip"
	"freshet/internal/mirrorlist"
)

// inputs are the files of which answers are made. But for data they belong to one
// goroutine.
type inputs struct {
	data    atomic.Pointer[lists.Data]    // nil without a snapshot
	locator atomic.Pointer[geoip.Locator] // not nil once all is read
	// moved is told when there is another locator.
	moved func()
	// reloaded is told of each new configuration.
	reloaded func(cfg Config)

	cfg     Config
	files   []*input
	sources sources
	log     *slog.Logger
	metrics *metrics
}

// sources are what the files say.
type sources struct {
	lists.Sources

	places  *geoip.Places
	systems *geoip.Systems
}

// input is one of the files.
type input struct {
	name string // in configuration, log and metrics
	path string // "": there is none
	// read puts what the file says into the sources; path is not empty. The sources are
	// as they were if it fails.
	read func(path string, into *sources) error
	// forget takes out of the sources what the file said.
	forget func(from *sources)

	used os.FileInfo // as it was when it was last read, nil if it could not be found
	seen os.FileInfo // as the last look found it
}

// files are the inputs that are configured.
func (c Config) files() []*input {
	return []*input{
		{name: "snapshot", path: c.Snapshot, read: readSnapshot, forget: func(s *sources) { s.Snapshot = nil }},
		{name: "geoip", path: c.GeoIP, read: readCountries, forget: func(s *sources) { s.Countries = nil }},
		{name: "geoip-city", path: c.GeoIPCity, read: readPlaces, forget: func(s *sources) { s.places = nil }},
		{name: "geoip-asn", path: c.GeoIPASN, read: readSystems, forget: func(s *sources) { s.systems = nil }},
		{name: "netblocks", path: c.Netblocks, read: readNetblocks, forget: func(s *sources) { s.Netblocks = nil }},
		{name: "continents", path: c.Continents, read: readContinents, forget: func(s *sources) { s.Continents = nil }},
	}
}

func newInputs(cfg Config, log *slog.Logger, m *metrics) *inputs {
	in := &inputs{cfg: cfg, files: cfg.files(), log: log, metrics: m, moved: func() {}, reloaded: func(Config) {}}
	for _, f := range in.files {
		m.loads.WithLabelValues(f.name, "failed") // what rises from 0 is seen to rise
	}
	return in
}

// readAll reads all files for the first time. None may fail.
func (in *inputs) readAll(ctx context.Context) error {
	var failed error
	for _, f := range in.files {
		if f.path != "" {
			failed = errors.Join(failed, in.read(ctx, f, &in.sources, true))
		}
	}
	if failed != nil {
		return failed
	}
	in.publish()
	return nil
}

// watch follows the files, and what reloads yields, until ctx ends. hangUp is called for
// each of those.
func (in *inputs) watch(ctx context.Context, reloads <-chan Config, hangUp func(cfg Config)) {
	look := time.NewTimer(in.cfg.CheckEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			in.look(ctx)
		case cfg := <-reloads:
			hangUp(cfg)
			in.reload(ctx, cfg.WithDefaults())
			in.reloaded(cfg)
		case <-ctx.Done():
			return
		}
		look.Reset(in.cfg.CheckEvery)
	}
}

// look reads the files that have changed, and have then stayed as they are.
func (in *inputs) look(ctx context.Context) {
	changed := false
	next := in.sources
	for _, f := range in.files {
		if f.path != "" && f.due() && in.read(ctx, f, &next, false) == nil {
			changed = true
		}
	}
	if changed {
		in.sources = next
		in.publish()
	}
}

// reload takes over a configuration, and reads all files. One that cannot be used
// remains as it was, under its old name.
func (in *inputs) reload(ctx context.Context, cfg Config) {
	files := cfg.files()
	next := in.sources
	for i, f := range files {
		switch {
		case f.path == "":
			f.forget(&next)
		case in.read(ctx, f, &next, true) != nil:
			if in.files[i].path != f.path {
				files[i] = in.files[i]
			}
		}
	}
	in.cfg, in.files, in.sources = cfg, files, next
	in.publish()
}

// read reads a file, and tells of it. A reading that nobody asked for does not take a
// snapshot that has lost half of its directories.
func (in *inputs) read(ctx context.Context, f *input, into *sources, asked bool) error {
	begin := time.Now()
	next := *into
	err := f.load(&next)
	if err == nil && !asked {
		err = shrunk(into.Snapshot, next.Snapshot)
	}
	log := in.log.With(slog.String("input", f.name), slog.String("file", f.path), slog.Duration("took", time.Since(begin)))
	if err != nil {
		in.metrics.loads.WithLabelValues(f.name, "failed").Inc()
		log.ErrorContext(ctx, "input was not read", slog.Any("error", err))
		return fmt.Errorf("%s: read %s: %w", f.name, f.path, err)
	}
	in.metrics.loads.WithLabelValues(f.name, "ok").Inc()
	in.metrics.changed.WithLabelValues(f.name).Set(float64(f.used.ModTime().UnixMilli()) / 1000)
	log.InfoContext(ctx, "input was read")
	*into = next
	return nil
}

// shrunk is an error if a snapshot has less than half of the directories that the one
// before has: whoever makes it may have failed.
func shrunk(before, now *mirrorlist.Snapshot) error {
	if before == nil || now == before || 2*now.NumDirectories() >= before.NumDirectories() {
		return nil
	}
	return fmt.Errorf("it has %d directories, less than half of the %d before: if that is right, SIGHUP takes it",
		now.NumDirectories(), before.NumDirectories())
}

// publish lets requests be answered by the sources.
func (in *inputs) publish() {
	if s := in.sources.Snapshot; s != nil {
		in.data.Store(lists.NewData(in.sources.Sources, in.cfg.options()))
		in.metrics.made.Set(float64(s.Time()))
		in.metrics.size.WithLabelValues("hosts").Set(float64(s.NumHosts()))
		in.metrics.size.WithLabelValues("directories").Set(float64(s.NumDirectories()))
	}
	in.locator.Store(&geoip.Locator{
		Places: in.sources.places, Countries: in.sources.Countries, Netblocks: in.sources.Netblocks, Systems: in.sources.systems,
	})
	in.moved()
	runtime.GC()         // what pools hold of the data before is let go by the second collection
	debug.FreeOSMemory() // which is this
}

// due looks at a file, and reports whether it has changed since it was read, and not
// since the last look.
func (f *input) due() bool {
	info, err := os.Stat(f.path)
	if err != nil {
		info = nil
	}
	settled := sameFile(f.seen, info)
	f.seen = info
	return settled && !sameFile(f.used, info)
}

// load reads a file of which nothing changes meanwhile.
func (f *input) load(into *sources) error {
	before, err := os.Stat(f.path)
	f.used, f.seen = before, before
	if err != nil {
		f.used, f.seen = nil, nil
		return pathless(err)
	}
	if err := f.read(f.path, into); err != nil {
		return pathless(err)
	}
	if after, err := os.Stat(f.path); err != nil || !sameFile(before, after) {
		return errors.New("it changed while it was read")
	}
	return nil
}

// sameFile reports whether nothing tells that a file has changed.
func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// pathless is an error of a file without its name, which is told beside.
func pathless(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Op, e.Err)
	}
	return err
}

func readSnapshot(path string, into *sources) error {
	s, err := mirrorlist.ReadFile(path)
	if err == nil {
		into.Snapshot = s
	}
	return err
}

func readCountries(path string, into *sources) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c, err := geoip.ParseCountries(data)
	if err == nil {
		into.Countries = c
	}
	return err
}

func readPlaces(path string, into *sources) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p, err := geoip.ParsePlaces(data)
	if err == nil {
		into.places = p
	}
	return err
}

func readSystems(path string, into *sources) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	s, err := geoip.ParseSystems(data)
	if err == nil {
		into.systems = s
	}
	return err
}

func readNetblocks(path string, into *sources) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	n, err := geoip.ParseNetblocks(f)
	if err != nil {
		return err
	}
	if v4, _ := n.Len(); v4 == 0 {
		return errors.New("it has no netblock of IPv4")
	}
	into.Netblocks = n
	return nil
}

func readContinents(path string, into *sources) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	c, err := geoip.ParseContinents(bytes.NewReader(data))
	if err == nil {
		into.Continents = c
	}
	return err
}
