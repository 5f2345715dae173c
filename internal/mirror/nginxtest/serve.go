// Package nginxtest runs nginx in front of a folder, for tests.
package nginxtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// Serve serves a folder, which it lists in JSON, until the test ends;
// below /html/ it lists it as web pages.
func Serve(t testing.TB, folder string) (url string) {
	t.Helper()
	peertest.Require(t, "nginx")
	addr, own := peertest.FreeAddr(t), t.TempDir()
	conf := filepath.Join(own, "nginx.conf")
	text := strings.NewReplacer("ADDR", addr, "ROOT", folder, "OWN", own).Replace(`daemon off; worker_processes 1; pid OWN/pid; error_log OWN/error.log;
events {}
http {
  access_log off; default_type application/octet-stream;
  client_body_temp_path OWN/c; proxy_temp_path OWN/p; fastcgi_temp_path OWN/f; uwsgi_temp_path OWN/u; scgi_temp_path OWN/s;
  server { listen ADDR; root ROOT; location / { autoindex on; autoindex_format json; } location /html/ { alias ROOT/; autoindex on; } }
}
`)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 { // it becomes somebody else, who must be able to enter
		if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := peertest.Server(t, "nginx", "-c", conf, "-e", own+"/error.log")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() }) // it was told to end
	peertest.AwaitAddr(t, addr)
	return "http://" + addr + "/"
}
