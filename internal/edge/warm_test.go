package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/edgeapi"
	"freshet/internal/archive"
	"freshet/internal/control"
	"freshet/internal/flatpak"
	"freshet/internal/ostree"
)

// warm gives an order to warm and returns its last line and the failures.
func (w *world) warm(token string, req edgeapi.WarmRequest) (last edgeapi.WarmProgress, failures []edgeapi.WarmFailure) {
	w.t.Helper()
	body, err := json.Marshal(req)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, edgeapi.WarmPath, strings.NewReader(string(body)))
	r.Header.Set("Authorization", "Bearer "+token)
	rec := httptest.NewRecorder()
	w.admin.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		w.t.Fatalf("answer %d %s", rec.Code, rec.Body)
	}
	for lines := bufio.NewScanner(rec.Body); lines.Scan(); {
		last = edgeapi.WarmProgress{}
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			w.t.Errorf("%q: %v", lines.Text(), err)
		}
		if last.Failure != nil {
			failures = append(failures, *last.Failure)
		}
	}
	if !last.End || last.Done != last.Total || last.Stored+last.Fetched > last.Total {
		w.t.Errorf("the last line is %+v", last)
	}
	return last, failures
}

// What is warmed is a hit then; what is there is not fetched again; what cannot
// be had is told.
func TestWarmURLs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/a.rpm": strings.Repeat("a", 200_000), "/b.rpm": "b", "/mirrorlist": "m"})
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, files.serve)
		w.get("/b.rpm")
		got, failures := w.warm(boss, edgeapi.WarmRequest{URLs: []string{"/a.rpm", "/a.rpm", "http://edge.mem/b.rpm", "/absent.rpm", "/mirrorlist"}})
		if got.Fetched != 1 || got.Stored != 1 || got.Failed != 2 || got.Total != 4 || got.Bytes < 200_000 {
			t.Errorf("%+v", got)
		}
		reasons := make(map[string]string)
		for _, f := range failures {
			reasons[f.URL] = fmt.Sprint(f.Status, " ", f.Reason)
		}
		if reasons["/absent.rpm"] != "404 missing" || reasons["/mirrorlist"] != "0 not_cacheable" {
			t.Errorf("failures %v", reasons)
		}
		w.wantFetches(3)
		w.want(w.get("/a.rpm"), files.files["/a.rpm"], "hit")
		w.wantFetches(3)
		if n := w.metric("freshet_edge_requests_total", "miss"); n != 1 {
			t.Errorf("warming is in the metrics of requests: %v misses", n)
		}
		// An origin that is away is a reason of its own.
		files.down.Store(true)
		if _, failures := w.warm(boss, edgeapi.WarmRequest{URLs: []string{"/c.rpm"}}); len(failures) != 1 || failures[0].Reason != "reset" {
			t.Errorf("failures %v", failures)
		}
		orders := readAudit(t, cfg.AuditFile)
		if len(orders) != 2 || orders[0].Result != "incomplete" || orders[0].Count != 2 || orders[0].Action != "warm" {
			t.Errorf("audit %+v", orders)
		}
	})
}

// testRepo makes a repository with one app.
func testRepo(t *testing.T) (dir, ref string) {
	t.Helper()
	dir, ref = filepath.Join(t.TempDir(), "repo"), "app/org.example.App/x86_64/stable"
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files []archive.File
	for i := range 40 {
		files = append(files, archive.File{Path: fmt.Sprintf("files/share/d%d/f%d", i%7, i), Content: []byte(fmt.Sprint("content ", i))})
	}
	meta := flatpak.Metadata{Name: "org.example.App", Runtime: "org.example.Platform/x86_64/1"}
	if err := repo.CommitFlatpak(ref, meta, files, []string{"export"}, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	return dir, ref
}

// After a ref was warmed, the origin may be away: everything a client needs to
// pull it is there.
func TestWarmRef(t *testing.T) {
	dir, ref := testRepo(t)
	bubble(t, func(t *testing.T) {
		files := make(map[string]string)
		objects := 0
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			name := "/repo/stable" + strings.TrimPrefix(path, dir)
			files[name] = string(content)
			if strings.HasPrefix(name, "/repo/stable/objects/") {
				objects++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		origin := newStatic(files)
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, origin.serve)
		req := edgeapi.WarmRequest{Repo: "/repo/stable", Refs: []string{ref}, Deltas: true} // of which there is none
		got, failures := w.warm(boss, req)
		if got.Failed != 0 || got.Fetched != objects+1 || len(failures) != 0 {
			t.Errorf("%+v %v, want %d objects and a ref", got, failures, objects)
		}
		fetched := w.fetches.Load()
		if got, _ := w.warm(boss, req); got.Stored != objects+1 || got.Fetched != 0 {
			t.Errorf("the second time: %+v", got)
		}
		origin.down.Store(true)
		for name, content := range files {
			if strings.Contains(name, "/objects/") || strings.HasSuffix(name, ref) {
				w.want(w.get(name), content, "hit")
			}
		}
		if n := w.fetches.Load() - fetched; n > 2 { // the superblock and the commitmeta that are not there
			t.Errorf("%d fetches the second time", n)
		}
		_, failures = w.warm(boss, edgeapi.WarmRequest{Repo: "/repo/stable", Refs: []string{"app/org.example.None/x86_64/stable"}})
		if len(failures) != 1 || failures[0].URL != "/repo/stable/summary" {
			t.Errorf("a ref without a summary: %v", failures)
		}
	})
}

// A ref that a repository does not have is told as such, and not as a failure
// of the summary, which is there.
func TestWarmUnknownRef(t *testing.T) {
	bubble(t, func(t *testing.T) {
		summary := (&ostree.Summary{}).Encode()
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, newStatic(map[string]string{"/repo/stable/summary": string(summary)}).serve)
		none := edgeapi.WarmFailure{URL: "app/org.example.None/x86_64/stable", Reason: "unknown_ref"}
		_, failures := w.warm(boss, edgeapi.WarmRequest{Repo: "/repo/stable", Refs: []string{none.URL}})
		if len(failures) != 1 || failures[0] != none {
			t.Errorf("got the failures %v, want %v", failures, none)
		}
	})
}

// The rate is kept, and does not hold up a client who wants the same.
func TestWarmRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		files := newStatic(map[string]string{"/a.rpm": strings.Repeat("a", 1_000_000), "/b.rpm": strings.Repeat("b", 1_000_000)})
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, files.serve)
		begun := time.Now()
		w.warm(boss, edgeapi.WarmRequest{URLs: []string{"/a.rpm", "/b.rpm"}, Rate: 100_000})
		if took := time.Since(begun); took < 19*time.Second || took > 22*time.Second {
			t.Errorf("2 MB at 100 kB/s took %v", took)
		}
		w.purge(boss, edgeapi.PurgeRequest{Everything: true, Hard: true})
		var warming sync.WaitGroup
		warming.Go(func() { w.warm(boss, edgeapi.WarmRequest{URLs: []string{"/a.rpm"}, Rate: 10_000}) })
		synctest.Wait()
		begun = time.Now()
		if a := w.get("/a.rpm"); len(a.body) != 1_000_000 {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("a client was held up for %v", took)
		}
		warming.Wait()
	})
}

func TestWarmRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg, boss, reader := clients(t)
		only, onlyHash := control.NewToken("")
		cfg.Clients["only"] = ClientConfig{Token: onlyHash, Sites: []string{"other"}}
		w := newWorld(t, Config{
			Control: cfg, Sites: map[string]SiteConfig{"other": {Hosts: []string{"other.example"}, Origin: "http://origin.mem"}},
		}, new(versions).serve)
		for name, test := range map[string]struct {
			token  string
			req    edgeapi.WarmRequest
			status int
		}{
			"no token":     {"", edgeapi.WarmRequest{URLs: []string{"/a"}}, 401},
			"no right":     {reader, edgeapi.WarmRequest{URLs: []string{"/a"}}, 403},
			"other site":   {only, edgeapi.WarmRequest{URLs: []string{"/a"}}, 403},
			"other host":   {only, edgeapi.WarmRequest{Site: "other", URLs: []string{"http://edge.mem/a"}}, 403},
			"nothing":      {boss, edgeapi.WarmRequest{}, 400},
			"no site":      {boss, edgeapi.WarmRequest{Site: "absent", Refs: []string{"a"}}, 400},
			"bad ref":      {boss, edgeapi.WarmRequest{Refs: []string{"../../secret"}}, 400},
			"bad repo":     {boss, edgeapi.WarmRequest{Repo: "repo/../x", Refs: []string{"a"}}, 400},
			"bad from":     {boss, edgeapi.WarmRequest{Refs: []string{"a"}, From: "xyz"}, 400},
			"too parallel": {boss, edgeapi.WarmRequest{URLs: []string{"/a"}, Parallel: 65}, 400},
			"slower":       {boss, edgeapi.WarmRequest{URLs: []string{"/a"}, Rate: -1}, 400},
		} {
			if refused := w.order(edgeapi.WarmPath, test.token, test.req, new(struct{})); refused == nil || refused.Status != test.status {
				t.Errorf("%s: %v", name, refused)
			}
		}
		w.wantFetches(0)
	})
}
