package edge

import (
	"log/slog"
	"maps"
	"testing"
	"time"

	"freshet/api/edgeapi"
)

// The store of an edge that was stopped tells the same as the edge did: what
// every kind of purge did, and how long answers are fresh; also to who knows
// nothing of its sites.
func TestInspectStates(t *testing.T) {
	bubble(t, func(t *testing.T) {
		origin := &versions{tags: map[string][]string{"/app/one": {"app"}, "/app/two": {"gone"}}}
		cfg, boss, _ := clients(t)
		w := newWorld(t, Config{Control: cfg}, origin.serve)
		for _, path := range []string{"/repo/a/summary", "/repo/a/summary.sig", "/x.rpm", "/app/one", "/app/two", "/pool/y.deb"} {
			w.get(path)
		}
		w.purge(boss, edgeapi.PurgeRequest{Tags: []string{"app"}})
		w.purge(boss, edgeapi.PurgeRequest{Tags: []string{"gone"}, Hard: true})
		w.purge(boss, edgeapi.PurgeRequest{Sets: []string{"/repo/a/summary"}})
		w.purge(boss, edgeapi.PurgeRequest{Prefixes: []string{"/pool/"}})
		w.stop()
		time.Sleep(time.Minute)
		for name, cfg := range map[string]Config{"store alone": {Store: w.cfg.Store}, "configuration": w.cfg} {
			i, err := OpenStore(t.Context(), cfg, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]string)
			for a := range i.Answers(t.Context(), Selected{}) {
				if a.URI == "" {
					if a.Set == "" {
						t.Errorf("%s: neither URI nor set: %+v", name, a)
					}
					continue
				}
				got[a.URI] = a.State
				if a.Age < 60 || a.Age > 90 || a.Site != "default" || a.Status != 200 {
					t.Errorf("%s: %+v", name, a)
				}
				if a.State == StateFresh && (a.Class != ClassFixed || a.Remaining <= 0) {
					t.Errorf("%s: %+v", name, a)
				}
			}
			want := map[string]string{
				"/repo/a/summary": StatePurged, "/repo/a/summary.sig": StatePurged, "/x.rpm": StateFresh,
				"/app/one": StatePurged, "/pool/y.deb": StatePurged,
			}
			if !maps.Equal(got, want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
			st, err := i.Stat(t.Context())
			if err != nil || st.Gone != 1 || st.States[StateFresh].Answers != 1 || st.Limit != int64(cfg.Size) {
				t.Errorf("%s: %+v, %v", name, st, err)
			}
			if err := i.Close(); err != nil {
				t.Error(err)
			}
		}
		// What is removed is asked for again, and the rest is there.
		i, err := OpenStore(t.Context(), w.cfg, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		removed := 0
		each := func(Answer) error { removed++; return nil }
		for _, sel := range []Selected{{URIs: []string{"/x.rpm"}}, {Site: "other", Prefixes: []string{"/"}}, {Prefixes: []string{"/repo/a/summary"}}} {
			if err := i.Remove(t.Context(), sel, false, each); err != nil {
				t.Fatal(err)
			}
		}
		if err := i.Close(); err != nil || removed != 3 {
			t.Errorf("%d removed: %v", removed, err)
		}
		origin.next()
		w.start()
		w.want(w.get("/x.rpm"), "/x.rpm v1", "fwd=uri-miss")
		w.want(w.get("/repo/a/summary.sig"), "/repo/a/summary.sig v1", "fwd")
		w.want(w.get("/repo/a/summary"), "/repo/a/summary v1", "")
	})
}
