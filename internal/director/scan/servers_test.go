package scan

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/peertest"
)

// webServer runs a web server of somebody that lists folders, and returns its URL.
type webServer func(t *testing.T, folder string) string

// webServers are those whose listings are read.
var webServers = map[string]webServer{
	"nginx":           nginx("autoindex_exact_size on;"),
	"nginx, rounded":  nginx("autoindex_exact_size off;"),
	"nginx, JSON":     nginx("autoindex_format json;"),
	"Apache":          apache("IndexOptions FancyIndexing NameWidth=*"),
	"Apache, table":   apache("IndexOptions FancyIndexing HTMLTable VersionSort"),
	"Apache, plain":   apache("IndexOptions -FancyIndexing"),
	"lighttpd":        lighttpd,
	"Python's server": python,
}

// start runs a program until the test ends, and waits until it listens.
func start(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	cmd := peertest.Command(t, program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // nginx ends its workers
		_ = cmd.Wait()
	})
	peertest.AwaitAddr(t, addr)
}

// configured writes a configuration beside what a server needs, and returns its path.
func configured(t *testing.T, format string, args ...any) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "server.conf")
	if err := os.WriteFile(path, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func nginx(options string) webServer {
	return func(t *testing.T, folder string) string {
		peertest.Require(t, "nginx")
		addr, own := peertest.FreeAddr(t), t.TempDir()
		conf := configured(t, `daemon off; worker_processes 1; pid %[3]s/pid; error_log %[3]s/error.log;
events {}
http {
  access_log off; default_type application/octet-stream;
  client_body_temp_path %[3]s/c; proxy_temp_path %[3]s/p; fastcgi_temp_path %[3]s/f; uwsgi_temp_path %[3]s/u; scgi_temp_path %[3]s/s;
  server { listen %[1]s; root %[2]s; types { text/html html; } location / { autoindex on; %[4]s } }
}
`, addr, folder, own, options)
		start(t, addr, "nginx", "-c", conf, "-e", own+"/error.log")
		return "http://" + addr + "/"
	}
}

func apache(options string) webServer {
	return func(t *testing.T, folder string) string {
		peertest.Require(t, "apache2")
		addr, own := peertest.FreeAddr(t), t.TempDir()
		user := ""
		if os.Geteuid() == 0 {
			user = "User nobody\nGroup nogroup"
		}
		conf := configured(t, `ServerRoot %[3]s
Listen %[1]s
ServerName localhost
PidFile %[3]s/pid
ErrorLog %[3]s/error.log
DefaultRuntimeDir %[3]s
%[5]s
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule autoindex_module /usr/lib/apache2/modules/mod_autoindex.so
TypesConfig /dev/null
AddType text/html .html
DocumentRoot %[2]s
<Directory %[2]s>
Options Indexes FollowSymLinks
Require all granted
%[4]s
</Directory>
`, addr, folder, own, options, user)
		start(t, addr, "apache2", "-D", "FOREGROUND", "-f", conf)
		return "http://" + addr + "/"
	}
}

func lighttpd(t *testing.T, folder string) string {
	peertest.Require(t, "lighttpd")
	addr := peertest.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	conf := configured(t, `server.document-root = %q
server.bind = "127.0.0.1"
server.port = %s
server.modules = ( "mod_indexfile", "mod_dirlisting" )
index-file.names = ( "index.html" )
dir-listing.activate = "enable"
`, folder, port)
	start(t, addr, "lighttpd", "-D", "-f", conf)
	return "http://" + addr + "/"
}

func python(t *testing.T, folder string) string {
	peertest.Require(t, "python3")
	addr := peertest.FreeAddr(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	start(t, addr, "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", folder, port)
	return "http://" + addr + "/"
}
