package e2e

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// An edge is handed over while clients download what it has, and what is still on its way
// from the origin: nobody waits for them, they get everything, and the new process has the
// store.
func TestHandoverEdge(t *testing.T) {
	peertest.Require(t, "openssl")
	parallel(t)
	whole := make([]byte, 24<<20)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(whole)
	rest := make(chan struct{})
	var asked atomic.Int64
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=86400")
		w.Header().Set("ETag", `"1"`)
		switch r.URL.Path {
		case "/whole":
			asked.Add(1)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(whole))
		case "/coming":
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			_, _ = w.Write(whole[:4<<20])
			_ = http.NewResponseController(w).Flush()
			<-rest
			_, _ = w.Write(whole[4<<20:])
		}
	}))
	defer origin.Close()
	come := sync.OnceFunc(func() { close(rest) })
	defer come()
	dir := t.TempDir()
	s := &service{
		t: t, role: "edge", dir: dir, program: filepath.Join(dir, "freshet"), config: filepath.Join(dir, "edge.toml"),
		listen: freeAddr(t), listenTLS: freeAddr(t), admin: freeAddr(t),
	}
	s.install(freshet(t))
	s.certify()
	text := fmt.Sprintf(`[handover]
drain = "10m"
[admin]
listen = %q
[edge]
store = %q
size = "400MB"
listen = %q
listen-tls = %q
origin = %q
rules = "none"
[[edge.tls.certificates]]
cert = %q
key = %q
`, s.admin, filepath.Join(dir, "store"), s.listen, s.listenTLS, origin.URL, dir+"/cert.pem", dir+"/key.pem")
	if err := os.WriteFile(s.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	get := func(c *http.Client, url string) *http.Response {
		t.Helper()
		resp, err := fetchFrom(c, url, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		return resp
	}
	same := func(what string, r *http.Response) {
		t.Helper()
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, whole) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	clear, secure := "http://"+s.listen, "https://"+s.listenTLS
	same("the first", get(slowly(), clear+"/whole"))
	h2 := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	defer h2.CloseIdleConnections()
	under := map[string]*http.Response{
		"a hit": get(slowly(), clear+"/whole"), "a hit by HTTP/2": get(h2, secure+"/whole"),
		"a fill": get(slowly(), clear+"/coming"), "a fill by HTTP/2": get(h2, secure+"/coming"),
	}
	old := s.pid
	out, err := s.handOver()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Log(out)
	if gone(old) {
		t.Fatal("the old process has not waited for its transfers")
	}
	same("from the new process", get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, clear+"/whole"))
	if n := asked.Load(); n != 1 {
		t.Errorf("the origin was asked %d times: the new process does not have the store", n)
	}
	come()
	for what, resp := range under {
		same(what, resp)
		_ = resp.Body.Close()
	}
	h2.CloseIdleConnections()
	eventually(t, "the old process ends", patience, func() error {
		if !gone(old) {
			return errors.New("it is there")
		}
		return nil
	})
}
