package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"freshet/bench/measure"
)

// server is one of those that are compared.
type server struct {
	name  string
	addr  string
	tls   string // address with TLS, if it has one
	admin string // of freshet, for profiles
	cmd   *exec.Cmd
	// origin is what a cache asks, nil if it is none.
	origin *server
	build  bool  // it is another build of freshet
	before int64 // memory without connections; 0: not measured
}

// at is the address without or with TLS.
func (s *server) at(tls bool) string {
	if tls {
		return s.tls
	}
	return s.addr
}

func (s *server) memory() (int64, error) { return measure.Memory(s.cmd.Process.Pid) }

func (s *server) stop() { measure.Stop(s.cmd) }

// startServers starts all that were asked for. What was started is returned
// also with an error.
func startServers(ctx context.Context, cfg config, dir string) ([]*server, error) {
	ports, err := measure.FreePorts(12)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // some servers' workers are another user
		return nil, err
	}
	cert, key, err := measure.WriteCertificate(dir)
	if err != nil {
		return nil, err
	}
	all, err := nginx(ctx, dir, filepath.Join(dir, "www"), ports, cert, key)
	if err != nil {
		return nil, err
	}
	origin := all[0].addr
	vs, err := varnish(ctx, dir, origin, []int{ports[3], ports[11]})
	if err != nil {
		return nil, err
	}
	ts, err := trafficServer(ctx, dir, origin, ports[4:])
	if err != nil {
		return nil, err
	}
	mine, err := freshet(ctx, ours, cfg.binary, dir, origin, ports[6:9], cert, key)
	if err != nil {
		return nil, err
	}
	all = append(append(all, vs...), ts, mine)
	others, err := builds(ctx, cfg, dir, origin, cert, key)
	if err != nil {
		return nil, err
	}
	all = append(all, others...)
	var servers []*server
	for i, s := range all {
		if i > 1 {
			s.origin = all[0]
		}
		if s.name != "nginx" && s.name != ours && !s.build && cfg.servers != "" && !slices.Contains(strings.Split(cfg.servers, ","), s.name) {
			continue
		}
		if s.cmd.Err != nil && s.name != "nginx" && s.name != ours {
			fmt.Fprintf(os.Stderr, "bench edge: no comparison with %s: %v\n", s.name, s.cmd.Err)
			continue
		}
		servers = append(servers, s)
	}
	for _, s := range servers {
		if err := measure.Start(ctx, s.cmd, s.addr, filepath.Join(dir, s.name+".log")); err != nil {
			return servers, fmt.Errorf("start %s: %w", s.name, err)
		}
	}
	return servers, nil
}

// profile writes a CPU profile of freshet under the load, if one is wanted.
func profile(ctx context.Context, cfg config, c benchCase, servers []*server) error {
	if cfg.profile == "" {
		return nil
	}
	for _, s := range servers {
		if s.admin == "" {
			continue
		}
		got := make(chan error, 1)
		go func() { got <- measure.Profile(ctx, s.admin, cfg.profile+"-"+c.name) }()
		if _, err := sample(ctx, s, c.load(), 5*time.Second); err != nil {
			return err
		}
		if err := <-got; err != nil {
			return fmt.Errorf("profile of %s: %w", s.name, err)
		}
	}
	return nil
}
