package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"freshet/bench/measure"
)

// Names of servers.
const (
	ours  = "freshet"
	nginx = "nginx"
	peer  = "peer"
)

// server is one of those that are compared.
type server struct {
	name, addr string
	admin      string // of ours, for profiles
	cmd        *exec.Cmd
	loaded     time.Duration // from its start until it served
}

// print prints a figure that has no peer and may be at most goal; only ours has one, and
// 0 is none.
func (s *server) print(out io.Writer, name string, value, goal float64) {
	if s.name != ours {
		name, goal = name+":"+s.name, 0
	}
	if goal > 0 {
		measure.Most(out, name, value, goal)
		return
	}
	_, _ = fmt.Fprintf(out, "%s %.2f - - - -\n", name, value)
}

const nginxConfig = `
worker_processes %[1]d;
daemon off;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log;
events { worker_connections 1000; }
http {
	default_type application/metalink+xml;
	sendfile on;
	tcp_nopush on;
	keepalive_requests 1000000000;
	open_file_cache max=10000 inactive=1h;
	open_file_cache_valid 1h;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/temp;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	server {
		listen 127.0.0.1:%[3]d reuseport;
		access_log %[2]s/access.log combined buffer=64k flush=1s;
		root %[4]s;
	}
}
`

// startServers starts ours, which is the first one, then nginx, and the other
// server if there is one. What was started is returned also with an error.
func startServers(ctx context.Context, cfg config, dir string) ([]*server, error) {
	ports, err := measure.FreePorts(4)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are another user
		return nil, err
	}
	static, err := nginxCommand(ctx, dir, ports[1])
	if err != nil {
		return nil, err
	}
	all := []*server{
		{
			name: ours, addr: local(ports[0]), admin: local(ports[3]),
			cmd: mirrorlistServer(ctx, dir, ours, ports[0], cfg.binary, "mirrorlist-server", "--log-level", "warn", "--admin", local(ports[3])),
		},
		{name: nginx, addr: local(ports[1]), cmd: static},
	}
	if cfg.peer != "" {
		all = append(all, &server{name: peer, addr: local(ports[2]), cmd: mirrorlistServer(ctx, dir, peer, ports[2], cfg.peer)})
	}
	for i, s := range all {
		begin := time.Now()
		if err := measure.Start(ctx, s.cmd, s.addr, filepath.Join(dir, s.name+".out")); err != nil {
			return all[:i+1], fmt.Errorf("start %s: %w", s.name, err)
		}
		s.loaded = time.Since(begin)
	}
	return all, nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// mirrorlistServer is a command with the options of MirrorManager's server.
func mirrorlistServer(ctx context.Context, dir, name string, port int, command ...string) *exec.Cmd {
	args := append(command[1:len(command):len(command)],
		"--listen", "127.0.0.1", "--port", fmt.Sprint(port),
		"-c", filepath.Join(dir, snapshotFile), "-g", filepath.Join(dir, netblocksFile),
		"--cccsv", filepath.Join(dir, continentsFile), "--geoip", filepath.Join(dir, geoipFile),
		"-l", filepath.Join(dir, name+".log"))
	return exec.CommandContext(ctx, command[0], args...)
}

func nginxCommand(ctx context.Context, dir string, port int) (*exec.Cmd, error) {
	own := filepath.Join(dir, nginx)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(own, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, runtime.NumCPU(), own, port, filepath.Join(dir, "www"))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, nginx, "-p", own, "-c", file), nil
}
