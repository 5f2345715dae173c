package hub_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
	"freshet/internal/role"
)

// A damaged object is served no more once the scrub has found it: 404 with its reason,
// a metric, and then, when somebody uploads it, the object again and an event for those
// who cache it.
func TestQuarantine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {ScrubRate: 1 << 20}}})
		c := app(t, "org.test.Hello", "v1")
		h.publishAll("stable", c)
		damaged := slices.IndexFunc(c.parts, func(p part) bool { return strings.HasSuffix(p.name, ".filez") })
		name, sound := c.parts[damaged].name, c.parts[damaged].content
		path := "objects/" + name[:2] + "/" + name[2:]
		file := filepath.Join(h.cfg.Dir, "repos", "stable", filepath.FromSlash(path))
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, sound[:len(sound)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // the scrub reads all in four

		a := h.get("/repo/stable/" + path)
		e := decode[hubapi.Error](t, a)
		if a.status != http.StatusNotFound || e.Kind != hubapi.ErrNotFound || e.Reason != "quarantined" ||
			a.header.Get(role.ReasonHeader) != "quarantined" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
		if n := h.gauge("freshet_hub_quarantined_objects", "repo", "stable"); n != 1 {
			t.Errorf("%v objects in quarantine", n)
		}
		head := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)).Head

		// Somebody pushes the same again: the client is told that the object is missing.
		h.publishAll("stable", c)
		if a := h.get("/repo/stable/" + path); a.status != http.StatusOK || string(a.body) != string(sound) {
			t.Errorf("after the upload: %d %s", a.status, a.body)
		}
		if n := h.gauge("freshet_hub_quarantined_objects", "repo", "stable"); n != 0 {
			t.Errorf("%v objects in quarantine", n)
		}
		events, err := h.api().Events(t.Context(), head, 0, 0)
		if err != nil || len(events.Events) == 0 || events.Events[0].Kind != hubapi.EventRepair || events.Events[0].Base != "/repo/stable/" ||
			!slices.Equal(events.Events[0].Changed, []string{path}) {
			t.Errorf("%+v, %v", events, err)
		}
		h.stop()
	})
}

// What a check has repaired beside the hub, caches are told of too.
func TestRepairsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{})
		h.publishAll("stable", app(t, "org.test.Hello", "v1"))
		head := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)).Head
		note := filepath.Join(h.cfg.Dir, "repos", "stable", ".upkeep", "repaired", "objects%2Fab%2Fcd.filez")
		if err := os.MkdirAll(filepath.Dir(note), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(note, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		page, err := h.api().Events(t.Context(), head, 0, 0)
		if err != nil || len(page.Events) != 1 || page.Events[0].Kind != hubapi.EventRepair || !slices.Equal(page.Events[0].Changed, []string{"objects/ab/cd.filez"}) {
			t.Errorf("%+v, %v", page, err)
		}
		h.stop()
	})
}

// gauge is the value of a metric with a label, -1 when there is none.
func (h *runningHub) gauge(name, label, value string) float64 {
	h.t.Helper()
	families, err := h.metrics.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == label && l.GetValue() == value {
					return m.GetGauge().GetValue()
				}
			}
		}
	}
	return -1
}
