package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/config"
	"freshet/internal/durable"
	"freshet/internal/hub/catalog"
	"freshet/internal/hub/hook"
	"freshet/internal/hub/repository"
	"freshet/internal/role"
	"freshet/internal/sign"
	"freshet/internal/store/bucket"
)

// Names below [Config.Dir].
const (
	lockFile     = "lock"
	catalogFile  = "hub.db"
	signingKey   = "signing-key.asc"
	reposFolder  = "repos"
	buildsFolder = "builds"
	treesFolder  = "trees"
)

// keyUser is the user id of a signing key that the hub makes itself.
const keyUser = "Freshet hub"

// Run is the hub. It serves until ctx ends, then lets the requests and jobs
// under way end within [role.DrainTimeout]; jobs that take longer are taken up
// by the next Run. A clean stop returns nil.
func Run(ctx context.Context, cfg Config, env role.Env) (err error) {
	env = env.WithDefaults()
	cfg = cfg.WithDefaults()
	if err := config.Check(cfg); err != nil {
		return err
	}
	s := &server{
		cfg: cfg, hidden: env.Secrets, log: env.Log, metrics: newMetrics(env.Metrics),
		repos: make(map[string]*repository.Repository), queues: make(map[string]*queue), tellers: make(map[string]*teller), gates: make(map[string]*tokenGate), makers: make(map[string]*deltaMaker), stopping: ctx,
		verifiers: semaphore.NewWeighted(verifiersAtOnce),
	}
	env.Metrics.MustRegister(queueGauges(&s.deltas)...)
	for name := range cfg.Repos {
		env.Metrics.MustRegister(newQuarantineGauge(name, cfg.RepoDir(name)))
	}
	if cfg.isShared() {
		s.fleet.metrics, s.fleet.direct = newFleetMetrics(env.Metrics), newDirect()
	}
	var open closers
	defer func() { err = errors.Join(err, open.close()) }()

	unlock, err := s.prepareDir()
	if err != nil {
		return err
	}
	open.add(unlock)
	// Before anything else can fail slowly: the address, which is also the
	// default of base-url. Connections wait until the hub is ready.
	listener, err := env.Listen(ctx, cfg.Listen)
	if err != nil {
		return err
	}
	open.add(closeFunc(func() error {
		if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil // the server closed it
	}))
	s.base = strings.TrimRight(cfg.BaseURL, "/")
	if s.base == "" {
		s.base = baseURL(listener.Addr())
	}
	s.address = cmp.Or(strings.TrimRight(cfg.Shared.URL, "/"), baseURL(listener.Addr()))
	started, err := s.startAlone(ctx)
	if err != nil {
		return err
	}
	defer started()
	where := catalog.Config{DSN: cfg.Database, Path: filepath.Join(cfg.Dir, catalogFile), Instance: cfg.Shared.Instance}
	if s.catalog, err = catalog.Open(ctx, where); err != nil {
		return err
	}
	open.add(s.catalog)
	secret, err := auth.LoadSecret(cfg.SecretFile)
	if err != nil {
		return err
	}
	s.authority = &auth.Authority{Secret: secret, Prefix: cfg.TokenPrefix, Revoked: s.catalog}
	s.exchange = newExchange(cfg.TrustedPublishers, s.base, env.Metrics)
	s.downloads = s.authority
	if cfg.RepoSecretFile != "" {
		if secret, err = auth.ReadSecret(cfg.RepoSecretFile); err != nil {
			return err
		}
		s.downloads = &auth.Authority{Secret: secret, Prefix: cfg.TokenPrefix, Revoked: s.catalog}
	}
	if err := s.openAll(ctx, &open); err != nil {
		return err
	}
	started()
	return s.serve(ctx, listener, env)
}

// serve runs everything that runs at the same time.
func (s *server) serve(ctx context.Context, listener net.Listener, env role.Env) error {
	access := role.NewAccess("hub", s.log, env.Metrics).To(env.Access)
	serveConsole, err := s.openConsole(ctx, env)
	if err != nil {
		return fmt.Errorf("console: %w", err)
	}
	group, stop := errgroup.WithContext(ctx)
	// Jobs get the time that requests get.
	jobs, cancelJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer cancelJobs()
	defer context.AfterFunc(stop, func() {
		timer := time.AfterFunc(role.DrainTimeout, cancelJobs)
		context.AfterFunc(jobs, func() { timer.Stop() })
	})()

	group.Go(func() error { return role.Serve(stop, listener, access.Wrap(s.routes()), s.log) })
	if serveConsole != nil {
		group.Go(func() error { return serveConsole(stop) })
	}
	if s.cfg.isShared() {
		head, err := s.catalog.Head(ctx)
		if err != nil {
			return err
		}
		group.Go(func() error { s.share(jobs, stop); return nil })
		group.Go(func() error { s.follow(stop, max(0, head-followed)); return nil })
	} else {
		s.startBuilding(jobs, stop, group)
		s.startPublishing(jobs, stop, group)
	}
	if s.hasHooks() && !hook.Confines() {
		s.log.WarnContext(ctx, "this kernel has no Landlock: hooks may read and write what the hub may")
	}
	for name, repo := range s.cfg.Repos {
		if repo.Hooks.Ports != nil && !hook.ConfinesPorts() {
			s.log.WarnContext(ctx, "this kernel does not confine hooks to ports", slog.String("repo", name))
		}
	}
	if s.cfg.Database != "" {
		group.Go(func() error { return s.catalog.Watch(stop) })
	}
	s.log.InfoContext(ctx, "hub serves", slog.String("address", listener.Addr().String()), slog.String("base", s.base),
		slog.String("database", s.catalog.Database()), slog.Int("repos", len(s.repos)))
	env.Ready()
	return group.Wait()
}

// startBuilding starts what works on builds: in each of several hubs.
func (s *server) startBuilding(jobs, stop context.Context, group *errgroup.Group) {
	for range s.cfg.CommitWorkers {
		group.Go(func() error {
			s.work(jobs, stop, catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobCommit}}, s.commits, s.runCommit)
			return nil
		})
	}
	for range s.cfg.CheckWorkers {
		// A check is begun anew at the next start, so nobody waits for its end.
		group.Go(func() error {
			s.work(stop, stop, catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobCheck}}, nil, s.runCheck)
			return nil
		})
	}
}

// startPublishing starts what works on repositories: in one of several hubs.
func (s *server) startPublishing(jobs, stop context.Context, group *errgroup.Group) {
	worker := func(filter catalog.JobFilter, q *queue, run func(context.Context, *catalog.Job) error) {
		group.Go(func() error { s.work(jobs, stop, filter, q, run); return nil })
	}
	worker(catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobPrune}}, &s.prunes, s.runPrune)
	for name := range s.repos {
		worker(catalog.JobFilter{Kinds: catalog.SerialKinds(), Repo: name}, s.queues[name], s.runSerial)
	}
	group.Go(func() error {
		// They wait, each for its own, and nobody's publish waits for another's.
		s.work(stop, stop, catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobBuildDeltas}}, nil, func(ctx context.Context, job *catalog.Job) error {
			group.Go(func() error { s.guard(ctx, job, s.makeBuildDeltas); return nil })
			return nil
		})
		return nil
	})
	for name, m := range s.makers {
		// What is not made is made at the next start.
		group.Go(func() error {
			m.wantDeltas(stop)
			s.work(stop, stop, catalog.JobFilter{Kinds: []hubapi.JobKind{hubapi.JobDeltas}, Repo: name}, nil, m.runDeltas)
			return nil
		})
	}
	if len(s.makers) > 0 {
		for range max(0, s.cfg.DeltaWorkers) {
			group.Go(func() error { s.makeDeltas(stop); return nil })
		}
	}
	for _, t := range s.tellers {
		t.published() // the last publish may not have been told of
		group.Go(func() error { s.tell(jobs, stop, t); return nil })
	}
	group.Go(func() error { s.upkeep(stop); return nil })
	for name := range s.repos {
		if every := s.cfg.Repos[name].Prune.Every; every > 0 {
			group.Go(func() error { s.pruneEvery(stop, name, every); return nil })
		}
		if s.cfg.Repos[name].ScrubRate > 0 {
			group.Go(func() error { s.scrub(stop, name); return nil })
		}
	}
}

// prepareDir makes the folders and takes the lock.
func (s *server) prepareDir() (io.Closer, error) {
	dir, err := durable.Open(s.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("hub: %w", err)
	}
	defer func() { _ = dir.Root.Close() }()
	for _, folder := range [...]string{reposFolder, buildsFolder, treesFolder} {
		if err := dir.MkdirAll(folder, 0o755); err != nil {
			return nil, fmt.Errorf("prepare %s: %w", s.cfg.Dir, err)
		}
	}
	if s.cfg.isShared() {
		return s.lockShared(dir)
	}
	lock, err := dir.Lock(lockFile)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", s.cfg.Dir, err)
	}
	return lock, nil
}

// openAll opens what is on disk and finishes what an earlier run had to leave.
func (s *server) openAll(ctx context.Context, open *closers) error {
	recovery, err := s.catalog.Recover(ctx)
	if err != nil {
		return err
	}
	if err := s.makeKey(); err != nil {
		return err
	}
	keys := newKeyrings(&s.cfg)
	open.add(keys)
	builds, err := keys.of(s.cfg.keysOf(buildsName))
	if err != nil {
		return err
	}
	s.commits = s.newQueue(buildsName, readyWith(builds))
	if err := s.openStorage(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Repos)) {
		signer, err := keys.of(s.cfg.keysOf(name))
		if err != nil {
			return fmt.Errorf("repository %s: %w", name, err)
		}
		if err := s.openRepo(ctx, name, signer, builds, open); err != nil {
			return fmt.Errorf("repository %s: %w", name, err)
		}
	}
	if err := s.openDeltas(open); err != nil {
		return fmt.Errorf("static deltas: %w", err)
	}
	if !s.cfg.isShared() {
		if err := s.clearDeltas(); err != nil {
			return fmt.Errorf("static deltas: %w", err)
		}
		if err := s.openTrees(ctx, open); err != nil {
			return fmt.Errorf("trees: %w", err)
		}
	}
	for _, job := range recovery.Requeued {
		s.log.InfoContext(ctx, "job goes on", slog.Int64("job", job.ID), slog.String("kind", job.Kind.String()))
	}
	if !s.cfg.isShared() {
		s.purgeAll(ctx, recovery)
	}
	head, err := s.catalog.Head(ctx)
	s.metrics.eventHead.Set(float64(head))
	return err
}

func (s *server) openRepo(ctx context.Context, name string, signer, builds sign.Signer, open *closers) error {
	cfg := s.cfg.Repos[name]
	ed25519, err := s.cfg.ed25519Of(name)
	if err != nil {
		return err
	}
	last, err := s.catalog.LastPublish(ctx, name)
	if err != nil {
		return err
	}
	repo, pending, err := repository.Open(ctx, repository.Options{
		AfterSerial:          uint64(last),
		Name:                 name,
		Instance:             s.cfg.Shared.Instance,
		Dir:                  s.repoDir(name),
		BuildsDir:            s.buildsDir(),
		BaseURL:              s.repoURL(name),
		BuildsURL:            s.base + "/build-repo/",
		SuggestedName:        cfg.SuggestedName,
		RuntimeRepoURL:       cfg.RuntimeRepoURL,
		CollectionID:         cfg.CollectionID,
		DeployCollectionID:   cfg.DeployCollectionID,
		Title:                cfg.Title,
		Comment:              cfg.Comment,
		Description:          cfg.Description,
		Homepage:             cfg.Homepage,
		Icon:                 cfg.Icon,
		DefaultBranch:        cfg.DefaultBranch,
		RedirectURL:          cfg.RedirectURL,
		SummaryArches:        cfg.SummaryArches,
		AppstreamCheckout:    cfg.AppstreamCheckout,
		Subsets:              cfg.Subsets,
		AuthenticatorName:    cfg.AuthenticatorName,
		AuthenticatorOptions: cfg.AuthenticatorOptions,
		Verifiers:            s.verifiers,
		Signer:               signer,
		Ed25519:              ed25519,
		BuildSigner:          builds,
		RefreshLater:         isRemote(signer), // it may be away, or take its time
		Repaired:             func() { s.repaired(s.stopping, name) },
		Copy:                 s.copyOf(name),
		Log:                  s.log.With(slog.String("repo", name)),
	}, refCache{s.catalog})
	if err != nil {
		return err
	}
	open.add(repo)
	s.repos[name] = repo
	s.metrics.summaryOf(name, repo)
	s.queues[name] = s.newQueue(name, s.readyRepo(name, readyWith(signer)))
	if len(cfg.RequireAuthForTokenTypes) > 0 {
		s.gates[name] = &tokenGate{needs: repo.TokenNeed, without: cfg.DefaultTokenType, types: cfg.RequireAuthForTokenTypes}
	}
	if len(cfg.Hooks.PostPublish) > 0 {
		s.tellers[name] = newTeller(name)
	}
	return s.resumeAll(ctx, name, pending)
}

// openStorage looks whether the bucket does what it must.
func (s *server) openStorage(ctx context.Context) error {
	if !s.cfg.Storage.isUsed() {
		return nil
	}
	objects, err := s.cfg.Storage.open()
	if err == nil {
		err = bucket.Probe(ctx, objects, s.cfg.Storage.prefixOf(""))
	}
	if err != nil {
		return fmt.Errorf("storage: %w", err)
	}
	s.storage = objects
	return nil
}

// repoURL is where clients reach a repository, with a slash at its end.
func (s *server) repoURL(name string) string {
	base := s.cfg.Repos[name].BaseURL
	if base == "" {
		base = cmp.Or(strings.TrimRight(s.cfg.PublicURL, "/"), s.base) + hubapi.RepoPath(name)
	}
	return strings.TrimRight(base, "/") + "/"
}

// refCache lets a repository see what the catalog remembers of its refs.
type refCache struct{ catalog *catalog.Catalog }

// Load implements [repository.Cache].
func (c refCache) Load(ctx context.Context, repo string) ([]repository.RefInfo, error) {
	var infos []repository.RefInfo
	for ref, err := range c.catalog.Refs(ctx, repo) {
		if err != nil {
			return nil, err
		}
		infos = append(infos, repository.RefInfo{Ref: ref.Ref, Commit: ref.Commit, Blob: ref.Info})
	}
	return infos, nil
}

func (s *server) buildsDir() string { return filepath.Join(s.cfg.Dir, buildsFolder) }

func (s *server) buildDir(id int64) string {
	return filepath.Join(s.buildsDir(), strconv.FormatInt(id, 10))
}

// baseURL is the URL of a listener for clients on the same machine.
func baseURL(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "http://" + addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// closers closes what was opened, the last first.
type closers []io.Closer

func (c *closers) add(closer io.Closer) { *c = append(*c, closer) }

func (c *closers) close() (err error) {
	for _, closer := range slices.Backward(*c) {
		err = errors.Join(err, closer.Close())
	}
	return err
}

type closeFunc func() error

func (f closeFunc) Close() error { return f() }
