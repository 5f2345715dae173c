package mirror_test

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/project"
	"freshet/internal/page/pagetest"
)

// page asks the public listener.
func (w *world) page(path string, fields ...string) (int, http.Header, string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.public.Base+path, http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := w.public.HTTP.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

// Everybody can see what is held and how fresh it is, what fails and since when, and
// nothing of how the mirror is set up; unless that is hidden.
func TestPublicStatus(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h"})
	w.write("a", "a")
	w.start()
	if r := w.sync(mirrorapi.SyncRequest{}); r.Generation == "" { // or it was the first look that published
		t.Fatalf("%+v", r)
	}
	w.stop()
	p := w.cfg.Projects["p"]
	p.Upstreams = []string{"rsync://127.0.0.1:1/secret/"}
	w.cfg.Projects["p"] = p
	w.start()
	if r := w.sync(mirrorapi.SyncRequest{Force: true}); r.Result != mirrorapi.Failed {
		t.Fatalf("%+v", r)
	}
	w.stop() // what is told may be ten seconds old
	w.start()
	code, header, body := w.page("/.freshet/status.json")
	var st struct {
		Node     string
		Disk     struct{ Size, Free, Reserve int64 }
		Projects []struct {
			Project, Kind, Generation string
			Files, Bytes              int64
			Checked, Next, Switched   time.Time
			Stale                     bool
			Last                      struct{ Result, Reason string }
			Failing                   *struct {
				Since  time.Time
				Syncs  int
				Reason string
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusOK || header.Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %v: %v\n%s", code, header, err, body)
	}
	if len(st.Projects) != 1 || st.Node != "box" || st.Disk.Size == 0 || st.Disk.Reserve != 1_000_000 {
		t.Fatalf("%s", body)
	}
	got := st.Projects[0]
	if p := got; p.Project != "p" || p.Kind != "plain" || p.Files != 1 || p.Bytes != 1 || p.Generation == "" || p.Checked.IsZero() || p.Next.IsZero() || p.Stale ||
		p.Last.Result != "failed" || p.Failing == nil || p.Failing.Syncs < 1 || p.Failing.Since.IsZero() || p.Failing.Reason != p.Last.Reason || p.Last.Reason == "" {
		t.Errorf("%s", body)
	}
	secret := []string{"secret", filepath.Dir(w.up), "rsync:"}
	for _, path := range []string{"/", "/.freshet/status", "/.freshet/"} {
		code, header, text := w.page(path)
		if problems := pagetest.Problems(text); code != http.StatusOK || problems != nil {
			t.Errorf("%s: %d %q", path, code, problems)
		}
		pagetest.Policy(t, pagetest.Page{Path: path, Status: code, Header: header, Body: text})
		if strings.HasSuffix(path, "status") && (!strings.Contains(text, "failing") || !strings.Contains(text, "100.0 % up to date, in ") && !strings.Contains(text, "not known yet")) {
			t.Errorf("%s", text)
		}
		for _, s := range secret {
			if strings.Contains(text+body, s) {
				t.Errorf("%s tells %q", path, s)
			}
		}
	}
	if _, err := w.client.Hold(t.Context(), "p", mirrorapi.HoldRequest{Reason: "a secret reason"}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	w.start()
	if _, _, text := w.page("/.freshet/status.json"); !strings.Contains(text, `"state":"held","held":"2`) || strings.Contains(text, "reason\":\"a") {
		t.Errorf("held: %s", text)
	}
	if _, _, text := w.page("/.freshet/status"); !strings.Contains(text, ">held<") || strings.Contains(text, "secret") || strings.Contains(text, "two weeks") ||
		!strings.Contains(text, "can be told after a day") {
		t.Errorf("held: %s", text)
	}
	w.stop()
	w.cfg.HideStatus = true
	w.start()
	for _, path := range []string{"/.freshet/status", "/.freshet/status.json"} {
		if code, _, _ := w.page(path); code != http.StatusNotFound {
			t.Errorf("%s, which is hidden: %d", path, code)
		}
	}
	if _, _, text := w.page("/"); strings.Contains(text, "freshet/status") {
		t.Error("the first page leads to what is hidden")
	}
}

// Clients behind a trusted proxy are served what goes together for each of them, by what it
// says; others cannot say who they are.
func TestTrustedProxies(t *testing.T) {
	for name, c := range map[string]struct {
		trusted []string
		want    string // for the second client, which has read nothing before the switch
	}{
		"trusted": {[]string{"127.0.0.0/8", "::1/128"}, "new"},
		"not":     {nil, "old"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
			w.cfg.Listen, w.cfg.TrustedProxies = "127.0.0.1:0", c.trusted
			w.write("repodata/repomd.xml", "old")
			w.write("repodata/repomd.xml.asc", "old")
			w.start()
			w.public.Base, w.public.HTTP = "http://"+w.addr, &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
			w.sync(mirrorapi.SyncRequest{})
			if _, _, text := w.page("/p/repodata/repomd.xml", "X-Forwarded-For", "192.0.2.1"); text != "old" {
				t.Fatal(text)
			}
			w.write("repodata/repomd.xml", "newer")
			w.write("repodata/repomd.xml.asc", "new")
			w.sync(mirrorapi.SyncRequest{})
			if _, _, text := w.page("/p/repodata/repomd.xml.asc", "X-Forwarded-For", "192.0.2.2"); text != c.want {
				t.Errorf("another client reads %q, want %q", text, c.want)
			}
			if _, _, text := w.page("/p/repodata/repomd.xml.asc", "X-Forwarded-For", "192.0.2.1"); c.trusted != nil && text != "old" {
				t.Errorf("the client that has read the pointer before reads %q", text)
			}
		})
	}
}
