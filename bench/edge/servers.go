package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// server is one of those that are compared.
type server struct {
	name  string
	addr  string
	admin string // of freshet, for profiles
	cmd   *exec.Cmd
}

const nginxConfig = `
worker_processes %[1]d;
daemon off;
pid %[2]s/nginx.pid;
error_log %[2]s/error.log;
worker_rlimit_nofile 20000;
events { worker_connections 16000; }
http {
	default_type application/octet-stream;
	sendfile on;
	tcp_nopush on;
	sendfile_max_chunk 2m;
	keepalive_requests 1000000000;
	keepalive_timeout 120s;
	open_file_cache max=10000 inactive=1h;
	open_file_cache_valid 1h;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/temp;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	proxy_cache_path %[2]s/cache levels=1:2 keys_zone=zone:10m max_size=2g inactive=1d use_temp_path=off;
	server {
		listen 127.0.0.1:%[3]d reuseport;
		access_log off;
		root %[4]s;
	}
	server {
		listen 127.0.0.1:%[5]d reuseport;
		access_log %[2]s/access.log combined buffer=64k flush=1s;
		root %[4]s;
	}
	server {
		listen 127.0.0.1:%[6]d reuseport;
		access_log %[2]s/cache.log combined buffer=64k flush=1s;
		location / {
			proxy_pass http://127.0.0.1:%[3]d;
			proxy_cache zone;
			proxy_cache_valid 200 1d;
			add_header X-Cache $upstream_cache_status;
		}
	}
}
`

// startServers starts all that were asked for; the first is the baseline. What
// was started is returned also with an error.
func startServers(ctx context.Context, cfg config, dir string) ([]*server, error) {
	ports, err := freePorts(7)
	if err != nil {
		return nil, err
	}
	www := filepath.Join(dir, "www")
	nginxDir := filepath.Join(dir, "nginx")
	if err := os.MkdirAll(nginxDir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil { // nginx's workers are another user
		return nil, err
	}
	text := fmt.Sprintf(nginxConfig, runtime.NumCPU(), nginxDir, ports[0], www, ports[1], ports[2])
	file := filepath.Join(nginxDir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	at := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	nginx := exec.CommandContext(ctx, "nginx", "-p", nginxDir, "-c", file)
	all := []*server{
		{name: "nginx-static", addr: at(0), cmd: nginx},
		{name: "nginx-static-log", addr: at(1), cmd: nginx},
		{name: "nginx-cache-log", addr: at(2), cmd: nginx},
	}
	fresh := func(name string, port, admin int, args ...string) *server {
		cmd := exec.CommandContext(ctx, cfg.binary, append([]string{
			"edge", "--origin", "http://" + at(0), "--store", filepath.Join(dir, name),
			"--listen", at(port), "--admin", at(admin), "--follow", "off",
		}, args...)...)
		return &server{name: name, addr: at(port), admin: at(admin), cmd: cmd}
	}
	all = append(all, fresh("freshet-log", 3, 4), fresh("freshet", 5, 6, "--log-level", "warn"))
	servers := all[:1]
	for _, s := range all[1:] {
		if cfg.servers == "" || hasPrefix(s.name, strings.Split(cfg.servers, ",")) {
			servers = append(servers, s)
		}
	}
	for _, s := range servers {
		if err := s.start(ctx, filepath.Join(dir, s.name+".log")); err != nil {
			return servers, fmt.Errorf("start %s: %w", s.name, err)
		}
	}
	return servers, nil
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// start starts the program, if it does not run yet, and waits until it serves.
func (s *server) start(ctx context.Context, log string) error {
	if s.cmd.Process == nil {
		out, err := os.Create(log)
		if err != nil {
			return err
		}
		s.cmd.Stdout, s.cmd.Stderr = out, out
		err = s.cmd.Start()
		if err := errors.Join(err, out.Close()); err != nil {
			return err
		}
	}
	for end := time.Now().Add(10 * time.Second); ; {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.addr)
		if err == nil {
			return c.Close()
		}
		if time.Now().After(end) {
			said, _ := os.ReadFile(log) // to explain
			return fmt.Errorf("%w\n%s", err, said)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// stop ends the program.
func (s *server) stop() {
	if s.cmd.Process != nil && s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = s.cmd.Wait()                       // what it measured is known
	}
}

// freePorts finds ports that nobody uses now.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not wait
		if err != nil {
			return nil, err
		}
		defer func() { _ = ln.Close() }() // it was only to find the number
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// profile writes a CPU profile of freshet under the load, if one is wanted.
func profile(ctx context.Context, cfg config, l load, servers []*server) error {
	if cfg.profile == "" {
		return nil
	}
	for _, s := range servers {
		if s.admin == "" {
			continue
		}
		got := make(chan error, 1)
		go func() { got <- fetchProfile(ctx, s.admin, cfg.profile+"-"+l.name+"-"+s.name) }()
		if _, err := sample(ctx, s, l, 5*time.Second); err != nil {
			return err
		}
		if err := <-got; err != nil {
			return fmt.Errorf("profile of %s: %w", s.name, err)
		}
	}
	return nil
}

func fetchProfile(ctx context.Context, admin, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/debug/pprof/profile?seconds=4", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read to its end
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(name, data, 0o600)
}
