package mirror_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/generation"
	"freshet/internal/mirror/project"
	"freshet/internal/mirror/serve"
	"freshet/internal/mirror/status"
	"freshet/internal/openapitest"
)

const (
	description = "../../api/mirrorapi/openapi.json"
	// paths of the public listener
	statusJSON = "/.freshet/status.json"
	byHash     = "/.freshet/by-hash/sha256/{hash}"
	listing    = "/{project}/{folder}/"
)

var update = flag.Bool("update", false, "rewrite api/mirrorapi/openapi.json")

// operations are those of the admin listener, and what programs ask of the public one.
func operations() []openapitest.Operation {
	of := func(thing string) string {
		return strings.TrimSuffix(mirrorapi.ProjectsPath+"/{project}/"+thing, "/")
	}
	const read, sync, write = "the right " + mirrorapi.RightRead, "the right " + mirrorapi.RightSync, "the right " + mirrorapi.RightWrite
	generation := mirrorapi.HeadPath("") + "{project}/{generation}/"
	gone := map[string]string{"410": "the generation has ended"}
	return []openapitest.Operation{
		{Method: "get", Path: mirrorapi.StatusPath, Does: "What the mirror does and has.", Needs: read, Out: mirrorapi.Status{}, Status: "200"},
		{Method: "get", Path: mirrorapi.DoctorPath, Does: "What is wrong, worst first.", Needs: read, Out: mirrorapi.Diagnosis{}, Status: "200"},
		{Method: "get", Path: of(""), Does: "What the mirror does with a project, and has of it.", Needs: read, Out: mirrorapi.ProjectStatus{}, Status: "200"},
		{Method: "delete", Path: of(""), Does: "Remove a project that is configured no more.", Needs: write, Out: mirrorapi.Removal{}, Status: "200"},
		{Method: "get", Path: of(mirrorapi.LogPath), Does: "The newest reports of syncs, at most as many as limit says.", Needs: read, Query: []string{"limit"}, Out: mirrorapi.Log{}, Status: "200"},
		{Method: "get", Path: of(mirrorapi.GenerationsPath), Does: "The generations on the disk, newest first.", Needs: read, Out: mirrorapi.Generations{}, Status: "200"},
		{Method: "get", Path: of(mirrorapi.PlanPath), Does: "How much there is to fetch, and whether it fits.", Needs: read, Out: mirrorapi.Plan{}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.SyncPath), Does: "Sync a project. With wait the answer is a stream until the sync has ended.", Needs: sync, In: mirrorapi.SyncRequest{}, Out: openapitest.Either{mirrorapi.SyncAnswer{}, openapitest.Lines{Of: mirrorapi.SyncEvent{}}}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.CancelPath), Does: "End the sync that runs or waits.", Needs: sync, Out: mirrorapi.SyncAnswer{}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.HoldPath), Does: "Sync a project no more until it is released.", Needs: write, In: mirrorapi.HoldRequest{}, Out: mirrorapi.SyncAnswer{}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.ReleasePath), Does: "Sync a project again.", Needs: write, Out: mirrorapi.SyncAnswer{}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.VerifyPath), Does: "Read all files and compare them with their SHA-256.", Needs: sync, In: mirrorapi.VerifyRequest{}, Out: openapitest.Lines{Of: mirrorapi.VerifyProgress{}}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.RollbackPath), Does: "Serve an older generation, at once.", Needs: write, In: mirrorapi.GenerationRequest{}, Out: mirrorapi.Generations{}, Status: "200"},
		{Method: "post", Path: of(mirrorapi.DropPath), Does: "Remove an older generation.", Needs: write, In: mirrorapi.GenerationRequest{}, Out: mirrorapi.Generations{}, Status: "200"},

		{Method: "get", Path: statusJSON, Does: "How fresh and how full the mirror is, for everybody.", Out: status.Status{}, Status: "200"},
		{Method: "get", Path: listing, Does: "What a folder has. With format=json, or where Accept begins with application/json, as JSON.", Query: []string{"format"}, Out: openapitest.Either{[]serve.Entry{}, openapitest.Media("text/html; charset=utf-8")}, Status: "200"},
		{Method: "get", Path: mirrorapi.HeadPath("") + "{project}", Does: "Which generation is served. With wait, one that after names is waited past.", Query: []string{"after", "wait"}, Out: mirrorapi.Head{}, Status: "200"},
		{Method: "get", Path: generation + "manifest", Does: "The manifest of a generation, as docs/formats/mirror-store.md says.", Out: openapitest.Media("application/zstd"), Status: "200", Also: gone},
		{Method: "get", Path: generation + "delta/{base}", Does: "What leads to it from that of another generation.", Out: openapitest.Media("application/zstd"), Status: "200", Also: gone},
		{Method: "get", Path: generation + "tree/{path}", Does: "A file of a generation. The path may have slashes.", Out: openapitest.Media("*/*"), Status: "200", Also: gone},
		{Method: "get", Path: byHash, Does: "A file by its SHA-256, in hexadecimal.", Out: openapitest.Media("application/octet-stream"), Status: "200"},
		{Method: "post", Path: mirrorapi.TriggerPath, Does: "Tell of something new upstream.", Needs: "a signature by a key of the project", In: mirrorapi.SignedTrigger{}, Out: mirrorapi.TriggerAnswer{}, Status: "200"},
	}
}

// The description of the API says what the types say.
func TestOpenAPI(t *testing.T) {
	openapitest.Check(t, description, *update, openapitest.API{
		Title:       "Freshet mirror",
		Description: "What a mirror understands: " + mirrorapi.Prefix + " is on its admin listener, for clients with a token; everything else is on the public one. See docs/mirror.md.",
		Operations:  operations(), Error: mirrorapi.Error{},
		Name: func(t reflect.Type) string {
			switch t.PkgPath() {
			case reflect.TypeFor[status.Status]().PkgPath():
				return "Public" + t.Name()
			case reflect.TypeFor[generation.Repository]().PkgPath():
				return "Generation" + t.Name()
			}
			return t.Name()
		},
	})
}

// The description has every route of the admin listener and no other, and what is answered
// is what it says.
func TestDescribed(t *testing.T) {
	doc := openapitest.Read(t, description)
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	pub := mirrorapi.TriggerKey{Name: "k", Public: public}.String()
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never", Triggers: []string{pub}})
	w.write("a", "one")
	w.write("pool/b", "two")
	left := w.cfg.Projects["p"]
	w.cfg.Projects["left"] = left
	w.start()
	w.sync(mirrorapi.SyncRequest{})
	for range w.client.SyncWaiting(t.Context(), "left", mirrorapi.SyncRequest{}) { // until it has ended
	}
	w.stop()
	delete(w.cfg.Projects, "left")
	w.patterns = nil
	w.start()
	admin := slices.DeleteFunc(slices.Clone(w.patterns), func(p string) bool { return !strings.Contains(p, mirrorapi.Prefix) })
	slices.Sort(admin)
	if described := doc.Operations(func(path string) bool { return strings.HasPrefix(path, mirrorapi.Prefix) }); !slices.Equal(described, admin) {
		t.Errorf("described: %q\nhandled:   %q", described, admin)
	}

	head, err := w.public.Head(t.Context(), "p", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	w.write("c", "three")
	w.sync(mirrorapi.SyncRequest{Force: true})
	now, err := w.public.Head(t.Context(), "p", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := (mirrorapi.Trigger{Project: "p", Key: "k", Sent: time.Now()}).Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	project := mirrorapi.ProjectsPath + "/{project}"
	generations := mirrorapi.HeadPath("") + "{project}"
	asked := make(map[string]bool)
	for _, c := range []struct {
		operation, target string
		body              any
		status            int
	}{
		{"GET " + mirrorapi.StatusPath, mirrorapi.StatusPath, nil, 200},
		{"GET " + mirrorapi.DoctorPath, mirrorapi.DoctorPath, nil, 200},
		{"GET " + project, mirrorapi.ProjectPath("p", ""), nil, 200},
		{"GET " + project, mirrorapi.ProjectPath("none", ""), nil, 404},
		{"GET " + project + "/log", mirrorapi.ProjectPath("p", "log") + "?limit=3", nil, 200},
		{"GET " + project + "/log", mirrorapi.ProjectPath("p", "log") + "?limit=many", nil, 400},
		{"GET " + project + "/generations", mirrorapi.ProjectPath("p", "generations"), nil, 200},
		{"GET " + project + "/plan", mirrorapi.ProjectPath("p", "plan"), nil, 200},
		{"POST " + project + "/sync", mirrorapi.ProjectPath("p", "sync"), mirrorapi.SyncRequest{Wait: true}, 200},
		{"POST " + project + "/sync", mirrorapi.ProjectPath("p", "sync"), "nonsense", 400},
		{"POST " + project + "/verify", mirrorapi.ProjectPath("p", "verify"), mirrorapi.VerifyRequest{}, 200},
		{"POST " + project + "/rollback", mirrorapi.ProjectPath("p", "rollback"), mirrorapi.GenerationRequest{Reason: "test"}, 200},
		{"POST " + project + "/drop", mirrorapi.ProjectPath("p", "drop"), mirrorapi.GenerationRequest{ID: "9"}, 404},
		{"POST " + project + "/drop", mirrorapi.ProjectPath("p", "drop"), mirrorapi.GenerationRequest{ID: "2"}, 200},
		{"GET " + mirrorapi.StatusPath, mirrorapi.StatusPath, nil, 200},
		{"POST " + project + "/release", mirrorapi.ProjectPath("p", "release"), nil, 200},
		{"POST " + project + "/hold", mirrorapi.ProjectPath("p", "hold"), mirrorapi.HoldRequest{Reason: "test"}, 200},
		{"POST " + project + "/sync", mirrorapi.ProjectPath("p", "sync"), nil, 409},
		{"POST " + project + "/release", mirrorapi.ProjectPath("p", "release"), nil, 200},
		{"POST " + project + "/sync", mirrorapi.ProjectPath("p", "sync"), nil, 200},
		{"DELETE " + project, mirrorapi.ProjectPath("left", ""), nil, 200},
		{"DELETE " + project, mirrorapi.ProjectPath("p", ""), nil, 409},

		{"GET " + statusJSON, statusJSON, nil, 200},
		{"GET " + listing, "/p/?format=json", nil, 200},
		{"GET " + listing, "/p/pool/", nil, 200},
		{"GET " + listing, "/p/none/", nil, 404},
		{"GET " + generations, mirrorapi.HeadPath("p"), nil, 200},
		{"GET " + generations, mirrorapi.HeadPath("none"), nil, 404},
		{"GET " + generations + "/{generation}/manifest", mirrorapi.ManifestPath("p", head.Generation), nil, 200},
		{"GET " + generations + "/{generation}/manifest", mirrorapi.ManifestPath("p", now.Generation), nil, 410}, // dropped
		{"GET " + generations + "/{generation}/delta/{base}", mirrorapi.DeltaPath("p", head.Generation, head.Generation), nil, 200},
		{"GET " + generations + "/{generation}/delta/{base}", mirrorapi.DeltaPath("p", head.Generation, now.Generation), nil, 410},
		{"GET " + generations + "/{generation}/tree/{path}", mirrorapi.TreePath("p", head.Generation) + "pool/b", nil, 200},
		{"GET " + byHash, "/.freshet/by-hash/sha256/" + fmt.Sprintf("%x", sha256.Sum256([]byte("two"))), nil, 200},
		{"GET " + byHash, "/.freshet/by-hash/sha256/" + fmt.Sprintf("%x", sha256.Sum256([]byte("four"))), nil, 404},
		{"POST " + mirrorapi.TriggerPath, mirrorapi.TriggerPath, signed, 200},
		{"POST " + mirrorapi.TriggerPath, mirrorapi.TriggerPath, mirrorapi.SignedTrigger{Text: "{}"}, 403},
	} {
		asked[c.operation] = true
		isAdmin := strings.HasPrefix(c.target, mirrorapi.Prefix)
		if isAdmin {
			status, kind, body := w.ask(c.operation, c.target, "guess", c.body)
			if err := doc.Check(c.operation, status, kind, body); err != nil || status != http.StatusUnauthorized {
				t.Errorf("%s without a token: %d %v", c.target, status, err)
			}
		}
		status, kind, body := w.ask(c.operation, c.target, w.client.Token, c.body)
		if status != c.status {
			t.Errorf("%s %s: %d, want %d: %s", c.operation, c.target, status, c.status, body)
		}
		if strings.HasSuffix(c.operation, "tree/{path}") {
			kind = "*/*" // of any type
		}
		if err := doc.Check(c.operation, status, kind, body); err != nil {
			t.Errorf("%s: %v", c.target, err)
		}
	}
	for _, operation := range doc.Operations(func(string) bool { return true }) {
		if !asked[operation] && !strings.HasSuffix(operation, "/cancel") {
			t.Errorf("%s is not asked", operation)
		}
	}
}

// ask makes a request of the listener that a path is of. A body is sent as JSON, or as it is
// if it is text.
func (w *world) ask(operation, target, token string, body any) (status int, kind string, answer []byte) {
	w.t.Helper()
	text, isText := body.(string)
	if body != nil && !isText {
		encoded, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		text = string(encoded)
	}
	method, _, _ := strings.Cut(operation, " ")
	at, client := w.public.Base, w.public.HTTP
	if strings.HasPrefix(target, mirrorapi.Prefix) {
		at, client = w.client.Base, http.DefaultClient
	}
	req, err := http.NewRequestWithContext(w.t.Context(), method, at+target, strings.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		w.t.Fatal(err)
	}
	return res.StatusCode, res.Header.Get("Content-Type"), answer
}
