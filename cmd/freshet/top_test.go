package main

import (
	"context"
	"encoding/pem"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"freshet/internal/doors"
	"freshet/internal/edge"
	"freshet/internal/role"
)

// "freshet edge top" and an edge that runs: testdata/top/*.txtar.
func TestTopScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/top", Setup: func(env *testscript.Env) error {
		reg := prometheus.NewRegistry()
		ctx, stop := context.WithCancel(t.Context())
		addr, ready, ended := make(chan string, 1), make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- edge.Run(ctx, edge.Config{
				Origin: "http://127.0.0.1:1", Store: env.WorkDir + "/store", Listeners: doors.Listeners{Listen: "127.0.0.1:0"}, Size: 16 << 20, Follow: "off",
			}, role.Env{Metrics: reg, Ready: func() { close(ready) }, Listen: func(ctx context.Context, at string) (net.Listener, error) {
				ln, err := role.ListenTCP(ctx, at)
				if err == nil {
					addr <- ln.Addr().String()
				}
				return ln, err
			}})
		}()
		admin := httptest.NewServer(role.Admin(new(role.Health), reg))
		env.Defer(func() {
			admin.Close()
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
		select {
		case <-ready:
			env.Setenv("EDGE", "http://"+<-addr)
		case err := <-ended:
			ended <- nil
			return err
		}
		secure := httptest.NewTLSServer(admin.Config.Handler)
		env.Defer(secure.Close)
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
		if err := os.WriteFile(filepath.Join(env.WorkDir, "ca.pem"), ca, 0o600); err != nil {
			return err
		}
		env.Setenv("SECURE", strings.TrimPrefix(secure.URL, "https://"))
		env.Setenv("ADMIN", admin.URL)
		env.Setenv("ADDR", strings.TrimPrefix(admin.URL, "http://"))
		return nil
	}})
}
