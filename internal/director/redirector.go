package director

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/api/directorapi"
	"freshet/internal/director/catalogue"
	"freshet/internal/director/desired"
	"freshet/internal/director/hubs"
	"freshet/internal/director/network"
	"freshet/internal/director/orders"
	"freshet/internal/director/probe"
	"freshet/internal/director/redirect"
	"freshet/internal/director/scan"
	"freshet/internal/director/share"
	"freshet/internal/director/status"
	"freshet/internal/director/versions"
	"freshet/internal/durable"
	"freshet/internal/inventory"
	"freshet/internal/pause"
	"freshet/internal/role"
)

// Names in the state folder.
const (
	catalogueFile = "catalogue.db"
	followedFile  = "catalogue.json" // the last good one of a catalogue that is followed
	inventoryFile = "inventory"
	versionsDir   = "versions"
	healthDir     = "health"
	lockFile      = "lock"
)

// How often what is known is put together, written down, and shown, at most.
const (
	putTogetherEvery = 250 * time.Millisecond
	loadsEvery       = 10 * time.Second // also when nothing else has changed
	saveEvery        = 2 * time.Minute
	showEvery        = 15 * time.Second
)

// redirector is all that a director needs to send clients to mirrors, but the answering.
type redirector struct {
	data atomic.Pointer[redirect.Data] // never nil

	cfg       Config
	log       *slog.Logger
	in        *inputs
	metrics   *redirectMetrics
	state     durable.Dir
	catalogue catalogue.Source
	desk      *orders.Desk
	desired   *desired.Store // nil: the catalogue is followed, and so desired states are elsewhere
	inventory *inventory.Inventory
	written   uint64          // the serial of what was read from the disk
	follower  *share.Follower // nil: the inventory is kept here
	scanner   *scan.Scanner
	versions  *versions.Versions
	hubs      *hubs.Follower
	prober    *probe.Prober // nil: nobody looks
	site      *status.Site
	// checkDesired says what is wrong with the settings of a mirror; nil: nothing is.
	checkDesired func(settings string) error

	working map[carrier]bool // who could be used when it was last put together
	loads   loads
	moved   chan struct{} // there is another locator
	open    []io.Closer   // to close at the end, the last one first
}

// openRedirector makes ready what is in the state folder. Nothing runs yet.
func openRedirector(ctx context.Context, cfg Config, env role.Env, in *inputs, checkDesired func(string) error) (_ *redirector, err error) {
	r := &redirector{cfg: cfg, log: env.Log, in: in, checkDesired: checkDesired, moved: make(chan struct{}, 1)}
	in.moved = func() {
		select {
		case r.moved <- struct{}{}:
		default:
		}
	}
	in.reloaded = func(cfg Config) {
		if err := r.desk.Reload(cfg.Control); err != nil {
			r.log.ErrorContext(ctx, "the clients of the API stay as they were", slog.Any("error", err))
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("state %s: %w", cfg.State, err), r.close())
		}
	}()
	if err := r.openState(); err != nil {
		return nil, err
	}
	if err := r.openCatalogue(ctx, env); err != nil {
		return nil, err
	}
	collectSooner()
	if err := r.openInventory(ctx); err != nil {
		return nil, err
	}
	if err := r.openFollower(ctx, env); err != nil {
		return nil, err
	}
	r.scanner = scan.New(scan.Options{
		Catalogue: r.catalogue, Inventory: r.inventory, PushedOnly: cfg.NoScans, Transport: env.HTTP.Transport,
		Followed: r.follower != nil, Told: listener{r}, Log: env.Log, Metrics: env.Metrics,
		Rsync: cfg.Rsync, AtOnce: cfg.ScansAtOnce, Rate: cfg.ScanRate, MaxAge: cfg.ScanAge,
	})
	if err := r.openVersions(env); err != nil {
		return nil, err
	}
	r.hubs = &hubs.Follower{Catalogue: r.catalogue, Hasten: r.versions.Hasten, HTTP: env.HTTP, Log: env.Log}
	if err := r.openProber(env); err != nil {
		return nil, err
	}
	if r.site, err = status.New(env.Log, nil); err != nil {
		return nil, err
	}
	r.metrics = newRedirectMetrics(env.Metrics)
	r.putTogether(r.catalogue.Current(), r.healthState())
	return r, nil
}

// answer returns who answers all requests: those for files, and by others the rest.
func (r *redirector) answer(others respondent, from *senders, access *role.Access) answerer {
	files := &redirects{data: &r.data, page: r.site.Choice, senders: from, access: access, metrics: r.metrics}
	both := &split{lists: others, files: files, snapshot: &r.in.data, data: &r.data}
	return &sitePages{answerer: both, base: status.Path, pages: r.site.Handler()}
}

// openState opens the folder, which belongs to one process at a time.
func (r *redirector) openState() error {
	var err error
	if r.state, err = durable.Open(r.cfg.State); err != nil {
		return err
	}
	r.open = append(r.open, r.state.Root)
	lock, err := r.state.Lock(lockFile)
	if err != nil {
		return err
	}
	r.open = append(r.open, lock)
	_, err = r.state.Sweep(".") // what a crash has left: inventories are large
	return err
}

// openCatalogue opens the catalogue where the configuration says, and the desk for those
// who order something about it.
func (r *redirector) openCatalogue(ctx context.Context, env role.Env) (err error) {
	r.catalogue, err = catalogue.OpenSource(ctx, catalogue.Where{
		Setting: r.cfg.Catalogue, Database: filepath.Join(r.cfg.State, catalogueFile), Keep: filepath.Join(r.cfg.State, followedFile),
		Token: r.cfg.CatalogueToken, HTTP: env.HTTP, Log: env.Log,
	})
	if err != nil {
		return err
	}
	r.open = append(r.open, r.catalogue)
	if r.desk, err = orders.Open(r.cfg.Control, r.catalogue.Current, env.Log); err != nil {
		return err
	}
	r.open = append(r.open, r.desk)
	return r.openDesired()
}

// openDesired opens what is desired of mirrors, where the catalogue is this director's.
func (r *redirector) openDesired() error {
	store, ours := r.catalogue.(*catalogue.Store)
	if !ours {
		return nil
	}
	var (
		key ed25519.PrivateKey
		err error
	)
	if r.cfg.DesiredKey != "" {
		key, err = desired.ReadKey(r.cfg.DesiredKey)
	} else {
		key, err = desired.OpenKey(r.state)
	}
	if err == nil {
		r.desired = desired.Open(store.DB(), key, nil)
	}
	return err
}

// collectSooner lets garbage be collected when there is a quarter as much of it as of what is
// kept, and not as much: a redirector keeps a lot that does not change, and makes so little
// garbage that even then it is collected every few seconds at most. The variable GOGC
// of the environment decides if it is there.
func collectSooner() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(25)
	}
}

// openInventory reads what was known of files. What cannot be read is found out anew.
func (r *redirector) openInventory(ctx context.Context) error {
	known, err := inventory.Load(r.state, inventoryFile)
	switch {
	case err == nil:
		r.inventory, r.written = known, known.Serial()
		return nil
	case errors.Is(err, fs.ErrNotExist):
	default:
		r.log.ErrorContext(ctx, "the inventory cannot be read, and is made anew: until then clients are sent to origins", slog.Any("error", err))
		if err := r.state.Rename(inventoryFile, inventoryFile+".damaged"); err != nil {
			return err
		}
	}
	r.inventory = new(inventory.Inventory)
	return nil
}

// subfolder opens a folder of the state folder.
func (r *redirector) subfolder(name string) (durable.Dir, error) {
	if err := r.state.MkdirAll(name, 0o755); err != nil {
		return durable.Dir{}, err
	}
	root, err := r.state.Root.OpenRoot(name)
	if err != nil {
		return durable.Dir{}, err
	}
	r.open = append(r.open, root)
	return durable.Dir{Root: root}, nil
}

func (r *redirector) openVersions(env role.Env) error {
	dir, err := r.subfolder(versionsDir)
	if err != nil {
		return err
	}
	options := versions.Options{
		Inventory: r.inventory, Origin: &versions.HTTPOrigin{Client: env.HTTP, URLs: r.originsOf}, Dir: dir, Hasten: r.hasten, Log: env.Log,
	}
	if r.cfg.NoProbes {
		options.Trust = r.cfg.ScanAge
	}
	r.versions, err = versions.Open(options)
	if err == nil {
		r.versions.SetCatalogue(r.catalogue.Current())
	}
	return err
}

func (r *redirector) openProber(env role.Env) error {
	if r.cfg.NoProbes {
		return nil
	}
	if _, err := r.subfolder(healthDir); err != nil {
		return err
	}
	var scans probe.Scans
	if !r.cfg.NoScans && r.follower == nil {
		scans = r.scanner
	}
	var err error
	r.prober, err = probe.New(probe.Options{
		Catalogue: r.catalogue, Inventory: newSamples(r.inventory, r.doubt), Scans: scans, Versions: r.versions,
		Folder: filepath.Join(r.cfg.State, healthDir), Dial: dialer(env), Log: env.Log, Metrics: env.Metrics,
	})
	return err
}

// dialer connects as all requests of the process do; nil if that is not known.
func dialer(env role.Env) func(ctx context.Context, network, address string) (net.Conn, error) {
	if t, ok := env.HTTP.Transport.(*http.Transport); ok {
		return t.DialContext
	}
	return nil
}

// originsOf are the URLs of a project's origins.
func (r *redirector) originsOf(project string) []string {
	for _, p := range r.catalogue.Current().Projects {
		if p.Name == project {
			return p.Origins
		}
	}
	return nil
}

// hasten asks for a scan soon.
func (r *redirector) hasten(mirror, project, why string) {
	r.scanner.Hasten(mirror, project, why)
}

// healthState is what is known of the health of mirrors, nil if nobody looks.
func (r *redirector) healthState() *probe.State {
	if r.prober == nil {
		return nil
	}
	return r.prober.State()
}

// run does all that is to be done beside answering, until ctx ends.
func (r *redirector) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.catalogue.Run(ctx) })
	group.Go(func() error { return r.versions.Run(ctx) })
	group.Go(func() error { return r.scanner.Run(ctx) })
	if r.follower != nil {
		group.Go(func() error { r.follower.Run(ctx); return nil })
	}
	group.Go(func() error { r.hubs.Run(ctx); return nil })
	if r.prober != nil {
		group.Go(func() error { return r.prober.Run(ctx) })
	}
	group.Go(func() error { r.follow(ctx); return nil })
	group.Go(func() error { return r.keep(ctx) })
	group.Go(func() error { return r.show(ctx) })
	return group.Wait()
}

// follow puts together what is known whenever something of it has changed.
func (r *redirector) follow(ctx context.Context) {
	var last *directorapi.Catalogue
	for pause.For(ctx, putTogetherEvery) {
		changed := r.catalogue.Changed()
		now, health := r.catalogue.Current(), r.healthState()
		if now != last {
			r.versions.SetCatalogue(now)
			last = now
		}
		r.putTogether(now, health)
		var healthy <-chan struct{}
		if health != nil {
			healthy = health.Changed()
		}
		select {
		case <-changed:
		case <-healthy:
		case <-r.moved:
		case <-time.After(loadsEvery):
		case <-ctx.Done():
			return
		}
	}
}

// carrier is a mirror that carries a project.
type carrier struct{ mirror, project string }

// workingIn are those that can be used in some way.
func workingIn(c *directorapi.Catalogue, health *probe.State) map[carrier]bool {
	working := make(map[carrier]bool)
	for i := range c.Mirrors {
		m := &c.Mirrors[i]
		if m.Disabled {
			continue
		}
		for _, carried := range m.Carries {
			works := health == nil
			for _, scheme := range []probe.Scheme{probe.HTTP, probe.HTTPS} {
				for _, family := range []probe.Family{probe.IPv4, probe.IPv6} {
					if !works {
						works, _, _ = health.Usable(m.Name, carried.Project, scheme, family)
					}
				}
			}
			if works {
				working[carrier{m.Name, carried.Project}] = true
			}
		}
	}
	return working
}

// show renews what the public pages show, until ctx ends.
func (r *redirector) show(ctx context.Context) error {
	var surveyor status.Surveyor
	for {
		from := &status.Sources{Catalogue: r.catalogue.Current(), Inventory: r.inventory, Current: r.versions.Current, Behind: r.versions.Behind}
		if r.prober != nil {
			from.Health, from.History = r.prober.State(), r.prober.History
		}
		if r.scanner != nil {
			from.Scan = r.scanner.Status
		}
		if err := r.site.Show(surveyor.Survey(from, time.Now())); err != nil {
			r.log.ErrorContext(ctx, "the public pages are not renewed", slog.Any("error", err))
		}
		if !pause.For(ctx, showEvery) {
			return nil
		}
	}
}

// putTogether answers requests by what is known from now on.
func (r *redirector) putTogether(c *directorapi.Catalogue, health *probe.State) {
	mirrors := make(map[string]bool, len(c.Mirrors))
	for i := range c.Mirrors {
		mirrors[c.Mirrors[i].Name] = true
	}
	if health != nil {
		r.loads.follow(c, health, r.metrics.mirrors.bytes, time.Now())
	}
	working := workingIn(c, health)
	for at := range r.working {
		if !working[at] {
			r.versions.Moving(at.mirror, at.project)
		}
	}
	for at := range working {
		if !r.working[at] {
			r.versions.Moving(at.mirror, at.project)
		}
	}
	r.working = working
	n, projects := network.New(network.Sources{
		Catalogue: c, Inventory: r.inventory, Versions: reasons{r.versions}, Health: health,
		Locator: r.in.locator.Load(), Count: r.metrics.mirrors.count, Shed: r.loads.shed,
	})
	r.metrics.mirrors.keep(func(m string) bool { return mirrors[m] })
	r.data.Store(redirect.NewData(projects, n))
}

// keep writes the inventory down now and then, and at the end.
func (r *redirector) keep(ctx context.Context) error {
	saved := r.written
	for {
		ended := !pause.Until(ctx, r.taken(), saveEvery)
		if serial := r.inventory.Serial(); serial != saved {
			if err := r.inventory.Save(r.state, inventoryFile); err != nil {
				r.log.ErrorContext(ctx, "the inventory cannot be written: after a restart it is found out anew", slog.Any("error", err))
			} else {
				saved = serial
			}
		}
		if ended {
			return nil
		}
	}
}

// close lets go of all that is open.
func (r *redirector) close() error {
	var failed error
	for _, c := range slices.Backward(r.open) {
		failed = errors.Join(failed, c.Close())
	}
	return failed
}
