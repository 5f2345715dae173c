package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"freshet/bench/measure"
)

const filesCase = "files"

// mirrorbitsCPU is what mirrorbits at 7357f8c and Redis 7.0 were measured to need for a
// redirect, in µs: with 60 mirrors of 20,000 files each, on a machine of this kind.
const mirrorbitsCPU = 1330 + 565

// runFiles measures a redirector.
func runFiles(ctx context.Context, cfg config, dir string, out io.Writer) error {
	dir = filepath.Join(dir, filesCase)
	if cfg.world != "" {
		dir = cfg.world
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	net := &world{dir: dir, rand: rand.New(rand.NewPCG(1, 2))}
	if err := errors.Join(net.write(netblocksFile, net.netblocks), net.write(continentsFile, continents)); err != nil {
		return err
	}
	w := newFileWorld()
	list := newFileList(w)
	var err error
	if w.list, err = list.serve(ctx); err != nil {
		return err
	}
	text, err := w.write(dir, net)
	if err != nil {
		return err
	}
	if err := redirects(ctx, cfg, dir, text, w.requests(net.clients), out); err != nil {
		return err
	}
	return rescans(ctx, cfg, dir, text, list, out)
}

// startRedirector starts a redirector and waits until it knows what is in its files.
func startRedirector(ctx context.Context, cfg config, dir, text string) (*server, error) {
	ports, err := measure.FreePorts(2)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "freshet.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s := &server{name: ours, addr: local(ports[0]), admin: local(ports[1])}
	s.cmd = exec.CommandContext(ctx, cfg.binary, "director", "--config", file, "--listen", s.addr, "--admin", s.admin,
		"--log-level", "warn", "--access-log", filepath.Join(dir, "access.log"))
	begin := time.Now()
	err = measure.Start(ctx, s.cmd, s.addr, filepath.Join(dir, "freshet.out"))
	s.loaded = time.Since(begin)
	return s, err
}

// redirects measures the answers to clients.
func redirects(ctx context.Context, cfg config, dir, text string, requests [][]byte, out io.Writer) error {
	s, err := startRedirector(ctx, cfg, dir, text+"no-scans = true\n")
	if s != nil {
		defer measure.Stop(s.cmd)
	}
	if err != nil {
		return err
	}
	s.print(out, filesCase+"-load-s", s.loaded.Seconds(), 0)
	c := &benchCase{
		name: filesCase, requests: requests, cpu: 30, rps: 20_000, stated: mirrorbitsCPU,
		expected: func(status int) bool { return status == http.StatusFound },
	}
	if err := c.run(ctx, cfg, dir, []*server{s}, out); err != nil {
		return err
	}
	bytes, err := most(ctx, s)
	measure.Most(out, filesCase+"-memory-MB", bytes/1e6, 300)
	return err
}

// rescans measures what it costs to read a listing that has not changed: that of a mirror of
// which a director that has just begun knows it from its file.
func rescans(ctx context.Context, cfg config, dir, text string, list *fileList, out io.Writer) error {
	s, err := startRedirector(ctx, cfg, dir, text)
	if s != nil {
		defer measure.Stop(s.cmd)
	}
	if err != nil {
		return err
	}
	if err := wait(ctx, list.asked); err != nil {
		return err
	}
	before, err := live(ctx, s)
	if err != nil {
		return err
	}
	took, err := list.send(ctx, s)
	if err != nil {
		return err
	}
	bytes, err := most(ctx, s)
	if err != nil {
		return err
	}
	after, err := live(ctx, s)
	if err != nil {
		return err
	}
	said, err := os.ReadFile(filepath.Join(dir, "freshet.out"))
	if strings.Contains(string(said), mirrorName(1)) {
		return fmt.Errorf("a scan failed:\n%s", said)
	}
	measure.Most(out, filesCase+"-rescan-cpu-s", took.Seconds(), 5)
	measure.Most(out, filesCase+"-rescan-growth-MB", (after-before)/1e6, 1)
	measure.Most(out, filesCase+"-rescan-memory-MB", bytes/1e6, 300)
	return err
}

// send lets the listing be read, and returns the CPU time that it took the server until it
// was worked in.
func (l *fileList) send(ctx context.Context, s *server) (time.Duration, error) {
	begin, err := measure.CPU(s.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	close(l.open)
	if err := wait(ctx, l.sent); err != nil {
		return 0, err
	}
	// The listing is read; that it is worked in is seen by the silence.
	for last, quiet := begin, 0; ; {
		<-time.After(200 * time.Millisecond)
		now, err := measure.CPU(s.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		if quiet++; now-last > 10*time.Millisecond {
			quiet = 0
		}
		if last = now; quiet == 5 {
			return now - begin, nil
		}
	}
}

// wait waits for a signal.
func wait(ctx context.Context, signal <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	select {
	case <-signal:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("nobody asks for the listing: %w", context.Cause(ctx))
	}
}
