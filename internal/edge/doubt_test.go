package edge

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// twoMirrors is a site with two origins, of which the first is asked as long as
// it is trusted.
func twoMirrors(t *testing.T, cfg Config, first, second http.HandlerFunc) *world {
	t.Helper()
	cfg.Origins = []Origin{{URL: "http://first.mem", Weight: 1000}, {URL: "http://origin.mem", Role: "last-resort"}}
	w := newWorld(t, cfg, second)
	w.serve("first", first)
	return w
}

// Root files that are wrong are asked of another origin, as payload is, and all
// of them of the same one.
func TestRootFilesElsewhere(t *testing.T) {
	summary, sig := "/repo/summary", "/repo/summary.sig"
	inRelease := "Suite: sid\nSHA256:\n " + sha("packages") + " 8 main/binary-amd64/Packages\n"
	type files = func(mine, stranger *signer) map[string]string
	for _, c := range []struct {
		name      string
		keys      bool
		bad, good files
		reason    string
	}{
		{
			"signed by a stranger", true,
			func(_, stranger *signer) map[string]string {
				return map[string]string{summary: "evil", sig: stranger.ostree(t, "evil")}
			},
			func(mine, _ *signer) map[string]string {
				return map[string]string{summary: "one", sig: mine.ostree(t, "one")}
			},
			"generation_conflict",
		},
		{
			"without a signature", true,
			func(_, _ *signer) map[string]string { return map[string]string{summary: "one"} },
			func(mine, _ *signer) map[string]string {
				return map[string]string{summary: "one", sig: mine.ostree(t, "one")}
			},
			"verify_mismatch",
		},
		{
			"of two publishes", false,
			func(mine, _ *signer) map[string]string {
				return map[string]string{summary: "two", sig: mine.ostree(t, "one")}
			},
			func(mine, _ *signer) map[string]string {
				return map[string]string{summary: "one", sig: mine.ostree(t, "one")}
			},
			"generation_conflict",
		},
		{
			"a page of some proxy", false,
			func(_, _ *signer) map[string]string {
				return map[string]string{"/dists/sid/InRelease": "<html>log in first</html>"}
			},
			func(_, _ *signer) map[string]string {
				return map[string]string{"/dists/sid/InRelease": inRelease}
			},
			"verify_mismatch",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				mine, stranger := newSigner(t), newSigner(t)
				var cfg Config
				if c.keys {
					cfg.Keys = []string{mine.file}
				}
				good := c.good(mine, stranger)
				liar := newStatic(c.bad(mine, stranger))
				w := twoMirrors(t, cfg, liar.serve, newStatic(good).serve)
				for path, body := range good {
					begun := time.Now()
					if a := w.get(path); a.status != 200 || a.body != body || time.Since(begun) > 50*time.Millisecond {
						t.Errorf("%s: %d %q after %v", path, a.status, a.body, time.Since(begun))
					}
					if n := liar.count(path); n > 1 {
						t.Errorf("the liar was asked for %s %d times", path, n)
					}
				}
				if n := w.metric("freshet_edge_origin_failures_total", c.reason); n != 1 {
					t.Errorf("%v are counted as %s", n, c.reason)
				}
			})
		})
	}
}

// A mirror in the middle of a publish is given its time; one that stays there is
// not asked while another has the files, and what is older than what is held is
// not taken from that one.
func TestRootFilesThatStayHalf(t *testing.T) {
	for _, behind := range []bool{false, true} {
		t.Run(fmt.Sprintf("the other is behind: %v", behind), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				key := newSigner(t)
				summary, sig := "/repo/summary", "/repo/summary.sig"
				publish := func(s *static, data string) {
					s.set(summary, data)
					s.set(sig, key.ostree(t, data))
				}
				dated := func(s *static, day *int) http.HandlerFunc {
					return func(w http.ResponseWriter, r *http.Request) {
						w.Header().Set("Last-Modified", time.Date(2000, 1, *day, 0, 0, 0, 0, time.UTC).Format(http.TimeFormat))
						s.serve(w, r)
					}
				}
				half, other := newStatic(make(map[string]string)), newStatic(make(map[string]string))
				day, otherDay := 2, 1
				publish(half, "two")
				publish(other, "one")
				w := twoMirrors(t, Config{Keys: []string{key.file}}, dated(half, &day), dated(other, &otherDay))
				w.want(w.get(summary), "two", "fwd=uri-miss")
				day = 3
				half.set(summary, "three") // and not its signature
				if !behind {
					otherDay = 3
					publish(other, "three")
				}
				for i := range 40 {
					time.Sleep(10 * time.Second)
					a, b := w.get(summary), w.get(sig)
					if a.status != 200 || b.status != 200 || a.body == "one" {
						t.Fatalf("%d %q and %d", a.status, a.body, b.status)
					}
					if now := time.Duration(i+1) * 10 * time.Second; now < time.Minute && other.count(summary) > 0 {
						t.Fatalf("the other is asked after %v", now)
					}
				}
				want := "three"
				if behind {
					want = "two"
				}
				if a := w.get(summary); a.body != want || other.count(summary) == 0 {
					t.Errorf("in the end: %q, the other was asked %d times", a.body, other.count(summary))
				}
				publish(half, "three")
				time.Sleep(2 * time.Minute)
				w.get(summary)
				time.Sleep(5 * time.Second)
				if a := w.get(summary); a.body != "three" {
					t.Errorf("when it is mended: %q", a.body)
				}
			})
		})
	}
}

// All root files of a set are asked of one origin.
func TestRootFilesOfOneOrigin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		key := newSigner(t)
		a, b := newStatic(make(map[string]string)), newStatic(make(map[string]string))
		for i := range 20 {
			for _, s := range []*static{a, b} {
				s.set(fmt.Sprintf("/%d/summary", i), "x")
				s.set(fmt.Sprintf("/%d/summary.sig", i), key.ostree(t, "x"))
			}
		}
		w := newWorld(t, Config{Origins: []Origin{{URL: "http://a.mem"}, {URL: "http://origin.mem"}}}, b.serve)
		w.serve("a", a.serve)
		used := 0
		for i := range 20 {
			summary, sig := fmt.Sprintf("/%d/summary", i), fmt.Sprintf("/%d/summary.sig", i)
			w.get(summary)
			w.get(sig)
			if a.count(summary) != a.count(sig) || b.count(summary) != b.count(sig) {
				t.Errorf("set %d is of two origins", i)
			}
			used += a.count(summary)
		}
		if used == 0 || used == 20 {
			t.Errorf("%d of 20 are of one origin", used)
		}
	})
}
