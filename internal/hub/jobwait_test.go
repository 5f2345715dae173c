package hub_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/hub"
)

// A client that waits for a job is answered when there is something to tell, and
// when its time is over.
func TestWaitForJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{})
		api, token := h.api(), h.token(everything())
		build := h.push("stable", app(t, "org.test.Hello", "v1"))
		h.commit(build)
		held, err := api.Hold(t.Context(), "stable", hubapi.Hold{App: "org.test.Hello", Kind: hubapi.HoldWait, Reason: "under review"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := api.Publish(t.Context(), build.ID); err != nil {
			t.Fatal(err)
		}
		path := hubapi.BuildPath(build.ID, "publish")
		ask := func(body string) answer {
			return h.do(http.MethodGet, path, token, strings.NewReader(body), "Content-Type", "application/json")
		}
		for _, wait := range []string{"x", "-1s", "3"} {
			ask(`{"wait":"`+wait+`"}`).problem(t, http.StatusBadRequest, hubapi.ErrGeneric)
		}
		for wait, takes := range map[string]time.Duration{"": 0, "0s": 0, "10s": 10 * time.Second, "24h": time.Minute} {
			begun := time.Now()
			if job := decode[hubapi.Job](t, ask(`{"wait":"`+wait+`"}`)); job.Status != hubapi.JobNew || time.Since(begun) != takes {
				t.Errorf("%q: after %v: %+v", wait, time.Since(begun), job)
			}
		}

		got := make(chan answer)
		go func() { got <- ask(`{"wait":"1m"}`) }()
		synctest.Wait()
		begun := time.Now()
		if err := api.Release(t.Context(), "stable", held.ID); err != nil {
			t.Fatal(err)
		}
		// Its last words come with its end: one answer for both.
		if job := decode[hubapi.Job](t, <-got); !strings.Contains(job.Log, "Published after") || job.Status != hubapi.JobEnded || time.Since(begun) > 10*time.Second {
			t.Errorf("after %v: %+v", time.Since(begun), job)
		}
		if job := h.wait(path); job.Status != hubapi.JobEnded {
			t.Errorf("%+v", job)
		}
		// Nothing is left to wait for.
		begun = time.Now()
		if job := decode[hubapi.Job](t, ask(`{"wait":"1m","log-offset":100000}`)); job.Status != hubapi.JobEnded || time.Since(begun) != 0 {
			t.Errorf("after %v: %+v", time.Since(begun), job)
		}
		h.stop()
	})
}
