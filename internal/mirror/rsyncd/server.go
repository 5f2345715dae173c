package rsyncd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/accesslog"
	"freshet/internal/durable"
	"freshet/internal/h1"
	"freshet/internal/role"
	"freshet/internal/rsync"
)

// Reasons why a client is not served.
const (
	reasonConns      = "conns"           // too many are served
	reasonConnsPerIP = "conns_per_ip"    // too many from there
	reasonSilent     = "silent"          // it did not say what it wants
	reasonNoProject  = "no-project"      // there is no such module
	reasonEnded      = "rsync-failed"    // rsync ended with an error: most often the client went
	reasonRun        = "rsync-not-found" // rsync could not be run
)

// Server serves modules by rsync.
type Server struct {
	// Each, if not nil, is called with each record before it is logged; Under with those of
	// sessions that take long, every ten seconds, and with how many bytes went out since the
	// last time. They are set before the first client comes, must not wait and must not keep
	// the record.
	Each  func(r *accesslog.Record)
	Under func(r *accesslog.Record, more int64)

	cfg     Config
	program *rsync.Program
	dir     durable.Dir // with its configuration
	message string      // the path of what is said to clients, or empty
	log     *slog.Logger
	lines   *accesslog.Log // nil: records go to log
	metrics metrics
	sent    atomic.Int64
	places  places
	turns   *turns

	mu      sync.Mutex
	modules []Module
	away    map[string]Absence // as the configuration has it; by module
	stale   bool               // the configuration could not be written: the disk is full
}

// metrics are what is counted.
type metrics struct {
	sessions *prometheus.CounterVec
	bytes    *prometheus.CounterVec
	active   prometheus.Gauge
}

// The names of the files in the folder of the server.
const (
	configName  = "rsyncd.conf"
	messageName = "rsyncd.motd"
)

// New prepares a server of modules, whose names are those of projects. Its configuration
// is written into dir, an absolute path.
func New(cfg Config, modules []Module, program *rsync.Program, dir durable.Dir, env role.Env) (*Server, error) {
	cfg = cfg.WithDefaults()
	message := ""
	if cfg.Message != "" {
		message = dir.Root.Name() + "/" + messageName
		if err := write(dir, messageName, cfg.Message+"\n"); durable.IsNoSpace(err) {
			env.Log.Error("clients of rsync are not told what the message is now", slog.Any("error", err))
		} else if err != nil {
			return nil, err
		}
	}
	s := &Server{
		cfg: cfg, program: program, dir: dir, message: message, log: env.Log, lines: env.Access,
		turns:  newTurns(runtime.GOMAXPROCS(0)),
		places: places{most: cfg.Connections, perAddress: cfg.ConnectionsPerAddress, within: nameWithin, yields: yieldsAfter},
		metrics: metrics{
			sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "freshet_mirror_rsync_sessions_total", Help: "Clients of the rsync server, by project and, for failures, the reason.",
			}, []string{"project", "reason"}),
			bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
				Name: "freshet_mirror_rsync_bytes_total", Help: "Bytes that went over connections of rsync, sent and received.",
			}, []string{"project", "direction"}),
			active: prometheus.NewGauge(prometheus.GaugeOpts{
				Name: "freshet_mirror_rsync_clients", Help: "Clients that rsync serves now.",
			}),
		},
	}
	s.places.active = s.metrics.active
	if err := s.Show(modules); durable.IsNoSpace(err) { // what there is of a configuration must do until there is room
		env.Log.Error("clients of rsync are not told which projects are there", slog.Any("error", err))
		s.modules, s.stale = modules, true
	} else if err != nil {
		return nil, err
	}
	env.Metrics.MustRegister(s.metrics.sessions, s.metrics.bytes, s.metrics.active)
	return s, nil
}

// Show serves these modules to clients that come from now on.
func (s *Server) Show(modules []Module) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.showLocked(modules, awayOf(modules))
}

func (s *Server) showLocked(modules []Module, away map[string]Absence) error {
	text, err := render(s.cfg, modules, away, s.message, os.Geteuid() == 0)
	if err == nil {
		err = write(s.dir, configName, text)
	}
	if err == nil {
		s.modules, s.away, s.stale = modules, away, false
	}
	return err
}

// awayNow are the modules that are not there, which the configuration says from now on.
func (s *Server) awayNow(ctx context.Context) map[string]Absence {
	s.mu.Lock()
	defer s.mu.Unlock()
	away := awayOf(s.modules)
	if maps.Equal(away, s.away) && !s.stale {
		return away
	}
	if err := s.showLocked(s.modules, away); err != nil {
		s.log.ErrorContext(ctx, "clients of rsync are not told which projects are there", slog.Any("error", err))
	}
	return away
}

func awayOf(modules []Module) map[string]Absence {
	away := make(map[string]Absence)
	for _, m := range modules {
		if m.Away == nil {
			continue
		}
		if absence := m.Away(); absence != (Absence{}) {
			away[m.Name] = absence
		}
	}
	return away
}

// write writes a file, unless that is what it has. On a disk that is full it is written over
// the old one, if it fits there: a mirror starts again, and projects come and go.
func write(dir durable.Dir, name, text string) error {
	have, missing := dir.Root.ReadFile(name)
	if missing == nil && strings.TrimRight(string(have), "\n") == strings.TrimRight(text, "\n") {
		return nil
	}
	err := dir.WriteFile(name, []byte(text), 0o644)
	if missing == nil && durable.IsNoSpace(err) && over(dir, name, text, len(have)) == nil {
		return nil
	}
	return err
}

// over writes over a file of so many bytes, at once and not longer than it is: what rsync
// reads is the one or the other.
func over(dir durable.Dir, name, text string, size int) error {
	if len(text) > size {
		return syscall.ENOSPC
	}
	f, err := dir.Root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt([]byte(text+strings.Repeat("\n", size-len(text))), 0)
	return errors.Join(err, f.Close())
}

// path is that of the configuration.
func (s *Server) path() string { return s.dir.Root.Name() + "/" + configName }

// Serve serves until ctx ends; then clients have a while to end ([role.DrainTime]), and are
// cut. It closes ln. A clean stop returns nil.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	serving, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var clients sync.WaitGroup
	defer context.AfterFunc(ctx, func() {
		_ = ln.Close() // which ends the loop
		time.AfterFunc(role.DrainTime(ctx), cut)
	})()
	for {
		conn, err := ln.Accept()
		if err != nil {
			clients.Wait()
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("rsync: %w", err)
		}
		clients.Go(func() {
			defer conn.Close() //nolint:errcheck // it has ended
			s.serve(serving, conn)
		})
	}
}

// serve serves one client.
func (s *Server) serve(ctx context.Context, conn net.Conn) {
	rec := accesslog.Record{Begun: time.Now(), Client: h1.AddressOf(conn.RemoteAddr()), Method: "RSYNC", Path: "/", Proto: "rsync", Status: 200}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		s.log.ErrorContext(ctx, "rsync is served over TCP only")
		return
	}
	ctx, cut := context.WithCancel(ctx)
	defer cut()
	c := &client{from: h1.Source(rec.Client), cut: cut}
	if rec.Reason = s.places.enter(c, rec.Begun); rec.Reason != "" {
		refuse(conn, fmt.Sprintf("max connections (%d, %d from one address) reached -- try again later", s.cfg.Connections, s.cfg.ConnectionsPerAddress))
		rec.Status = 503
		s.note(ctx, &rec, rsync.Served{})
		return
	}
	mine := s.turns.take(ctx)
	defer mine.end()
	s.places.ask(c, time.Now())
	away := s.awayNow(ctx)
	served, err := s.program.Serve(ctx, rsync.Session{
		Conn: tcp, Config: s.path(), Idle: true, Progress: s.progress(&rec),
		Started: func(pid int) { go mine.watch(pid) }, Named: func() { s.places.named(c) },
	})
	silent := s.places.leave(c)
	_, ended := errors.AsType[*rsync.ExitError](err)
	absence, isAway := away[served.Module]
	if served.Module != "" {
		rec.Path, rec.Site = "/"+served.Module, served.Module
	}
	switch {
	case err != nil && !ended:
		rec.Status, rec.Reason, rec.Detail = 500, reasonRun, err.Error()
	case silent:
		rec.Reason = reasonSilent
	case isAway:
		rec.Status, rec.Reason = 503, absence.Reason
	case served.Module != "" && !served.Allowed:
		rec.Status, rec.Reason = 404, reasonNoProject
	case err != nil && served.Module != "":
		rec.Reason, rec.Detail = reasonEnded, err.Error()
	}
	s.note(ctx, &rec, served)
}

// progress counts what goes out of a session that takes long.
func (s *Server) progress(rec *accesslog.Record) func(rsync.Served) {
	return func(now rsync.Served) {
		more := now.Sent - rec.Told
		if more <= 0 {
			return
		}
		s.sent.Add(more)
		rec.Told = now.Sent
		if now.Allowed {
			rec.Path, rec.Site = "/"+now.Module, now.Module
		}
		if s.Under != nil {
			rec.Took = time.Since(rec.Begun)
			s.Under(rec, more)
		}
	}
}

// Sent is how many bytes went out since the start.
func (s *Server) Sent() int64 { return s.sent.Load() }

// note records a session.
func (s *Server) note(ctx context.Context, rec *accesslog.Record, served rsync.Served) {
	rec.Took, rec.Bytes = time.Since(rec.Begun), max(served.Sent, rec.Told)
	s.sent.Add(rec.Bytes - rec.Told)
	if s.Each != nil {
		s.Each(rec)
	}
	project := ""
	if served.Allowed {
		project = served.Module // any other name is the client's, and no label
	}
	s.metrics.sessions.WithLabelValues(project, rec.Reason).Inc()
	s.metrics.bytes.WithLabelValues(project, "sent").Add(float64(served.Sent))
	s.metrics.bytes.WithLabelValues(project, "received").Add(float64(served.Received))
	if s.lines != nil {
		s.lines.Write(rec)
		return
	}
	accesslog.Slog(ctx, s.log, rec)
}

// refuse tells a client of rsync why it is not served, in its protocol: it shows that to
// whoever runs it.
func refuse(conn net.Conn, why string) {
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return
	}
	_, _ = io.WriteString(conn, "@RSYNCD: 31.0\n")
	in := bufio.NewReaderSize(conn, 512)
	for range 2 { // its version, and the module
		if _, err := in.ReadSlice('\n'); err != nil {
			return
		}
	}
	_, _ = io.WriteString(conn, "@ERROR: "+why+"\n") // it has gone
}
