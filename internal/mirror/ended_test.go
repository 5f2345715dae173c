package mirror_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/project"
	"freshet/internal/role"
)

// stuck is an upstream with one file, of which half comes until somebody opens it.
type stuck struct {
	*httptest.Server
	at, open chan struct{} // somebody has half of it; all of it comes
}

func newStuck(t *testing.T) *stuck {
	s := &stuck{at: make(chan struct{}, 16), open: make(chan struct{})}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `[{"name":"a","type":"file","mtime":"Sun, 22 Nov 2026 10:00:00 GMT","size":8}]`)
			return
		}
		w.Header().Set("Content-Length", "8")
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		s.at <- struct{}{}
		select {
		case <-s.open:
			_, _ = io.WriteString(w, "half")
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// A sync that somebody ends has not failed: it waits again if the project is held or
// another process takes over, and is forgotten if it was canceled.
func TestEndedSyncHasNotFailed(t *testing.T) {
	up := newStuck(t)
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 24h"})
	p := w.cfg.Projects["p"]
	p.Upstreams = []string{up.URL + "/"}
	w.cfg.Projects["p"] = p
	ended := func(how string) mirrorapi.ProjectStatus {
		t.Helper()
		st, err := w.client.Project(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		if st.Last == nil || st.Last.Result != mirrorapi.Canceled || st.Last.Reason != mirrorapi.ReasonCanceled || st.Failures != 0 {
			t.Errorf("%s: %+v, %d failures", how, st.Last, st.Failures)
		}
		return st
	}
	w.start()
	<-up.at
	if _, err := w.client.Hold(t.Context(), "p", mirrorapi.HoldRequest{}); err != nil {
		t.Fatal(err)
	}
	if st := ended("held"); st.Pending == nil || st.Pending.Cause != mirrorapi.CauseResume {
		t.Errorf("what was held does not wait: %+v", st)
	}
	if _, err := w.client.Release(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	<-up.at
	if _, err := w.client.Cancel(t.Context(), "p"); err != nil {
		t.Fatal(err)
	}
	w.await("the sync is canceled", func(st mirrorapi.ProjectStatus) bool { return st.State == mirrorapi.Idle })
	if st := ended("canceled"); st.Pending != nil {
		t.Errorf("what was canceled waits: %+v", st)
	}
	if _, err := w.client.Sync(t.Context(), "p", mirrorapi.SyncRequest{}); err != nil {
		t.Fatal(err)
	}
	<-up.at
	w.end(role.Handover{})
	w.start()
	<-up.at
	ended("handed over")
	close(up.open)
	w.await("it goes on", func(st mirrorapi.ProjectStatus) bool {
		return st.Generation != "" && st.Last.Order.Cause == mirrorapi.CauseResume
	})
}
