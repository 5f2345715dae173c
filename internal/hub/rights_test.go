package hub_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
)

// A token may do with a build only what it may do with everything in it, also
// when the build names no application.
func TestBuildRights(t *testing.T) {
	h := startHub(t, hub.Config{})
	claims := func(name, id string, prefixes ...string) string {
		c := everything()
		c.Name, c.ID, c.Prefixes = name, id, prefixes
		return h.token(c)
	}
	app := func(id string) *string { return &id }
	calls := map[string]string{
		"": http.MethodGet, "/extended": http.MethodGet, "/commit": http.MethodPost, "/publish": http.MethodPost,
		"/purge": http.MethodPost, "/upload": http.MethodPost, "/missing_objects": http.MethodGet,
	}
	for name, test := range map[string]struct {
		creator auth.Claims
		app     *string
		refs    []string
		extra   []string
		token   string
		refused string // the calls that are refused
	}{
		"every id":             {refs: []string{"app/org.p.One"}, token: claims("x", "", "")},
		"own ref":              {refs: []string{"app/org.p.One"}, token: claims("x", "", "org.p")},
		"foreign ref":          {refs: []string{"app/org.p.One"}, token: claims("x", "", "org.b"), refused: "all"},
		"one of two refs":      {refs: []string{"app/org.p.One", "runtime/org.b.Two"}, token: claims("x", "", "org.b"), refused: "all"},
		"foreign extra id":     {refs: []string{"app/org.p.One"}, extra: []string{"org.b.Two"}, token: claims("x", "", "org.p"), refused: "all"},
		"creator, foreign ref": {creator: auth.Claims{Name: "ci"}, refs: []string{"app/org.p.One"}, token: claims("ci", "", "org.b"), refused: "/extended /commit /publish /purge"},
		"empty":                {creator: auth.Claims{Name: "ci"}, token: claims("x", "", "org.b"), refused: "all"},
		"empty, by name":       {creator: auth.Claims{Name: "ci"}, token: claims("ci", "", "org.b")},
		"empty, part":          {creator: auth.Claims{Name: "ci"}, token: claims("ci/upload", "", "org.b")},
		"empty, like name":     {creator: auth.Claims{Name: "ci"}, token: claims("ci2", "", "org.b"), refused: "all"},
		"empty, by id":         {creator: auth.Claims{Name: "ci", ID: "1"}, token: claims("y", "1", "org.b")},
		"empty, other id":      {creator: auth.Claims{Name: "ci", ID: "1"}, token: claims("ci", "2", "org.b"), refused: "all"},
		"empty, name, no id":   {creator: auth.Claims{Name: "ci", ID: "1"}, token: claims("ci", "", "org.b"), refused: "all"},
		"empty, nameless":      {token: claims("", "", "org.b"), refused: "all"},
		"application":          {app: app("org.p.One"), refs: []string{"app/org.p.One", "runtime/org.p.One.Locale"}, token: claims("x", "", "org.p.One")},
		"of an application":    {app: app("org.p.One"), refs: []string{"app/org.b.Two"}, token: claims("x", "", "org.p.One"), refused: "/extended /commit /publish /purge"},
		"foreign application":  {app: app("org.p.One"), token: claims("x", "", "org.b"), refused: "all"},
	} {
		t.Run(name, func(t *testing.T) {
			creator := everything()
			creator.Name, creator.ID = test.creator.Name, test.creator.ID
			all := h.token(creator)
			for call, method := range calls {
				build := decode[hubapi.Build](t, h.json(http.MethodPost, "/api/v1/build", all, map[string]any{"repo": "stable", "app-id": test.app, "public-download": false}))
				path := hubapi.BuildPath(build.ID)
				for _, ref := range test.refs {
					request := map[string]any{"ref": ref + "/x86_64/stable", "commit": strings.Repeat("a", 64)}
					if a := h.json(http.MethodPost, path+"/build_ref", all, request); a.status != 200 {
						t.Fatalf("build_ref: %d %s", a.status, a.body)
					}
				}
				if len(test.extra) > 0 {
					h.json(http.MethodPost, path+"/add_extra_ids", all, map[string]any{"ids": test.extra})
				}
				refused := test.refused == "all" || call != "" && strings.Contains(test.refused, call)
				if a := h.json(method, path+call, test.token, struct{}{}); (a.status == http.StatusForbidden) != refused {
					t.Errorf("%s: %d %s", call, a.status, a.body)
				}
				refused = strings.Contains(test.refused, "all") || strings.Contains(test.refused, "/extended")
				if call == "/commit" {
					a := h.json(http.MethodPost, path+"/commit", all, struct{}{})
					if a.status == 200 || a.status == 400 {
						h.wait(path + "/commit")
					}
					job := decode[hubapi.Build](t, h.do(http.MethodGet, path, all, nil)).CommitJobID
					if a := h.do(http.MethodGet, hubapi.JobPath(*job), test.token, nil); (a.status == http.StatusForbidden) != refused {
						t.Errorf("job: %d %s", a.status, a.body)
					}
				}
				if a := h.do(http.MethodGet, hubapi.BuildRepoPath(build.ID)+"config", test.token, nil); (a.status == http.StatusForbidden) != refused {
					t.Errorf("download: %d %s", a.status, a.body)
				}
				list := string(h.do(http.MethodGet, "/api/v1/build", test.token, nil).body)
				if listed := strings.Contains(list, `"id":`+strings.TrimPrefix(path, "/api/v1/build/")+","); test.app == nil && call != "/purge" && listed == refused {
					t.Errorf("listed: %v", listed)
				}
			}
		})
	}
}

// Users can be sent only to applications that the token grants, and ids can be
// added only by whom they belong to.
func TestForeignIDs(t *testing.T) {
	h := startHub(t, hub.Config{})
	narrow := everything()
	narrow.Prefixes = []string{"org.test"}
	token := h.token(narrow)
	build := h.push("stable", app(t, "org.test.Hello", "v1"))
	path := hubapi.BuildPath(build.ID)
	h.json(http.MethodPost, path+"/add_extra_ids", token, map[string]any{"ids": []string{"org.other.App"}}).problem(t, 403, hubapi.ErrInsufficient)
	h.json(http.MethodPost, path+"/commit", token, map[string]any{"endoflife_rebase": "org.other.App"}).problem(t, 403, hubapi.ErrInsufficient)
	if a := h.json(http.MethodPost, path+"/commit", token, map[string]any{"endoflife": "moved", "endoflife_rebase": "org.test.New"}); a.status != 200 {
		t.Errorf("commit: %d %s", a.status, a.body)
	}
}

// Who may see jobs sees those of what the token is for: neither what concerns the whole
// repository, nor whose builds were published together with the own one.
func TestJobRights(t *testing.T) {
	h := startHub(t, hub.Config{Repos: map[string]hub.RepoConfig{"stable": {Deltas: hub.DeltasConfig{AppstreamDepth: -1, Rules: []hub.DeltaRule{{Depth: 1}}}}}})
	all := h.token(everything())
	token := func(name, prefix string) string {
		claims := everything()
		claims.Name, claims.Prefixes = name, []string{prefix}
		claims.Scope = []auth.Scope{auth.ScopeJobs}
		return h.token(claims)
	}
	one, two := token("one", "org.test.One"), token("two", "org.test.Two")
	hold := decode[hubapi.Hold](t, h.json(http.MethodPost, "/api/v1/repo/stable/holds", all, hubapi.Hold{Kind: hubapi.HoldWait, Reason: "together"}))
	var jobs []int64
	for _, id := range []string{"org.test.One", "org.test.Two"} {
		build := h.push("stable", app(t, id, "v1"))
		h.commit(build)
		jobs = append(jobs, decode[hubapi.Job](t, h.json(http.MethodPost, hubapi.BuildPath(build.ID, "publish"), all, struct{}{})).ID)
	}
	h.do(http.MethodDelete, "/api/v1/repo/stable/holds/"+fmt.Sprint(hold.ID), all, nil)
	for _, job := range jobs {
		h.wait(hubapi.JobPath(job))
	}
	list := decode[hubapi.PublishList](t, h.do(http.MethodGet, "/api/v1/repo/stable/publishes?ref=app/org.test.Two/x86_64/stable", two, nil))
	if len(list.Publishes) != 1 || len(list.Publishes[0].Jobs) != 1 || list.Publishes[0].Jobs[0].ID != jobs[1] {
		t.Errorf("publishes %+v", list)
	}
	list = decode[hubapi.PublishList](t, h.do(http.MethodGet, "/api/v1/repo/stable/publishes", all, nil))
	if len(list.Publishes) != 1 || len(list.Publishes[0].Jobs) != 2 {
		t.Errorf("publishes for all %+v", list)
	}
	ask := func(path string, request any) int64 {
		a := h.json(http.MethodPost, path, all, request)
		if a.status != http.StatusOK {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
		return decode[hubapi.Job](t, a).ID
	}
	h.eventually("the deltas", func() bool { results, _ := h.lastDeltas(1); return len(results.Deltas) == 2 })
	moved := ask("/api/v1/repo/stable/unpublish", hubapi.UnpublishRequest{App: "org.test.One"})
	again := ask("/api/v1/repo/stable/republish", hubapi.RepublishRequest{App: "org.test.Two"})
	prune := ask("/api/v1/prune", hubapi.PruneRequest{Repo: "stable", DryRun: true})
	deltas := int64(0)
	for id := int64(1); id < prune; id++ {
		if decode[hubapi.Job](t, h.do(http.MethodGet, hubapi.JobPath(id), all, nil)).Kind == hubapi.JobDeltas {
			deltas = id
		}
	}
	for job, seenBy := range map[int64]string{jobs[0]: one, jobs[1]: two, moved: one, again: two, prune: all, deltas: all} {
		for _, who := range []string{one, two, all} {
			a := h.do(http.MethodGet, hubapi.JobPath(job), who, nil)
			if seen := a.status == http.StatusOK; seen != (who == seenBy || who == all) {
				t.Errorf("job %d: %d %s", job, a.status, a.body)
			}
		}
	}
}
