package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"freshet/bench/measure"
)

// nginxConfig has three servers: files, files with an access log, and a cache
// in front of the first, which is also the origin of every cache here. Below
// /fresh/X/ are the same files again, for every X: what no cache has seen.
// Below /pass/ they may not be stored.
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
	ssl_certificate %[9]s;
	ssl_certificate_key %[10]s;
	open_file_cache max=10000 inactive=1h;
	open_file_cache_valid 1h;
	client_body_temp_path %[2]s/body;
	proxy_temp_path %[2]s/temp;
	fastcgi_temp_path %[2]s/fastcgi;
	uwsgi_temp_path %[2]s/uwsgi;
	scgi_temp_path %[2]s/scgi;
	proxy_cache_path %[2]s/cache levels=1:2 keys_zone=zone:100m max_size=4g inactive=1d use_temp_path=off;
	upstream origin {
		server 127.0.0.1:%[3]d;
		keepalive 512;
		keepalive_requests 1000000000;
	}
	server {
		listen 127.0.0.1:%[3]d reuseport;
		access_log off;
		root %[4]s;
		add_header Cache-Control "max-age=86400";
		location /fresh/ { rewrite ^/fresh/[^/]+(/.*)$ $1 break; }
		location /pass/ {
			rewrite ^/pass/[^/]+(/.*)$ $1 break;
			add_header Cache-Control "no-store";
		}
	}
	server {
		listen 127.0.0.1:%[5]d reuseport;
		listen 127.0.0.1:%[7]d ssl http2 reuseport;
		access_log %[2]s/access.log combined buffer=64k flush=1s;
		root %[4]s;
	}
	server {
		listen 127.0.0.1:%[6]d reuseport;
		listen 127.0.0.1:%[8]d ssl http2 reuseport;
		access_log %[2]s/cache.log combined buffer=64k flush=1s;
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		proxy_buffers 16 64k;
		proxy_buffer_size 64k;
		proxy_busy_buffers_size 128k;
		location / {
			proxy_pass http://origin;
			proxy_cache zone;
			proxy_cache_valid 200 1d;
			add_header X-Cache $upstream_cache_status;
		}
	}
}
`

// nginx returns the three servers of one nginx: "nginx", "nginx-log" and
// "nginx-cache".
func nginx(ctx context.Context, dir, www string, ports []int, cert, key string) ([]*server, error) {
	dir = filepath.Join(dir, "nginx")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, runtime.NumCPU(), dir, ports[0], www, ports[1], ports[2], ports[9], ports[10], cert, key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "nginx", "-p", dir, "-c", file)
	return []*server{
		{name: "nginx", addr: local(ports[0]), cmd: cmd},
		{name: "nginx-log", addr: local(ports[1]), tls: local(ports[9]), cmd: cmd},
		{name: "nginx-cache", addr: local(ports[2]), tls: local(ports[10]), cmd: cmd},
	}, nil
}

// varnishWithLog runs Varnish and the program that writes its log, until one of
// them ends: the folder of Varnish, and its options.
const varnishWithLog = `
dir=$1
shift
varnishd -F -n "$dir" "$@" & varnish=$!
trap 'kill $varnish $log 2>/dev/null; wait' INT TERM EXIT
until varnishadm -n "$dir" ping >/dev/null 2>&1; do sleep 0.1; done
varnishncsa -n "$dir" -w "$dir/access.log" & log=$!
wait $varnish
`

// varnish keeps everything in memory. A log is another program's work there:
// "varnish" has none, "varnish-log" has one.
func varnish(ctx context.Context, dir, origin string, ports []int) ([]*server, error) {
	var list []*server
	for i, name := range []string{"varnish", "varnish-log"} {
		home := filepath.Join(dir, name)
		if err := os.MkdirAll(home, 0o755); err != nil {
			return nil, err
		}
		options := []string{
			"-a", local(ports[i]), "-b", origin, "-s", "malloc,2g", "-t", "86400", "-p", "thread_pool_min=200", "-p", "thread_pool_max=2000",
		}
		cmd := exec.CommandContext(ctx, "varnishd", append([]string{"-F", "-n", home}, options...)...)
		if i > 0 {
			cmd = exec.CommandContext(ctx, "sh", append([]string{"-c", varnishWithLog, "sh", home}, options...)...)
			_, cmd.Err = exec.LookPath("varnishncsa")
		}
		list = append(list, &server{name: name, addr: local(ports[i]), cmd: cmd})
	}
	return list, nil
}

const trafficServerConfig = `
CONFIG proxy.config.http.server_ports STRING %[1]d:ip-in=127.0.0.1
CONFIG proxy.config.process_manager.mgmt_port INT %[2]d
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.cache.ram_cache.size INT 1G
CONFIG proxy.config.log.logging_enabled INT 3
CONFIG proxy.config.url_remap.remap_required INT 1
CONFIG proxy.config.http.keep_alive_no_activity_timeout_in INT 120
CONFIG proxy.config.net.connections_throttle INT 20000
`

// trafficServer has its own folders everywhere, and its binary access log on.
func trafficServer(ctx context.Context, dir, origin string, ports []int) (*server, error) {
	dir = filepath.Join(dir, "trafficserver")
	root := map[string]string{
		"prefix": "/usr", "exec_prefix": "/usr", "bindir": "/usr/bin", "sbindir": "/usr/sbin", "includedir": "/usr/include",
		"libdir": "/usr/lib/trafficserver", "libexecdir": "/usr/lib/trafficserver/modules", "datadir": "/usr/share/trafficserver",
		"sysconfdir": dir + "/etc", "localstatedir": dir, "runtimedir": dir + "/run", "logdir": dir + "/log", "cachedir": dir + "/cache",
	}
	for _, name := range []string{"etc", "run", "log", "cache"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	var runroot strings.Builder
	for key, value := range root {
		fmt.Fprintf(&runroot, "%s: %s\n", key, value)
	}
	for name, text := range map[string]string{
		"runroot.yaml":       runroot.String(),
		"etc/records.config": fmt.Sprintf(trafficServerConfig, ports[0], ports[1]),
		"etc/remap.config":   "map / http://" + origin + "/\n",
		"etc/storage.config": dir + "/cache 2G\n",
		"etc/logging.yaml": "logging:\n  formats:\n  - name: combined\n    format: '%<chi> - %<caun> [%<cqtn>] \"%<cqtx>\" %<pssc> %<pscl>'\n" +
			"  logs:\n  - mode: ascii\n    filename: access\n    format: combined\n",
		"etc/ip_allow.yaml": "ip_allow:\n- apply: in\n  ip_addrs: 0/0\n  action: allow\n  methods: ALL\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	cmd := exec.CommandContext(ctx, "traffic_server", "--run-root="+dir+"/runroot.yaml")
	return &server{name: "trafficserver", addr: local(ports[0]), cmd: cmd}, nil
}

// freshet is an edge with everything on, its log in a file.
func freshet(ctx context.Context, name, binary, dir, origin string, ports []int, cert, key string) (*server, error) {
	file := filepath.Join(dir, name+".toml")
	text := fmt.Sprintf("[edge]\nlisten-tls = %q\n[[edge.tls.certificates]]\ncert = %q\nkey = %q\n", local(ports[2]), cert, key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "edge", "--config", file, "--origin", "http://"+origin, "--store", filepath.Join(dir, name),
		"--listen", local(ports[0]), "--admin", local(ports[1]), "--follow", "off")
	return &server{name: name, addr: local(ports[0]), tls: local(ports[2]), admin: local(ports[1]), cmd: cmd}, nil
}

// builds are other binaries of freshet, each an edge like the one that is
// measured.
func builds(ctx context.Context, cfg config, dir, origin, cert, key string) ([]*server, error) {
	var list []*server
	for pair := range strings.SplitSeq(cfg.builds, ",") {
		name, binary, ok := strings.Cut(pair, "=")
		if !ok {
			if pair == "" {
				continue
			}
			return nil, fmt.Errorf("-builds: %q is not name=path", pair)
		}
		ports, err := measure.FreePorts(3)
		if err != nil {
			return nil, err
		}
		s, err := freshet(ctx, name, binary, dir, origin, ports, cert, key)
		if err != nil {
			return nil, err
		}
		s.build = true
		list = append(list, s)
	}
	return list, nil
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
