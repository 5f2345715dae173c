package probe

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/directorapi"
	"freshet/internal/control"
	"freshet/internal/director/orders"
)

// The API takes reports of those who may tell, and tells the health to those who may read.
func TestAPI(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m", "n"}, func(t *testing.T, w *world) {
		mirror, reader, node := control.Hash("mirror's"), control.Hash("reader's"), control.Hash("node's")
		w.edit(func(c *directorapi.Catalogue) { c.Mirrors[0].Token = mirror })
		registry := prometheus.NewRegistry()
		w.options.Metrics = registry
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.hosts["m"].lie(lie{dial: refuse})
		w.waitUntil("m", false, bound)

		desk, err := orders.Open(orders.Config{Clients: map[string]orders.ClientConfig{
			"reader": {Token: reader, Allow: []string{directorapi.RightRead}},
			"node":   {Token: node, Allow: []string{directorapi.RightReport}, Mirrors: []string{"n"}},
		}}, w.Current, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = desk.Close() }()
		mux := http.NewServeMux()
		NewAPI(desk, w.prober).Register(mux.Handle)
		ask := func(method, target, token, body string) (int, string) {
			r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+token)
			rec := httptest.NewRecorder()
			mux.ServeHTTP(rec, r)
			return rec.Code, rec.Body.String()
		}
		for name, c := range map[string]struct {
			token, body string
			want        int
			says        string
		}{
			"nobody":             {"nobody's", `{"reports": []}`, 401, "token"},
			"reader":             {"reader's", `{"reports": []}`, 403, "report"},
			"load of itself":     {"mirror's", `{"reports": [{"mirror": "m", "what": "load", "load": 0.5}]}`, 202, ""},
			"load of others":     {"mirror's", `{"reports": [{"mirror": "n", "what": "load", "load": 0.5}]}`, 403, "may not touch"},
			"node":               {"node's", `{"reports": [{"mirror": "n", "what": "slow", "path": "/p/a"}]}`, 202, ""},
			"node of others":     {"node's", `{"reports": [{"mirror": "m", "what": "slow", "path": "/p/a"}]}`, 403, "may not touch"},
			"no sense":           {"node's", `{"reports": [{"mirror": "n", "what": "ugly", "path": "/p/a"}]}`, 400, "reports[0]: what"},
			"misspelt":           {"node's", `{"report": []}`, 400, "unknown field"},
			"too many":           {"node's", `{"reports": [{}` + strings.Repeat(",{}", directorapi.MaxReports) + `]}`, 400, "at most 500"},
			"too long":           {"node's", `{"reports": "` + strings.Repeat("a", maxReportsBody) + `"}`, 413, "bytes"},
			"some make no sense": {"node's", `{"reports": [{}, {"mirror": "n", "what": "error", "path": "/p/a"}]}`, 403, "may not touch"},
		} {
			if code, body := ask(http.MethodPost, directorapi.ReportsPath, c.token, c.body); code != c.want || !strings.Contains(body, c.says) {
				t.Errorf("%s: %d %s, want %d with %q", name, code, body, c.want, c.says)
			}
		}
		if load := w.prober.State().Load("m"); load != 0.5 {
			t.Errorf("load %v", load)
		}

		code, body := ask(http.MethodGet, directorapi.HealthPath+"?mirror=m&project=p", "reader's", "")
		var list directorapi.HealthList
		if err := json.Unmarshal([]byte(body), &list); code != 200 || err != nil {
			t.Fatalf("%d %s: %v", code, body, err)
		}
		if len(list.Ways) != 4 {
			t.Errorf("ways: %+v", list.Ways)
		}
		for _, way := range list.Ways {
			if way.Works || way.Why != "refused" || way.Since.IsZero() || len(way.History) != 2 || !way.History[0].Works {
				t.Errorf("way: %+v", way)
			}
		}
		if code, body := ask(http.MethodGet, directorapi.HealthPath, "node's", ""); code != 403 {
			t.Errorf("who may only report reads: %d %s", code, body)
		}
		if _, body := ask(http.MethodGet, directorapi.HealthPath, "reader's", ""); strings.Count(body, `"family"`) != 10 || strings.Contains(body, "history") {
			t.Errorf("all ways: %s", body)
		}

		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := make(map[string]float64)
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := f.GetName()
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetGauge().GetValue()
			}
		}
		for name, want := range map[string]float64{
			"freshet_director_ways ipv4 http works": 2, "freshet_director_ways ipv6 https refused": 1,
			"freshet_director_blind ipv6": 0, "freshet_director_mirror_certificate_expiry_timestamp_seconds n": 954547200, // 2000-04-01
		} {
			if v, ok := got[name]; !ok || v != want {
				t.Errorf("%s is %v, want %v", name, v, want)
			}
		}
	})
}
