package e2e

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/certs/certstest"
	"freshet/internal/peertest"
)

// curl comes by TLS, with HTTP/2, and gets its file by https alone, although the mirror
// has none; who comes without TLS is sent to the mirror.
func TestRedirectsOverTLS(t *testing.T) {
	parallel(t)
	peertest.Require(t, "curl")
	dir, keys := t.TempDir(), t.TempDir()
	const text = "only once\n"
	if err := os.WriteFile(filepath.Join(dir, "file.txt"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	pair, _ := certstest.Pair(t, keys, 1, "localhost")
	cert, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(http.FileServer(http.Dir(dir)))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	_, port, err := net.SplitHostPort(secure.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}

	f := newFleet(t, dir)
	f.mirror(t, "clear", dir)
	p := &f.catalogue.Projects[0]
	p.Origins = append(p.Origins, "https://localhost:"+port+"/")
	_, at, err := net.SplitHostPort(freeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	f.serve(t, "/file.txt", []string{"clear"}, "--listen-tls", "127.0.0.1:"+at, "--tls-cert", pair.Cert, "--tls-key", pair.Key)

	user := newClient(t)
	got := user.run("curl", "-sSfL", "--http2", "--cacert", pair.Cert, "--resolve", "localhost:"+at+":127.0.0.1", "--resolve", "localhost:"+port+":127.0.0.1",
		"-w", "%{num_redirects} %{url_effective} ", "https://localhost:"+at+"/pub/file.txt")
	if want := text + "1 https://localhost:" + port + "/file.txt "; got != want {
		t.Errorf("by TLS: %q, want %q", got, want)
	}
	head := user.run("curl", "-sSI", "--http2", "--cacert", pair.Cert, "--resolve", "localhost:"+at+":127.0.0.1", "https://localhost:"+at+"/pub/file.txt")
	if !strings.HasPrefix(head, "HTTP/2 302") || !strings.Contains(head, "location: https://localhost:"+port) {
		t.Errorf("the head by HTTP/2:\n%s", head)
	}
	got = user.run("curl", "-sSfL", "-w", "%{url_effective}", f.url+"/file.txt")
	if want := text + f.mirrors["clear"].url() + "/file.txt"; got != want {
		t.Errorf("without TLS: %q, want %q", got, want)
	}
}
