package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"freshet/bench/measure"
)

// nginxConfig is a static server of a tree, with an access log.
const nginxConfig = `
worker_processes %[1]d;
daemon off;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log;
worker_rlimit_nofile 40000;
events { worker_connections 16000; }
http {
	default_type application/octet-stream;
	sendfile on;
	tcp_nopush on;
	sendfile_max_chunk 2m;
	keepalive_requests 1000000000;
	keepalive_timeout 120s;
	ssl_protocols TLSv1.3;
	ssl_certificate %[6]s;
	ssl_certificate_key %[7]s;
	open_file_cache max=10000 inactive=1h;
	open_file_cache_valid 1h;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/temp;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	server {
		listen 127.0.0.1:%[4]d reuseport;
		listen 127.0.0.1:%[5]d ssl reuseport;
		access_log %[2]s/access.log combined buffer=64k flush=1s;
		location /demo/ { alias %[3]s/; }
	}
}
`

// served is a server of the tree.
type served struct {
	pid           int
	clear, secure string
}

// measureServing compares what requests cost.
func measureServing(ctx context.Context, cfg config, dir string, out io.Writer) (err error) {
	tree := filepath.Join(dir, "served")
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	var small, large [][]byte
	for i := range 2000 {
		small = append(small, request(fmt.Sprintf("small/%d.rpm", i)))
	}
	for i := range 64 {
		large = append(large, request(fmt.Sprintf("large/%d.rpm", i)))
	}
	if err := writeServed(tree, len(small), len(large)); err != nil {
		return err
	}
	cert, key, err := measure.WriteCertificate(dir)
	if err != nil {
		return err
	}
	u, err := startUpstream(ctx, dir, tree)
	if err != nil {
		return err
	}
	defer measure.Stop(u.cmd)
	n, err := startNode(ctx, cfg, filepath.Join(dir, "node"), plainOf(u.url), cert, key)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	if _, err := n.sync(ctx, false); err != nil {
		return err
	}
	peer, stop, err := startNginx(ctx, dir, tree, cert, key)
	if err != nil {
		return err
	}
	defer stop()
	mine := served{n.cmd.Process.Pid, n.public, n.secure}
	for _, c := range []struct {
		name     string
		requests [][]byte
		conns    int
		rate     int
		tls      bool
		goal     float64
	}{
		{"serve-small-c64", small, 64, 0, false, 1.05},
		{"serve-small-1000/s", small, 64, 1000, false, 1.30},
		{"serve-1MB-c8", large, 8, 0, false, 1.10},
		{"serve-tls-small-c64", small, 64, 0, true, 1.00},
		{"serve-tls-1MB-c8", large, 8, 0, true, 1.05},
	} {
		load := func(s served) measure.Load {
			l := measure.Load{Addr: s.clear, TLS: c.tls, Requests: c.requests, Conns: c.conns, Rate: c.rate}
			if c.tls {
				l.Addr = s.secure
			}
			return l
		}
		if err := compare(ctx, cfg, c.name, c.goal, load, mine, peer, out); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// compare samples both in turns.
func compare(ctx context.Context, cfg config, name string, goal float64, load func(served) measure.Load, mine, peer served, out io.Writer) error {
	var costs [2][]float64
	for round := range cfg.rounds + 1 {
		for i := range 2 {
			which := (i + round) % 2
			s := []served{mine, peer}[which]
			sample, err := measure.Undisturbed(cfg.foreign, func() (measure.Sample, error) { return measure.Take(ctx, load(s), cfg.sample, s.pid) })
			if err != nil {
				return err
			}
			if round > 0 && sample.Requests > 0 { // the first opens files
				costs[which] = append(costs[which], float64(sample.CPU.Microseconds())/float64(sample.Requests))
			}
		}
	}
	measure.Line(out, name+"-us:nginx", measure.Median(costs[0]), measure.Median(costs[1]), goal)
	return nil
}

func request(path string) []byte {
	return []byte("GET /" + project + "/" + path + " HTTP/1.1\r\nHost: mirror.example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
}

// writeServed writes small files of 1 to 30 kB and large ones of 1 MB.
func writeServed(tree string, small, large int) error {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * i >> 3)
	}
	for _, folder := range []string{"small", "large"} {
		if err := os.MkdirAll(filepath.Join(tree, folder), 0o755); err != nil {
			return err
		}
	}
	write := func(folder string, i, size int) error {
		name := filepath.Join(tree, folder, fmt.Sprintf("%d.rpm", i))
		at := longAgo()
		return errors.Join(os.WriteFile(name, data[:size], 0o644), os.Chtimes(name, at, at))
	}
	for i := range small {
		if err := write("small", i, 1000+i*i%29_000/(1+i%7)); err != nil {
			return err
		}
	}
	for i := range large {
		if err := write("large", i, len(data)); err != nil {
			return err
		}
	}
	return stamp(tree, "1")
}

func startNginx(ctx context.Context, dir, tree, cert, key string) (s served, stop func(), err error) {
	ports, err := measure.FreePorts(2)
	if err != nil {
		return s, nil, err
	}
	home := filepath.Join(dir, "nginx")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return s, nil, err
	}
	file := filepath.Join(home, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, runtime.NumCPU(), home, tree, ports[0], ports[1], cert, key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return s, nil, err
	}
	cmd := exec.CommandContext(ctx, "nginx", "-p", home, "-c", file)
	if err := measure.Start(ctx, cmd, local(ports[0]), filepath.Join(home, "log")); err != nil {
		return s, nil, err
	}
	return served{cmd.Process.Pid, local(ports[0]), local(ports[1])}, func() { measure.Stop(cmd) }, nil
}
