package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"freshet/bench/measure"
)

// multiplexed is a load by h2load, over HTTP/2 and TLS: so many requests over
// so many connections, so many at once on each.
type multiplexed struct{ requests, conns, streams int }

// tlsCases are those of TLS 1.3 and HTTP/2. Their HTTP/1.1 is asked by the same
// client as without TLS.
func tlsCases(small []string) []benchCase {
	hits := func(name string, l load, goal float64) benchCase {
		return benchCase{name: name, goals: goals{"nginx-log": goal, "nginx-cache": 0}, load: func() load { return l }, warmed: l.paths}
	}
	h2 := func(m multiplexed, paths []string) load { return load{paths: paths, h2: &m} }
	return []benchCase{
		hits("tls-small", load{paths: small, conns: 64, tls: true}, 1.00),
		hits("tls-handshake", load{paths: []string{kilobyte}, conns: 32, close: true, tls: true}, 1.10),
		hits("tls-100M", load{paths: []string{large}, conns: 4, tls: true}, 1.05),
		hits("h2-m32", h2(multiplexed{40_000, 32, 32}, small), 1.00),
		hits("h2-m1", h2(multiplexed{15_000, 32, 1}, small), 1.25),
		hits("h2-100M", h2(multiplexed{8, 2, 1}, []string{large}), 1.10),
	}
}

// sampleH2 loads a server by h2load.
func sampleH2(ctx context.Context, s *server, l load) (r measure.Sample, err error) {
	var list strings.Builder
	for _, path := range l.paths {
		fmt.Fprintf(&list, "https://%s%s\n", s.tls, path)
	}
	n := strconv.Itoa(l.h2.requests)
	// Windows as libcurl's: neither side is to wait for them.
	cmd := exec.CommandContext(ctx, "h2load", "-n", n, "-c", strconv.Itoa(l.h2.conns), "-m", strconv.Itoa(l.h2.streams),
		"-t", "1", "-w", "25", "-W", "25", "-i", "-")
	cmd.Stdin = strings.NewReader(list.String())
	before, err := measure.ReadMeters(s.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("h2load: %w", err)
	}
	if !bytes.Contains(out, []byte(n+" succeeded, 0 failed, 0 errored")) || !bytes.Contains(out, []byte("status codes: "+n+" 2xx")) {
		return r, fmt.Errorf("h2load: %s", out)
	}
	after, err := measure.ReadMeters(s.cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	return measure.Sample{Usage: before.Until(after), Requests: int64(l.h2.requests)}, nil
}
