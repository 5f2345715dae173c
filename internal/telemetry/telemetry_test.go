package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/watchapi"
	"freshet/internal/accesslog"
	"freshet/internal/ramtest"
	"freshet/internal/sqldb"
	"freshet/internal/telemetry"
	"freshet/internal/telemetry/collect"
)

func TestMain(m *testing.M) { os.Exit(ramtest.Run(m)) }

// watch is one as far as batches go: a real ledger behind its HTTP, that can be away, and
// whose answers can be lost.
type watch struct {
	t       *testing.T
	db      *sqldb.DB
	handler http.Handler
	down    atomic.Bool
	lossy   atomic.Bool // loses every other answer

	mu  sync.Mutex
	n   int
	ids []string // of the batches that came, in the order in which they did
}

func newWatch(t *testing.T) *watch {
	db, err := sqldb.Open(t.Context(), sqldb.Config{Default: filepath.Join(t.TempDir(), "watch.db"), Schema: collect.Schema()})
	if err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, db: db}
	w.handler = &collect.Handler{Ledger: collect.Ledger{DB: db}, Node: func(r *http.Request) (string, bool) {
		return "box", r.Header.Get("Authorization") == "Bearer secret"
	}}
	return w
}

func (w *watch) RoundTrip(r *http.Request) (*http.Response, error) {
	if w.down.Load() {
		return nil, errors.New("connection refused")
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.n++
	w.ids = append(w.ids, r.Header.Get(watchapi.BatchHeader))
	if w.lossy.Load() && w.n%2 == 0 {
		return nil, errors.New("connection reset")
	}
	return rec.Result(), nil
}

// sums is what the watch has of a cube, over all its labels.
func (w *watch) sums(cube string) (requests, bytes int64, series int) {
	w.t.Helper()
	err := w.db.Read(w.t.Context(), func(tx *sqldb.Tx) error {
		return tx.QueryRow(w.t.Context(), "SELECT COALESCE(SUM(requests), 0), COALESCE(SUM(bytes), 0), COUNT(DISTINCT labels) FROM telemetry_counts WHERE cube = ?", cube).
			Scan(&requests, &bytes, &series)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return requests, bytes, series
}

// labels are the label sets of a cube.
func (w *watch) labels(cube string) string {
	w.t.Helper()
	var all []string
	err := w.db.Read(w.t.Context(), func(tx *sqldb.Tx) error {
		rows, err := tx.Query(w.t.Context(), "SELECT DISTINCT labels FROM telemetry_counts WHERE cube = ? ORDER BY labels", cube)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var text string
			if err := rows.Scan(&text); err != nil {
				return err
			}
			all = append(all, text)
		}
		return rows.Err()
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// node is a role that is observed, in a folder that outlives it.
type node struct {
	t     *testing.T
	watch *watch
	spool string
	token string
	e     *telemetry.Emitter
	stop  func()
}

func newNode(t *testing.T, w *watch) *node {
	n := &node{t: t, watch: w, spool: filepath.Join(t.TempDir(), "spool"), token: filepath.Join(t.TempDir(), "token")}
	if err := os.WriteFile(n.token, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *node) start() {
	n.t.Helper()
	e, err := telemetry.Open(telemetry.Options{
		Config: telemetry.Config{URL: "http://watch", TokenFile: n.token, Spool: n.spool}.WithDefaults(),
		Node:   "box", Role: "mirror", Project: func(name string) bool { return name == "epel" || name == "arch" }, HTTP: &http.Client{Transport: n.watch},
		Place: func(project, path string) telemetry.Place {
			switch {
			case project == "":
				return telemetry.Place{}
			case strings.HasSuffix(path, ".rpm"):
				return telemetry.Place{Release: "10", Repo: "Everything", Arch: "x86_64", Class: "package"}
			}
			return telemetry.Place{Class: "pointer"}
		},
		State: func() []watchapi.Line {
			return []watchapi.Line{{Project: &watchapi.Project{Name: "epel", At: time.Now(), Generation: "7"}}, {Disk: &watchapi.Disk{At: time.Now(), Size: 5}}}
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(n.t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	n.e = e
	n.stop = func() { cancel(); <-done }
}

// end is a clean stop.
func (n *node) end() {
	n.t.Helper()
	n.stop()
	if err := n.e.Close(); err != nil {
		n.t.Error(err)
	}
}

// truth is what was served.
type truth struct{ requests, bytes int64 }

// serve serves some files.
func (n *node) serve(r *rand.Rand, times int, t *truth) {
	for range times {
		rec := accesslog.Record{
			Begun: time.Now(), Client: netip.MustParseAddr("203.0.113.9"), Method: "GET", Path: fmt.Sprintf("/epel/%d.rpm", r.IntN(50)), Site: "epel",
			Status: 200, Bytes: int64(r.IntN(1e6)), FirstByte: time.Millisecond, UserAgent: []byte("libdnf (Fedora Linux 43)"),
		}
		if r.IntN(4) == 0 {
			rec.Proto, rec.Path, rec.Site, rec.UserAgent = "rsync", "/arch", "arch", nil
		}
		if r.IntN(4) == 0 {
			n.e.Under(&rec, rec.Bytes/3)
			rec.Told = rec.Bytes / 3
		}
		n.e.Note(&rec)
		t.requests++
		t.bytes += rec.Bytes
	}
}

func (w *watch) check(want truth) {
	w.t.Helper()
	for _, cube := range []string{"a", "b", "c", "r"} {
		if requests, bytes, _ := w.sums(cube); requests != want.requests || bytes != want.bytes {
			w.t.Errorf("cube %s has %d requests and %d bytes, want %d and %d", cube, requests, bytes, want.requests, want.bytes)
		}
	}
}

// For two hours the watch is away, and then answers get lost. Nothing is, and nothing is
// counted twice.
func TestTwoHoursAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		n := newNode(t, w)
		n.start()
		var served truth
		r := rand.New(rand.NewPCG(1, 2))
		n.serve(r, 10, &served)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.check(served)
		w.down.Store(true)
		for range 2 * 60 * 4 {
			n.serve(r, 7, &served)
			time.Sleep(15 * time.Second)
		}
		synctest.Wait()
		if st := n.e.Stat(); st.Batches < 400 || st.Dropped.Batches != 0 {
			t.Errorf("after two hours: %+v", st)
		}
		w.down.Store(false)
		w.lossy.Store(true)
		time.Sleep(time.Hour)
		synctest.Wait()
		w.lossy.Store(false)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		w.check(served)
		if st := n.e.Stat(); st.Batches != 0 || st.Bytes != 0 {
			t.Errorf("at the end: %+v", st)
		}
		for i := 1; i < len(w.ids); i++ {
			if a, b := number(t, w.ids[i-1]), number(t, w.ids[i]); b != a && b != a+1 {
				t.Errorf("batch %s came after %s", w.ids[i], w.ids[i-1])
			}
		}
		if got := w.labels("b"); got != `["arch","4","rsync","plain"] ["epel","4","h1","plain"]` {
			t.Errorf("protocols: %s", got)
		}
		if got := w.labels("r"); got != `["arch","other","other","other","rsync","2xx","hit"] ["epel","10","Everything","x86_64","package","2xx","hit"]` {
			t.Errorf("releases: %s", got)
		}
		if requests, _, series := w.sums("hot"); series != 50 || requests == 0 {
			t.Errorf("%d hot files, %d requests", series, requests)
		}
		noAddress(t, n.spool, "203.0.113")
		n.end()
		closeDB(t, w)
	})
}

func number(t *testing.T, id string) (last int64) {
	t.Helper()
	var first int64
	if _, err := fmt.Sscanf(id[strings.LastIndex(id, "/")+1:], "%d-%d", &first, &last); err != nil {
		t.Fatal(err)
	}
	return last
}

func closeDB(t *testing.T, w *watch) {
	t.Helper()
	if err := w.db.Close(); err != nil {
		t.Error(err)
	}
}

// noAddress looks for the address of a client in all files of a folder.
func noAddress(t *testing.T, dir, address string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if text, _ := os.ReadFile(path); bytes.Contains(text, []byte(address)) {
			t.Errorf("%s has the address of a client", path)
		}
		return nil
	})
}

// A node is killed again and again. What it had five seconds to write is counted once.
func TestKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		n := newNode(t, w)
		var served truth
		r := rand.New(rand.NewPCG(3, 4))
		for i := range 10 {
			n.start()
			w.down.Store(i%3 == 1)
			w.lossy.Store(i%3 == 2)
			n.serve(r, 100, &served)
			time.Sleep(6 * time.Second)
			synctest.Wait()
			n.serve(r, 5, new(truth)) // in the last five seconds: these are lost
			n.stop()
			unlock(t, n.e)
		}
		w.down.Store(false)
		w.lossy.Store(false)
		n.start()
		n.serve(r, 5, &served)
		n.end() // which writes what there is
		n.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		w.check(served)
		n.end()
		closeDB(t, w)
	})
}

// unlock lets go of the spool as the end of a process does: nothing more is written.
func unlock(t *testing.T, e *telemetry.Emitter) {
	t.Helper()
	if err := telemetry.Abandon(e); err != nil {
		t.Fatal(err)
	}
}

// However hostile clients are, the number of label sets stays within bounds, and sums are
// right.
func TestHostile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		n := newNode(t, w)
		n.start()
		r := rand.New(rand.NewPCG(5, 6))
		var served truth
		long := bytes.Repeat([]byte(`\"`), 500_000)
		for i := range 20_000 {
			junk := fmt.Sprintf("%x", r.Uint64())
			rec := accesslog.Record{
				Begun: time.Now(), Client: netip.AddrFrom4([4]byte(binaryOf(r))), Path: "/" + junk + "/../%00\\\"\n" + junk, Status: 200 + r.IntN(400),
				Reason: "not-found", Proto: "HTTP/" + junk, Method: junk, Outcome: junk, UserAgent: []byte(junk + `\"'` + "\x00\xff"), Bytes: 10, FirstByte: time.Duration(r.Int64N(int64(time.Hour))),
			}
			switch i % 4 {
			case 0:
				rec.Site = "epel"
				rec.Path = "/epel/" + junk + ".rpm"
			case 1:
				rec.Site = junk // no role does this
			case 2:
				rec.UserAgent = long
			case 3:
				rec.Reason = junk // no role does this either: the cap holds
			}
			n.e.Note(&rec)
			served.requests++
			served.bytes += 10
			if i%1000 == 0 {
				time.Sleep(2 * time.Second)
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		w.check(served)
		total := 0
		for _, cube := range []string{"a", "b", "c", "d", "e", "f", "g", "r"} {
			_, _, series := w.sums(cube)
			total += series
		}
		if total > 10_000 {
			t.Errorf("%d series", total)
		}
		t.Logf("%d series", total)
		n.end()
		closeDB(t, w)
	})
}

func binaryOf(r *rand.Rand) []byte {
	v := r.Uint32()
	return []byte{byte(v), byte(v >> 8), byte(v >> 16), byte(v >> 24)}
}

// More than the lists hold ends at once: all of it is counted.
func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatch(t)
		n := newNode(t, w)
		n.start()
		var served truth
		r := rand.New(rand.NewPCG(7, 8))
		synctest.Wait()
		n.serve(r, 200_000, &served) // who counts does not come between
		time.Sleep(time.Minute)
		synctest.Wait()
		w.check(served)
		n.end()
		closeDB(t, w)
	})
}

func BenchmarkNote(b *testing.B) {
	dir := b.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	e, err := telemetry.Open(telemetry.Options{
		Config: telemetry.Config{URL: "http://127.0.0.1:1", TokenFile: token, Spool: filepath.Join(dir, "spool")}.WithDefaults(),
		Node:   "box", Role: "mirror", Project: func(string) bool { return true },
		Place: func(string, string) telemetry.Place { return telemetry.Place{Release: "10", Class: "package"} },
		HTTP:  &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { return nil, io.EOF })},
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.Run(ctx) }()
	rec := accesslog.Record{
		Begun: time.Now(), Client: netip.MustParseAddr("192.0.2.1"), Method: "GET", Path: "/epel/10/Everything/x86_64/Packages/h/hello-2.12-1.x86_64.rpm", Site: "epel",
		UserAgent: []byte("libdnf (Fedora Linux 43; workstation; Linux.x86_64)"), Status: 200, Bytes: 3000, FirstByte: 40 * time.Microsecond, Took: 40 * time.Microsecond,
	}
	b.ReportAllocs()
	for b.Loop() {
		e.Note(&rec)
	}
	b.StopTimer()
	cancel()
	<-done
	if err := e.Close(); err != nil {
		b.Fatal(err)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
