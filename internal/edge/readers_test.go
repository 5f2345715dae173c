package edge

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/layout"
	"freshet/internal/role"
)

// oneByOne is a client with a connection of its own.
func (w *world) oneByOne(t *testing.T) *reader {
	t.Helper()
	transport := role.NewTransport(w.net.DialContext)
	t.Cleanup(transport.CloseIdleConnections)
	return &reader{client: &http.Client{Transport: transport}}
}

// Two requests of one connection that are decided at the same time: the second
// to be noted gives way, unless it says the same.
func TestReadersAgree(t *testing.T) {
	t.Parallel()
	const a, b, c = "/repo/summary", "/repo/summary.sig", "/repo/other"
	one, two, now := new(generation), new(generation), time.Now()
	s := &set{key: layout.PolicyOf(a).Set}
	s.current.Store(one)
	r := newReaders()
	atA := r.look("x", s, a, now)
	s.current.Store(two)
	atB := r.look("x", s, b, now)
	if atA.g != one || atB.g != two || atA.middle || atB.middle {
		t.Fatalf("at first: %v, %v", atA, atB)
	}
	if !r.note("x", s, two, b, atB, now) || r.note("x", s, one, a, atA, now) {
		t.Error("both are shown what they found first")
	}
	if atA = r.look("x", s, a, now); atA.g != two || !atA.middle || !r.note("x", s, two, a, atA, now) {
		t.Errorf("the other: %v", atA)
	}
	// It begins anew, as many requests at the same time, and nobody goes back.
	s.current.Store(one)
	atA = r.look("x", s, a, now)
	s.current.Store(two)
	atB = r.look("x", s, b, now)
	if atA.g != one || atB.g != two || atA.middle || atB.middle {
		t.Fatalf("anew: %v, %v", atA, atB)
	}
	if !r.note("x", s, one, a, atA, now) || r.note("x", s, two, b, atB, now) {
		t.Error("anew, both are shown what they found first")
	}
	if atC := r.look("x", s, c, now); atC.g != one || !atC.middle {
		t.Errorf("a third one: %v", atC)
	}
	if other := r.look("y", s, b, now); other.g != two || other.middle {
		t.Errorf("another connection: %v", other)
	}
	// A set that is gone still is what its readers began with.
	s.current.Store(nil)
	if atC := r.look("x", s, c, now); atC.g != one {
		t.Errorf("after the end of the set: %v", atC)
	}
	if late := r.look("x", s, c, now.Add(readerHolds)); late.g != nil || late.middle {
		t.Errorf("much later: %v", late)
	}
}

// Who has read a summary that had no signature is not given that of another.
func TestMissingFileIsOfItsGeneration(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		files := newStatic(map[string]string{"/repo/summary": "one"})
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=1")
			files.serve(rw, r)
		})
		before, after := w.oneByOne(t), w.oneByOne(t)
		if body, _ := before.get(t, "http://edge.mem", "/repo/summary"); body != "one" {
			t.Errorf("the first: %q", body)
		}
		if _, status := after.get(t, "http://edge.mem", "/repo/summary.sig"); status != http.StatusNotFound {
			t.Errorf("the first has a signature: %d", status)
		}
		files.set("/repo/summary", "two")
		files.set("/repo/summary.sig", key.ostree(t, "two"))
		time.Sleep(5 * time.Second) // as long as it may be known as missing, and longer
		for range 2 {
			w.get("/repo/summary") // it is stale, and asked for
			synctest.Wait()
		}
		if body := w.get("/repo/summary").body; body != "two" {
			t.Fatalf("the second is not shown: %q", body)
		}
		if body, status := before.get(t, "http://edge.mem", "/repo/summary.sig"); status != http.StatusNotFound {
			t.Errorf("who has read the first gets a signature: %d %q", status, body)
		}
		if body, status := after.get(t, "http://edge.mem", "/repo/summary"); body != "one" {
			t.Errorf("who knows that there is no signature gets %d %q", status, body)
		}
		for _, r := range []*reader{before, after} { // both begin anew
			r.get(t, "http://edge.mem", "/repo/summary")
			if _, status := r.get(t, "http://edge.mem", "/repo/summary.sig"); status != http.StatusOK {
				t.Errorf("the second has no signature: %d", status)
			}
		}
	})
}

// A reader stays in his generation however many files it lists, and however long
// one of them takes.
func TestLongReading(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const members = 2 * maxSeen
		name := func(i int) string { return fmt.Sprintf("/dists/s/main/binary-%d/Packages", i) }
		const slow = "/dists/s/main/slow/Packages"
		content := func(n, i int) string { return fmt.Sprintf("generation %d. member %d", n, i) }
		files := newStatic(make(map[string]string))
		publish := func(n int) {
			var list strings.Builder
			fmt.Fprintf(&list, "Origin: generation %d.\nSHA256:\n", n)
			note := func(path, body string) {
				files.set(path, body)
				fmt.Fprintf(&list, " %s %d %s\n", sha(body), len(body), strings.TrimPrefix(path, "/dists/s/"))
			}
			for i := range members {
				note(name(i), content(n, i))
			}
			note(slow, "slow")
			files.set("/dists/s/InRelease", list.String())
		}
		publish(1)
		w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Cache-Control", "max-age=1")
			if r.URL.Path == slow {
				rw.Header().Set("Content-Length", "4")
				for i := range 4 {
					time.Sleep(12 * time.Second)
					_, _ = rw.Write([]byte("slow"[i : i+1]))
					_ = http.NewResponseController(rw).Flush()
				}
				return
			}
			files.serve(rw, r)
		})
		w.get("/dists/s/InRelease")
		for i := range members {
			w.get(name(i)) // from now on they are fetched before the next is shown
		}
		r := w.oneByOne(t)
		get := func(path, want string) {
			t.Helper()
			if body, status := r.get(t, "http://edge.mem", path); body != want {
				t.Errorf("%s: %d %q, want %q", path, status, body, want)
			}
		}
		if first, _ := r.get(t, "http://edge.mem", "/dists/s/InRelease"); number(first) != "1" {
			t.Fatalf("the first generation is %q", first)
		}
		publish(2)
		get(name(0), content(1, 0))
		time.Sleep(2 * time.Second)
		for range 2 {
			w.get("/dists/s/InRelease")
			synctest.Wait()
		}
		if now := w.get("/dists/s/InRelease").body; number(now) != "2" {
			t.Fatalf("the second generation is not shown: %q", now)
		}
		get(slow, "slow")
		for i := range members - 1 {
			get(name(i+1), content(1, i+1))
		}
		if again, _ := r.get(t, "http://edge.mem", "/dists/s/InRelease"); number(again) != "2" {
			t.Errorf("who begins anew gets %q", again)
		}
		get(name(members-1), content(2, members-1))
	})
}

// A file that somebody asked for before it was published is there as soon as the
// root is shown that lists it, also when the answer that it is missing comes only
// then.
func TestListedFilesAreNotMissing(t *testing.T) {
	for name, late := range map[string]time.Duration{"known": 0, "under way": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { askedTooEarly(t, late) })
		})
	}
}

// askedTooEarly: the answer that the file is missing comes late.
func askedTooEarly(t *testing.T, late time.Duration) {
	files := newStatic(make(map[string]string))
	primary := func(n int) (path, content string) {
		content = fmt.Sprintf("generation %d. primary", n)
		return "/rpm/repodata/" + sha(content) + "-primary.xml", content
	}
	publish := func(n int) {
		path, content := primary(n)
		files.set(path, content)
		files.set("/rpm/repodata/repomd.xml", fmt.Sprintf(`<repomd><revision>generation %d.</revision><data type="primary">`+
			`<checksum type="sha256">%s</checksum><location href=%q/></data></repomd>`, n, sha(content), strings.TrimPrefix(path, "/rpm/")))
	}
	publish(1)
	var early atomic.Bool
	w := newWorld(t, Config{}, func(rw http.ResponseWriter, r *http.Request) {
		if early.Load() && strings.HasSuffix(r.URL.Path, "-primary.xml") {
			time.Sleep(late)
			http.NotFound(rw, r)
			return
		}
		rw.Header().Set("Cache-Control", "max-age=1")
		files.serve(rw, r)
	})
	w.get("/rpm/repodata/repomd.xml")
	path, content := primary(2)
	early.Store(true)
	asked := make(chan answer, 1)
	go func() { asked <- w.get(path) }()
	synctest.Wait()
	early.Store(false)
	publish(2)
	time.Sleep(1500 * time.Millisecond)
	for range 2 {
		w.get("/rpm/repodata/repomd.xml")
		synctest.Wait()
	}
	if now := w.get("/rpm/repodata/repomd.xml").body; number(now) != "2" {
		t.Errorf("the second generation is not shown: %q", now)
	}
	if late == 0 {
		w.want(w.get(path), content, "fwd=uri-miss; fwd-status=200")
	}
	if a := <-asked; a.status != http.StatusNotFound {
		t.Errorf("who asked before gets %d", a.status)
	}
	w.want(w.get(path), content, map[bool]string{true: "hit", false: "fwd=uri-miss; fwd-status=200"}[late == 0])
}
