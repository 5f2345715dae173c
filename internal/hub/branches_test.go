package hub_test

import (
	"net/http"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub"
)

// A token that is limited to branches uploads, commits, publishes and takes back
// nothing of others, whoever has brought it into a build.
func TestPushBranches(t *testing.T) {
	h := startHub(t, hub.Config{})
	all := h.token(everything())
	limited := everything()
	limited.PushBranches = []string{"beta", "test-*"}
	token := h.token(limited)

	build := func(app string, refs ...string) string {
		t.Helper()
		request := map[string]any{"repo": "stable"}
		if app != "" {
			request["app-id"] = app
		}
		path := hubapi.BuildPath(decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", all, request)).ID)
		for _, ref := range refs {
			if a := h.json(http.MethodPost, path+"/build_ref", all, map[string]any{"ref": ref, "commit": strings.Repeat("a", 64)}); a.status != 200 {
				t.Fatalf("build_ref: %d %s", a.status, a.body)
			}
		}
		return path
	}
	for ref, want := range map[string]int{
		"app/org.p.One/x86_64/beta": 200, "runtime/org.p.One.Locale/x86_64/test-7": 200,
		"app/org.p.One/x86_64/stable": 403, "app/org.p.One/x86_64/test": 403,
	} {
		for _, app := range []string{"", "org.p.One"} {
			a := h.json(http.MethodPost, build(app)+"/build_ref", token, map[string]any{"ref": ref, "commit": strings.Repeat("a", 64)})
			if a.status != want {
				t.Errorf("build_ref %s: %d %s", ref, a.status, a.body)
			}
		}
	}
	for _, app := range []string{"", "org.p.One"} {
		own := build(app, "app/org.p.One/x86_64/beta")
		mixed := build(app, "app/org.p.One/x86_64/beta", "app/org.p.One/x86_64/stable")
		for _, call := range []string{"/commit", "/publish", "/purge"} {
			if a := h.json(http.MethodPost, mixed+call, token, struct{}{}); a.status != 403 || !strings.Contains(string(a.body), "push_branches") {
				t.Errorf("%s of another branch: %d %s", call, a.status, a.body)
			}
		}
		if a := h.json(http.MethodPost, own+"/commit", token, struct{}{}); a.status != 200 {
			t.Errorf("commit of its branch: %d %s", a.status, a.body)
		}
	}
	for path, body := range map[string]any{
		"/repo/stable/rollback": hubapi.RollbackRequest{Refs: map[string]string{"app/org.p.One/x86_64/stable": strings.Repeat("a", 64)}},
		"/repo/stable/holds":    hubapi.Hold{App: "org.p.One", Kind: hubapi.HoldWait, Reason: "x"},
	} {
		if a := h.json(http.MethodPost, "/api/v1"+path, token, body); a.status != 403 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}
