package hub_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub"
)

// A republish is about the refs that were published when it was asked for: one that has
// come since is not touched, one that has gone is left out, and the others are published
// anew as they are when its turn comes.
func TestRepublishWhatWasAsked(t *testing.T) {
	h := startHub(t, hub.Config{})
	all := h.token(everything())
	const stable, beta, gone = "app/org.test.Hello/x86_64/stable", "app/org.test.Hello/x86_64/beta", "app/org.test.Hello/x86_64/gone"
	for _, ref := range []string{stable, beta, gone} {
		h.publishAll("stable", appAt(t, ref, "v1"))
	}
	ask := func(path string, request any) int64 {
		t.Helper()
		a := h.json(http.MethodPost, "/api/v1/repo/stable/"+path, all, request)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		return decode[hubapi.Job](t, a).ID
	}
	do := func(path string, request any) {
		t.Helper()
		if job := h.wait(hubapi.JobPath(ask(path, request))); job.Status != hubapi.JobEnded {
			t.Fatalf("%s: %+v", path, job)
		}
	}
	before := map[string]string{stable: h.head(stable), beta: h.head(beta)}
	do("unpublish", hubapi.UnpublishRequest{Refs: []string{beta}})
	hold := decode[hubapi.Hold](t, h.json(http.MethodPost, "/api/v1/repo/stable/holds", all, hubapi.Hold{App: "org.test.Hello", Kind: hubapi.HoldWait, Reason: "wait"}))
	job := ask("republish", map[string]any{"app": "org.test.Hello", "endoflife": "no more"})
	// Those are not held.
	do("unpublish", hubapi.UnpublishRequest{Refs: []string{gone}})
	do("rollback", hubapi.RollbackRequest{Refs: map[string]string{beta: before[beta]}})
	back := h.head(beta)
	h.do(http.MethodDelete, "/api/v1/repo/stable/holds/"+strconv.FormatInt(hold.ID, 10), all, nil)
	done := h.wait(hubapi.JobPath(job))
	if done.Status != hubapi.JobEnded || !strings.Contains(done.Log, gone+" is not published any more") {
		t.Fatalf("%+v", done)
	}
	if h.head(beta) != back {
		t.Error("a ref was published anew that was not there when it was asked for")
	}
	if h.head(stable) == before[stable] {
		t.Error("the ref that was asked for is as it was")
	}
	if !strings.Contains(done.Contents, `"`+stable+`":"`+before[stable]+`"`) || strings.Contains(done.Contents, "beta") {
		t.Errorf("contents %s", done.Contents)
	}
}
