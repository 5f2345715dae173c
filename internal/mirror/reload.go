package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"

	"freshet/internal/certs"
	"freshet/internal/config"
)

// follow tells others what there is, and takes over other configurations, until ctx ends.
func (m *mirror) follow(ctx context.Context, reloads <-chan Config, certificates *certs.Store) {
	for {
		telling, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		now := m.now.Load()
		go func() {
			defer close(ended)
			now.cry(telling)
		}()
		for m.now.Load() == now && ctx.Err() == nil {
			select {
			case cfg := <-reloads:
				if certificates != nil {
					certificates.Reload(ctx)
				}
				m.reload(ctx, cfg)
			case o := <-m.offers:
				o.done <- m.accept(ctx, o.desired)
			case <-ctx.Done():
			}
		}
		stop()
		<-ended
		if ctx.Err() != nil {
			return
		}
	}
}

// reload takes over another configuration if it can, and tells of it.
func (m *mirror) reload(ctx context.Context, cfg Config) {
	whole := cfg
	if m.follower != nil {
		whole = cfg.with(m.wanted)
	}
	if err := m.apply(ctx, whole); err != nil {
		m.log.ErrorContext(ctx, "settings were not read anew: those before stay", slog.Any("error", err))
		return
	}
	m.local = cfg
	m.log.InfoContext(ctx, "settings were read anew", slog.Int("projects", len(m.cfg().Projects)))
}

// apply has the mirror work by another configuration from now on. Projects that are not in it
// are served and synced no more, and stay on the disk; syncs of projects that are to consist of
// something else begin anew. Settings that need a restart stay as they were. After an error all
// is as it was.
func (m *mirror) apply(ctx context.Context, cfg Config) error {
	if err := config.Check(cfg); err != nil {
		return err
	}
	m.changing.Lock()
	defer m.changing.Unlock()
	before := m.now.Load()
	cfg = cfg.WithDefaults()
	late := changed(fixed(before.cfg), fixed(cfg))
	keepFixed(&cfg, &before.cfg)
	for _, h := range before.hotSets {
		h.keep() // for one that comes after it
	}
	next, err := m.settle(ctx, cfg)
	if err != nil {
		return err
	}
	clients, err := cfg.Control.clients()
	if err != nil {
		return err
	}
	if m.rsyncs != nil {
		modules, err := next.modules()
		if err == nil {
			err = m.rsyncs.Show(modules)
		}
		if err != nil {
			return fmt.Errorf("rsync: %w", err)
		}
	}
	m.desk.clients.Store(clients)
	m.network.Set(int64(cfg.Limits.Bandwidth))
	m.disks.Set(int64(cfg.Limits.IO))
	for name, share := range before.shares { // of syncs that run
		if p, ok := cfg.Projects[name]; ok {
			share.Limit(int64(p.Limit))
		}
	}
	m.now.Store(next)
	m.engine.Set(slices.Collect(maps.Values(next.projects)))
	m.show(next)
	if err := m.scheduler.Set(next.schedules(), cfg.Limits.Syncs); err != nil {
		m.log.ErrorContext(ctx, "the state of the schedule is not saved", slog.Any("error", err))
	}
	m.cleanSoon() // grace times and the reserve may be others
	if len(late) > 0 {
		m.log.WarnContext(ctx, "some settings that have changed are taken over at the next start only", slog.String("settings", strings.Join(late, ", ")))
	}
	return nil
}

// fixed has of c what needs a restart.
func fixed(c Config) (f Config) {
	keepFixed(&f, &c)
	return f
}

// keepFixed puts into c what needs a restart, as it is in running.
func keepFixed(c, running *Config) {
	c.Directory, c.Listeners, c.Clients, c.Rsyncd = running.Directory, running.Listeners, running.Clients, running.Rsyncd
	c.Watch, c.Desired = running.Watch, running.Desired
	c.Control.AuditFile = running.Control.AuditFile
}

// changed lists the keys and tables of [mirror] in which two configurations differ.
func changed(a, b Config) (keys []string) {
	left, right := reflect.ValueOf(a), reflect.ValueOf(b)
	for _, field := range reflect.VisibleFields(left.Type()) {
		key := field.Tag.Get("toml") // none: its fields come after it
		if key != "" && !reflect.DeepEqual(left.FieldByIndex(field.Index).Interface(), right.FieldByIndex(field.Index).Interface()) {
			keys = append(keys, "mirror."+key)
		}
	}
	return keys
}
