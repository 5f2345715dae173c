package edge

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/edgeapi"
	"freshet/internal/control"
)

// clients are "boss", who may everything, and "reader", who may not purge.
func clients(t *testing.T) (cfg ControlConfig, boss, reader string) {
	t.Helper()
	boss, bossHash := control.NewToken("")
	reader, readerHash := control.NewToken("")
	return ControlConfig{
		AuditFile: filepath.Join(t.TempDir(), "audit"),
		Clients: map[string]ClientConfig{
			"boss":   {Token: bossHash},
			"reader": {Token: readerHash, Allow: []string{"read"}},
		},
	}, boss, reader
}

// order gives an order on the admin listener and reads the answer into out, or
// the refusal.
func (w *world) order(path, token string, in, out any) *edgeapi.Error {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	if text, ok := in.(string); ok {
		body = []byte(text)
	}
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodPost, path, strings.NewReader(string(body)))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.admin.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK {
		refused := new(edgeapi.Error)
		if err := json.Unmarshal(rec.Body.Bytes(), refused); err != nil || refused.Status != rec.Code {
			w.t.Errorf("answer %d %q", rec.Code, rec.Body)
		}
		return refused
	}
	if err := json.Unmarshal(rec.Body.Bytes(), out); err != nil {
		w.t.Errorf("answer %q: %v", rec.Body, err)
	}
	return nil
}

func (w *world) purge(token string, req edgeapi.PurgeRequest) edgeapi.PurgeResult {
	w.t.Helper()
	var result edgeapi.PurgeResult
	if refused := w.order(edgeapi.PurgePath, token, req, &result); refused != nil {
		w.t.Errorf("purge refused: %v", refused)
	}
	return result
}

// versions serves every path with a version in its body, which changes with
// next, and tags by path.
type versions struct {
	mu   sync.Mutex
	n    int
	tags map[string][]string
	down bool
	wait chan struct{} // if not nil, headers wait for it
}

func (v *versions) next() {
	v.mu.Lock()
	v.n++
	v.mu.Unlock()
}

func (v *versions) setDown(down bool) {
	v.mu.Lock()
	v.down = down
	v.mu.Unlock()
}

func (v *versions) serve(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	n, tags, down, wait := v.n, v.tags[r.URL.Path], v.down, v.wait
	v.mu.Unlock()
	if wait != nil {
		<-wait
	}
	if down {
		panic(http.ErrAbortHandler)
	}
	w.Header()["Surrogate-Key"] = tags
	w.Header().Set("Cache-Control", "public, max-age=3600, stale-if-error=3600")
	w.Header().Set("Etag", fmt.Sprintf(`"%d"`, n))
	if r.Header.Get("If-None-Match") == w.Header().Get("Etag") {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = fmt.Fprintf(w, "%s v%d", r.URL.RequestURI(), n)
}

// What each way to name things meets, and what it leaves alone.
func TestPurgeSelects(t *testing.T) {
	all := []string{
		"/repo/stable/summary", "/repo/stable/summary.sig", "/repo/beta/summary", "/repo/beta/summary.sig", "/repo/stable/x.rpm",
		"/page", "/page?q=1", "/other%20page", "/app/one", "/app/two",
	}
	tags := map[string][]string{"/app/one": {"app one", "blue"}, "/app/two": {"app, two"}, "/repo/stable/x.rpm": {"one"}, "/page": {""}}
	for name, test := range map[string]struct {
		req  edgeapi.PurgeRequest
		want []string
	}{
		"url":             {edgeapi.PurgeRequest{URLs: []string{"/page"}}, []string{"/page"}},
		"url with query":  {edgeapi.PurgeRequest{URLs: []string{"/page?q=%31"}}, []string{"/page?q=1"}},
		"whole url":       {edgeapi.PurgeRequest{URLs: []string{"http://edge.mem/page"}}, []string{"/page"}},
		"two urls":        {edgeapi.PurgeRequest{URLs: []string{"/page", "/repo/stable/x.rpm?ignored"}}, []string{"/page", "/repo/stable/x.rpm"}},
		"escaped":         {edgeapi.PurgeRequest{URLs: []string{"/%6fther%20page"}}, []string{"/other%20page"}},
		"path":            {edgeapi.PurgeRequest{Paths: []string{"/page"}}, []string{"/page", "/page?q=1"}},
		"prefix":          {edgeapi.PurgeRequest{Prefixes: []string{"/repo/stable/"}}, []string{"/repo/stable/summary", "/repo/stable/summary.sig", "/repo/stable/x.rpm"}},
		"prefix, escaped": {edgeapi.PurgeRequest{Prefixes: []string{"/other%20"}}, []string{"/other%20page"}},
		"tag":             {edgeapi.PurgeRequest{Tags: []string{"app"}}, []string{"/app/one", "/app/two"}},
		"tag, immutable":  {edgeapi.PurgeRequest{Tags: []string{"one"}}, []string{"/app/one", "/repo/stable/x.rpm"}},
		"unknown tag":     {edgeapi.PurgeRequest{Tags: []string{"on"}}, nil},
		"set":             {edgeapi.PurgeRequest{Sets: []string{"/repo/stable/summary"}}, []string{"/repo/stable/summary", "/repo/stable/summary.sig"}},
		"set by member":   {edgeapi.PurgeRequest{Sets: []string{"/repo/stable/summary.sig"}}, []string{"/repo/stable/summary", "/repo/stable/summary.sig"}},
		"everything":      {edgeapi.PurgeRequest{Everything: true}, all},
		"several kinds":   {edgeapi.PurgeRequest{URLs: []string{"/page"}, Tags: []string{"two"}}, []string{"/page", "/app/two"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				origin := &versions{tags: tags}
				cfg, boss, _ := clients(t)
				w := newWorld(t, Config{Control: cfg}, origin.serve)
				for _, path := range all {
					w.get(path)
				}
				dry := test.req
				dry.DryRun = true
				if got := w.purge(boss, dry); got.Entries != len(test.want) || got.Mode != "dry-run" || len(got.Sample) != len(test.want) {
					t.Errorf("dry run: %+v", got)
				}
				w.wantFetches(int64(len(all)) + 2) // a pair that shows nothing is looked at twice
				origin.next()
				w.purge(boss, test.req)
				for _, path := range all {
					version, status := " v0", "hit"
					if slices.Contains(test.want, path) {
						version, status = " v1", "fwd=stale"
						if strings.HasSuffix(path, ".sig") {
							status = "hit" // it came with its fellow
						}
					}
					w.want(w.get(path), path+version, status)
				}
				for _, path := range test.want {
					w.get(path) // a new member of a set makes the others stale once more
				}
				// Once is enough, and it is kept over a restart.
				w.restart()
				for _, path := range test.want {
					w.want(w.get(path), path+" v1", "hit")
				}
			})
		})
	}
}

// A purge is in force at once, and after a restart, for entries of every kind.
// While the origin is away, what was purged softly is used, what was purged
// hard is not, however it is asked for.
func TestPurgeOriginAway(t *testing.T) {
	for _, hard := range []bool{false, true} {
		t.Run(fmt.Sprintf("hard=%v", hard), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				origin := &versions{tags: map[string][]string{"/a.rpm": {"t"}, "/page": {"t"}}}
				cfg, boss, _ := clients(t)
				w := newWorld(t, Config{Control: cfg}, origin.serve)
				w.get("/a.rpm")
				w.get("/a.rpm") // hot
				w.get("/page")
				w.purge(boss, edgeapi.PurgeRequest{Tags: []string{"t"}, Hard: hard})
				origin.setDown(true)
				for range 2 {
					for _, path := range []string{"/a.rpm", "/page"} {
						a := w.get(path)
						switch {
						case hard && a.status != http.StatusBadGateway:
							t.Errorf("%s answered %d %q", path, a.status, a.body)
						case !hard && (a.status != 200 || a.body != path+" v0"):
							t.Errorf("%s answered %d %q", path, a.status, a.body)
						}
					}
					w.restart()
				}
				origin.next()
				origin.setDown(false)
				time.Sleep(10 * time.Second)
				w.want(w.get("/a.rpm"), "/a.rpm v1", "fwd")
			})
		})
	}
}

// A set that is purged hard is gone as a whole, by whichever name; softly, it is
// there as a whole while the origin is away.
func TestPurgeSetOriginAway(t *testing.T) {
	members := []string{"/repo/stable/summary", "/repo/stable/summary.sig"}
	for name, req := range map[string]edgeapi.PurgeRequest{
		"set": {Sets: members[:1]}, "prefix": {Prefixes: []string{"/repo/"}}, "tag": {Tags: []string{"t"}}, "urls": {URLs: members}, "everything": {Everything: true},
	} {
		for _, hard := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " hard=", hard), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					origin := &versions{tags: map[string][]string{members[0]: {"t"}, members[1]: {"t"}}}
					cfg, boss, _ := clients(t)
					w := newWorld(t, Config{Control: cfg}, origin.serve)
					for range 2 {
						for _, path := range members {
							w.get(path)
						}
					}
					origin.next()
					origin.setDown(true)
					req.Hard = hard
					w.purge(boss, req)
					for range 2 {
						for _, path := range members {
							a := w.get(path)
							if hard && a.status != http.StatusBadGateway || !hard && a.body != path+" v0" {
								t.Errorf("%s answered %d %q", path, a.status, a.body)
							}
						}
						w.restart()
					}
					origin.setDown(false)
					time.Sleep(10 * time.Second)
					for range 2 { // the second is of the same generation in any case
						for _, path := range members {
							w.get(path)
						}
					}
					for _, path := range members {
						if a := w.get(path); a.body != path+" v1" {
							t.Errorf("%s answered %d %q when the origin was back", path, a.status, a.body)
						}
					}
				})
			})
		}
	}
}

// What is on its way when it is purged: those who asked before get it, or what
// is newer; those who ask after do not, and it does not stay.
func TestPurgeDuringFetch(t *testing.T) {
	for name, req := range map[string]edgeapi.PurgeRequest{
		"url": {URLs: []string{"/page"}}, "tag": {Tags: []string{"t"}}, "prefix": {Prefixes: []string{"/p"}}, "everything": {Everything: true},
	} {
		for _, hard := range []bool{false, true} {
			for _, phase := range []string{"header", "body"} {
				t.Run(fmt.Sprint(name, " hard=", hard, " ", phase), func(t *testing.T) {
					bubble(t, func(t *testing.T) {
						var mu sync.Mutex
						version := 0
						w0, boss, _ := clients(t)
						w := newWorld(t, Config{Control: w0}, func(w http.ResponseWriter, _ *http.Request) {
							mu.Lock()
							v := version
							mu.Unlock()
							pause := func(in string) {
								if v == 0 && phase == in {
									time.Sleep(2 * time.Second)
								}
							}
							pause("header")
							w.Header().Set("Surrogate-Key", "s t")
							w.Header().Set("Cache-Control", "max-age=3600, stale-if-error=3600")
							w.Header().Set("Etag", fmt.Sprintf(`"%d"`, v))
							_, _ = io.WriteString(w, "v")
							_ = http.NewResponseController(w).Flush()
							pause("body")
							_, _ = fmt.Fprint(w, v)
						})
						var before sync.WaitGroup
						for range 3 {
							before.Go(func() {
								if a := w.get("/page"); a.body != "v0" && a.body != "v1" || a.err != nil {
									t.Errorf("who asked before got %q, %v", a.body, a.err)
								}
							})
						}
						time.Sleep(time.Second)
						mu.Lock()
						version = 1
						mu.Unlock()
						req.Hard = hard
						w.purge(boss, req)
						w.want(w.get("/page"), "v1", "fwd=uri-miss")
						before.Wait()
						w.want(w.get("/page"), "v1", "hit")
						w.wantFetches(2)
					})
				})
			}
		}
	}
}

// A validation under way does not bring back what is purged hard meanwhile,
// and a failed one does not give it out.
func TestHardPurgeDuringValidation(t *testing.T) {
	for _, down := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			origin := &versions{tags: map[string][]string{"/page": {"t"}}}
			cfg, boss, _ := clients(t)
			w := newWorld(t, Config{Control: cfg}, origin.serve)
			w.get("/page")
			time.Sleep(2 * time.Hour)
			origin.mu.Lock()
			origin.wait, origin.down = make(chan struct{}), down
			origin.mu.Unlock()
			var asked sync.WaitGroup
			asked.Go(func() {
				a := w.get("/page")
				switch {
				case down && a.status != http.StatusBadGateway:
					t.Errorf("down: answered %d %q", a.status, a.body)
				case !down && a.body != "/page v0":
					t.Errorf("up: answered %d %q", a.status, a.body)
				}
			})
			synctest.Wait()
			w.purge(boss, edgeapi.PurgeRequest{Tags: []string{"t"}, Hard: true})
			close(origin.wait)
			asked.Wait()
			if !down {
				w.wantFetches(3) // the 304 was of no use
			}
		})
	}
}

// Without rules there may be any number of variants, and of ways to write a
// path: a purge reaches all of them, also those that no list has.
func TestPurgeReachesVariants(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg, boss, _ := clients(t)
		version := 0
		w := newWorld(t, Config{Rules: "none", Control: cfg}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "X-Kind")
			w.Header().Set("Cache-Control", "max-age=100000")
			if r.Method == http.MethodPost {
				return
			}
			_, _ = fmt.Fprintf(w, "%s v%d", r.Header.Get("X-Kind"), version)
		})
		paths := []string{"/a%20page", "/%61%20page", "/a%20page?q"}
		const kinds = 3 * maxVariants
		ask := func(want int, status string) {
			t.Helper()
			for kind := range kinds {
				for _, path := range paths {
					field := fmt.Sprint("k", kind)
					w.want(w.get(path, "X-Kind: "+field), fmt.Sprint(field, " v", want), status)
				}
			}
		}
		ask(0, "fwd")
		ask(0, "hit")
		version = 1
		w.purge(boss, edgeapi.PurgeRequest{Paths: []string{"/a%20page"}})
		ask(1, "fwd=")
		version = 2
		w.purge(boss, edgeapi.PurgeRequest{URLs: []string{"/a page"}, Hard: true, Site: "default"})
		paths = paths[:2]
		ask(2, "fwd=")
		// An answered unsafe request reaches them, too (RFC 9111 §4.4).
		version = 3
		w.do("POST", "/a%20page")
		paths = paths[:1]
		ask(3, "fwd=")
	})
}

// Who has no right to it purges nothing, and stands in the audit all the same.
func TestPurgeRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		origin := new(versions)
		cfg, boss, reader := clients(t)
		only, onlyHash := control.NewToken("")
		cfg.Clients["only"] = ClientConfig{Token: onlyHash, Sites: []string{"other"}}
		w := newWorld(t, Config{
			Control: cfg, Sites: map[string]SiteConfig{"other": {Hosts: []string{"other.example"}, Origin: "http://origin.mem"}},
		}, origin.serve)
		w.get("/page")
		w.get("/page", "Host: other.example")
		for name, test := range map[string]struct {
			token  string
			body   any
			status int
			reason string
		}{
			"no token":        {"", edgeapi.PurgeRequest{Everything: true}, 401, "unauthorized"},
			"a wrong token":   {"fe_00", edgeapi.PurgeRequest{Everything: true}, 401, "unauthorized"},
			"the hash":        {cfg.Clients["boss"].Token, edgeapi.PurgeRequest{Everything: true}, 401, "unauthorized"},
			"without right":   {reader, edgeapi.PurgeRequest{Everything: true}, 403, "forbidden"},
			"another site":    {only, edgeapi.PurgeRequest{Everything: true, Site: "default"}, 403, "forbidden"},
			"a host of it":    {only, edgeapi.PurgeRequest{URLs: []string{"http://edge.mem/page"}}, 403, "forbidden"},
			"nothing named":   {boss, edgeapi.PurgeRequest{}, 400, "bad_request"},
			"no site":         {boss, edgeapi.PurgeRequest{Everything: true, Site: "none"}, 400, "bad_request"},
			"no path":         {boss, edgeapi.PurgeRequest{URLs: []string{"page"}}, 400, "bad_request"},
			"ambiguous path":  {boss, edgeapi.PurgeRequest{URLs: []string{"/a/../b"}}, 400, "bad_request"},
			"two tags in one": {boss, edgeapi.PurgeRequest{Tags: []string{"a b"}}, 400, "bad_request"},
			"long tag":        {boss, edgeapi.PurgeRequest{Tags: []string{strings.Repeat("x", maxTag+1)}}, 400, "bad_request"},
			"no set":          {boss, edgeapi.PurgeRequest{Sets: []string{"/page"}}, 400, "bad_request"},
			"misspelt":        {boss, `{"everything": true, "sites": "other"}`, 400, "bad_request"},
			"two objects":     {boss, `{"everything": true} {}`, 400, "bad_request"},
			"no JSON":         {boss, `PURGE ME`, 400, "bad_request"},
			"too many names":  {boss, edgeapi.PurgeRequest{Tags: make([]string, maxNamed+1)}, 400, "bad_request"},
		} {
			var result edgeapi.PurgeResult
			if refused := w.order(edgeapi.PurgePath, test.token, test.body, &result); refused == nil || refused.Status != test.status || refused.Reason != test.reason {
				t.Errorf("%s: %v", name, refused)
			}
		}
		w.want(w.get("/page"), "/page v0", "hit")
		if got := w.purge(only, edgeapi.PurgeRequest{Everything: true, Count: true}); !slices.Equal(got.Sites, []string{"other"}) || got.Entries != 1 {
			t.Errorf("purge of one's own site: %+v", got)
		}
		w.want(w.get("/page"), "/page v0", "hit")
		w.want(w.get("/page", "Host: other.example"), "/page v0", "fwd=stale; fwd-status=304")

		results := make(map[string]int)
		for _, o := range readAudit(t, cfg.AuditFile) {
			results[o.Client+" "+o.Result]++
			if o.Via != "admin" || o.From == "" || o.Action != "purge" || o.Time.IsZero() {
				t.Errorf("audit: %+v", o)
			}
		}
		want := map[string]int{" unauthorized": 3, "reader forbidden": 1, "only forbidden": 2, "boss bad_request": 11, "only done": 1}
		if fmt.Sprint(results) != fmt.Sprint(want) {
			t.Errorf("audit has %v, want %v", results, want)
		}
		if n := strings.Count(w.log.String(), "msg="+control.AuditMessage); n != 18 {
			t.Errorf("%d orders in the log", n)
		}
		if strings.Contains(w.log.String(), boss) || strings.Contains(w.log.String(), "fe_00") {
			t.Error("a token is in the log")
		}
	})
}

func readAudit(t *testing.T, file string) (orders []control.Order) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var o control.Order
		if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
			t.Errorf("%q: %v", lines.Text(), err)
		}
		orders = append(orders, o)
	}
	return orders
}

// PURGE is understood where it is enabled, from whom it is allowed, and goes to
// no origin.
func TestPurgeMethod(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cfg, boss, reader := clients(t)
		origin := &versions{tags: map[string][]string{"/page": {"a b"}, "/two": {"b"}}}
		purges := 0
		serve := func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				purges++
			}
			origin.serve(w, r)
		}
		w := newWorld(t, Config{
			Control: cfg, Sites: map[string]SiteConfig{
				"token": {Hosts: []string{"token.example"}, Origin: "http://origin.mem", PurgeMethod: true},
			},
		}, serve)
		const host = "Host: token.example"
		for _, test := range []struct {
			status int
			fields []string
		}{
			{405, nil},
			{405, []string{"Authorization: Bearer " + boss}},
			{401, []string{host}},
			{401, []string{host, "Authorization: Bearer nobody"}},
			{401, []string{host, "Fastly-Key: nobody"}},
			{403, []string{host, "Fastly-Key: " + reader}},
			{400, []string{host, "Fastly-Key: " + boss, "Purge-Mode: harder"}},
			{400, []string{host, "Fastly-Key: " + boss, "Purge-Mode: hard", "Fastly-Soft-Purge: 1"}},
			{400, []string{host, "Fastly-Key: " + boss, "Surrogate-Key:  "}},
			{200, []string{host, "Fastly-Key: " + boss}},
			{200, []string{host, "Authorization: Bearer " + boss, "Fastly-Soft-Purge: 1"}},
		} {
			w.get("/page", host)
			fetched := w.fetches.Load()
			if a := w.do("PURGE", "/page", test.fields...); a.status != test.status {
				t.Errorf("%v: %d %s", test.fields, a.status, a.body)
			}
			w.wantFetches(fetched)
			status := "hit"
			if test.status == 200 {
				status = "fwd=stale"
			}
			w.want(w.get("/page", host), "/page v0", status)
		}
		// By tag, and for good.
		w.get("/two", host)
		w.do("PURGE", "/", host, "Fastly-Key: "+boss, "Surrogate-Key: b c", "Purge-Mode: hard")
		origin.setDown(true)
		for _, path := range []string{"/page", "/two"} {
			if a := w.get(path, host); a.status != http.StatusBadGateway {
				t.Errorf("%s is there after its tag was purged: %d", path, a.status)
			}
		}
		if purges != 0 {
			t.Errorf("the origin saw %d", purges)
		}
		orders := readAudit(t, cfg.AuditFile)
		if last := orders[len(orders)-1]; last.Client != "boss" || last.Via != "public" || last.Result != control.Done {
			t.Errorf("audit: %+v", last)
		}
	})
}

// An empty Surrogate-Key is no tag, and there is a bound to their number and
// length.
func TestTags(t *testing.T) {
	many := strings.Repeat("x ", maxTags)
	for _, test := range []struct {
		fields http.Header
		want   int
	}{
		{http.Header{}, 0},
		{http.Header{"Surrogate-Key": {""}}, 0},
		{http.Header{"Surrogate-Key": {" , \t"}}, 0},
		{http.Header{"Surrogate-Key": {"a b  c"}}, 3},
		{http.Header{"Surrogate-Key": {"a", "b"}, "Xkey": {"c"}, "Cache-Tag": {"d,e, f"}}, 6},
		{http.Header{"Surrogate-Key": {many + many}}, maxTags},
		{http.Header{"Surrogate-Key": {strings.Repeat("y", maxTag) + " " + strings.Repeat("z", maxTag+1)}}, 1},
	} {
		if got := tagsOf(test.fields); len(got) != test.want {
			t.Errorf("%.60v: %d tags, want %d", test.fields, len(got), test.want)
		}
	}
}
