package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// A mirror that sends as much as it can tells its director so, and clients are sent to it less
// often; one with room is not. Loads travel every half minute, so this takes minutes.
func TestMirrorBusy(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	peertest.Require(t, "rsync")
	up := t.TempDir()
	writeTree(t, filepath.Join(up, "file.rpm"), noise(3, 1<<20))
	if err := longAgo(filepath.Join(up, "file.rpm")); err != nil {
		t.Fatal(err)
	}
	f := newFleet(t, up)
	f.admin, f.catalogue.Projects[0].Name = freeAddr(t), "p" // as the mirrors call it
	upstream := rsynctest.Serve(t, up)
	boxes := make(map[string]*boxed)
	for name, capacity := range map[string]string{"busy": "8kbit/s", "calm": "10Gbit/s"} {
		token, hash := control.NewToken("fm_")
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		b := startBoxes(t, t.TempDir(), fmt.Sprintf("[mirror.projects.p]\nkind = \"plain\"\nupstreams = [%q]\nschedule = \"never\"\n"+
			"[mirror.directors.main]\nurl = \"http://%s\"\nmirror = %q\ntoken-file = %q\n", upstream, f.admin, name, file), fmt.Sprintf("capacity = %q", capacity))
		b.mustSync("published", "")
		boxes[name] = b
		f.catalogue.Mirrors = append(f.catalogue.Mirrors, directorapi.Mirror{Name: name, Site: "here", Token: hash, Carries: []directorapi.Carried{{
			Project: "p", HTTP: "http://" + b.listen + "/p/", Inventory: directorapi.Source{How: directorapi.HowManifest},
		}}})
	}
	config := filepath.Join(t.TempDir(), "director.toml")
	if err := os.WriteFile(config, []byte("[director]\ntrusted-proxies = [\"127.0.0.0/8\"]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.serve(t, "/file.rpm", []string{"busy", "calm"}, "--config", config)
	if busy, calm := f.shares(boxes["busy"], boxes["calm"]); busy < calm*6/10 {
		t.Errorf("before, one has %d clients and the other %d", busy, calm)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() {
		for tick := time.NewTicker(time.Second); ctx.Err() == nil; <-tick.C {
			_, _ = fetchBody("http://" + boxes["busy"].listen + "/p/file.rpm")
		}
	}()
	eventually(t, "the busy mirror is given less", 5*time.Minute, func() error {
		busy, calm := f.shares(boxes["busy"], boxes["calm"])
		if busy > calm*85/100 {
			return fmt.Errorf("%d clients to the busy one, %d to the other", busy, calm)
		}
		return nil
	})
	score := make(map[string]float64)
	for _, m := range f.why("/file.rpm").Mirrors {
		score[m.Mirror] = m.Score
	}
	if score["busy"] >= score["calm"] {
		t.Errorf("the director says that the shares are %v", score)
	}
}

// shares is how many of some clients are sent to each of two mirrors: always the same ones,
// of many networks, behind a proxy that is trusted.
func (f *fleet) shares(one, other *boxed) (toOne, toOther int) {
	f.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for i := range 600 {
		req, err := http.NewRequestWithContext(f.t.Context(), http.MethodGet, f.url+"/file.rpm", nil)
		if err != nil {
			f.t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("100.%d.%d.1", i/256, i%256))
		resp, err := client.Do(req)
		if err != nil {
			f.t.Fatal(errors.Join(err, errors.New(f.tail(5))))
		}
		_ = resp.Body.Close()
		switch to := resp.Header.Get("Location"); {
		case strings.Contains(to, one.listen):
			toOne++
		case strings.Contains(to, other.listen):
			toOther++
		default:
			f.t.Errorf("%s, to %q", resp.Status, to)
		}
	}
	return toOne, toOther
}
