package hub_test

import (
	"net/http"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub"
)

// TestHeldTree: a held tree stays as it is, what was pushed meanwhile is published
// when the hold is released, and everybody sees that it is held.
func TestHeldTree(t *testing.T) {
	h := startHub(t, hub.Config{})
	api := h.api()
	pushTree(t, h, "docs", map[string]string{"a": "1"})
	if _, err := api.Hold(t.Context(), "none", hubapi.Hold{Kind: hubapi.HoldFreeze, Reason: "x"}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a hold of nothing: %v", err)
	}
	if _, err := api.Hold(t.Context(), "docs", hubapi.Hold{App: "org.test.A", Kind: hubapi.HoldFreeze, Reason: "x"}); err == nil {
		t.Error("a tree has applications")
	}
	held, err := api.Hold(t.Context(), "docs", hubapi.Hold{Kind: hubapi.HoldWait, Reason: "under review"})
	if err != nil {
		t.Fatal(err)
	}
	stable, err := api.Hold(t.Context(), "stable", hubapi.Hold{Kind: hubapi.HoldFreeze, Reason: "moves"})
	if err != nil {
		t.Fatal(err)
	}
	token := h.token(everything())
	push := decode[hubapi.TreePush](t, h.json(http.MethodPost, hubapi.TreePath("docs", "push"), token, hubapi.TreePushRequest{Files: treeFiles(map[string]string{"a": "2"})}))
	if a := h.upload(hubapi.TreePath("docs", "push", push.ID, "upload"), token, "form-data", part{hashOf("2"), []byte("2")}); a.status != 200 {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	publish := hubapi.TreePath("docs", "push", push.ID, "publish")
	e := h.json(http.MethodPost, publish, token, struct{}{}).problem(t, 409, hubapi.ErrConflict)
	if !strings.Contains(e.Message, "under review") || !strings.Contains(e.Message, "tester") {
		t.Errorf("%+v", e)
	}
	some := everything()
	some.Prefixes = []string{"org.test"}
	h.json(http.MethodPost, hubapi.TreePath("docs", "rollback"), h.token(some), map[string]int{"generation": 1}).problem(t, 409, hubapi.ErrConflict)
	status := func() string {
		return string(h.do(http.MethodGet, "/status", "", nil, "Accept", "application/json").body)
	}
	if text := status(); !strings.Contains(text, `{"name":"docs","generation":1,"held":"hold"}`) || !strings.Contains(text, `"held":"freeze"`) || strings.Contains(text, "under review") {
		t.Errorf("status: %s", text)
	}
	if page := string(h.get("/status").body); !strings.Contains(page, "<td>docs<td>1<td>hold</tr>") {
		t.Errorf("status: %s", page)
	}
	for name, hold := range map[string]hubapi.Hold{"docs": held, "stable": stable} {
		if holds, err := api.Holds(t.Context(), name); err != nil || len(holds.Holds) != 1 || holds.Holds[0].ID != hold.ID {
			t.Errorf("%+v, %v", holds, err)
		}
		if err := api.Release(t.Context(), name, hold.ID); err != nil {
			t.Fatal(err)
		}
	}
	if a := h.json(http.MethodPost, publish, token, struct{}{}); a.status != 200 {
		t.Errorf("after the release: %d %s", a.status, a.body)
	}
	if text := status(); strings.Contains(text, `"held"`) {
		t.Errorf("status: %s", text)
	}
}
