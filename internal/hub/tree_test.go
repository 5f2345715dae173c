package hub_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/auth"
	"freshet/internal/hub"
)

func hashOf(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}

func treeFiles(files map[string]string) []hubapi.TreeFile {
	var list []hubapi.TreeFile
	for _, path := range slices.Sorted(maps.Keys(files)) {
		list = append(list, hubapi.TreeFile{Path: path, Size: int64(len(files[path])), SHA256: hashOf(files[path]), ModTime: 1_700_000_000})
	}
	return list
}

// pushTree pushes and publishes a generation.
func pushTree(t *testing.T, h *runningHub, name string, files map[string]string) hubapi.Generation {
	t.Helper()
	token := h.token(everything())
	push := decode[hubapi.TreePush](t, h.json(http.MethodPost, hubapi.TreePath(name, "push"), token, hubapi.TreePushRequest{Files: treeFiles(files)}))
	var parts []part
	for _, content := range files {
		if slices.Contains(push.Missing, hashOf(content)) {
			parts = append(parts, part{hashOf(content), []byte(content)})
		}
	}
	if a := h.upload(hubapi.TreePath(name, "push", push.ID, "upload"), token, "form-data", parts...); a.status != 200 {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	a := h.json(http.MethodPost, hubapi.TreePath(name, "push", push.ID, "publish"), token, struct{}{})
	if a.status != 200 {
		t.Fatalf("publish: %d %s", a.status, a.body)
	}
	return decode[hubapi.Generation](t, a)
}

func TestTreeLife(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	files := map[string]string{"index.txt": "one\n", "pool/a_1.deb": "package one", "pool/same.deb": "the same"}
	a := h.json(http.MethodPost, hubapi.TreePath("files", "push"), token, hubapi.TreePushRequest{Files: treeFiles(files)})
	push := decode[hubapi.TreePush](t, a)
	if a.status != 200 || len(push.Missing) != 3 || push.Files != 3 || push.Tree != "files" {
		t.Fatalf("begin: %d %s", a.status, a.body)
	}
	path := hubapi.TreePath("files", "push", push.ID)
	if want := h.base + path; a.header.Get("Location") != want {
		t.Errorf("Location %q, want %q", a.header.Get("Location"), want)
	}

	// A bad content is refused by name, the good one stays.
	e := h.upload(path+"/upload", token, "form-data",
		part{hashOf("one\n"), []byte("one\n")},
		part{hashOf("package one"), []byte("package two")},
		part{hashOf("the same"), []byte("the sam")},
		part{hashOf("not in the push"), []byte("not in the push")},
		part{"../../x", []byte("x")},
	).problem(t, 400, hubapi.ErrGeneric)
	if len(e.Refused) != 4 || e.Refused[hashOf("package one")] == "" || e.Refused["../../x"] == "" {
		t.Errorf("refused: %v", e.Refused)
	}
	now := decode[hubapi.TreePush](t, h.do(http.MethodGet, path, token, nil))
	if slices.Contains(now.Missing, hashOf("one\n")) || len(now.Missing) != 2 {
		t.Errorf("missing: %v", now.Missing)
	}
	h.json(http.MethodPost, path+"/publish", token, struct{}{}).problem(t, 400, hubapi.ErrGeneric)
	a = h.upload(path+"/upload", token, "mixed", part{hashOf("package one"), []byte("package one")}, part{hashOf("the same"), []byte("the same")}, part{hashOf("one\n"), []byte("one\n")})
	if sizes := decode[[]int64](t, a); a.status != 200 || !slices.Equal(sizes, []int64{11, 8, 4}) {
		t.Errorf("upload: %d %s", a.status, a.body)
	}
	a = h.json(http.MethodPost, path+"/publish", token, struct{}{})
	generation := decode[hubapi.Generation](t, a)
	if a.status != 200 || generation.ID == 0 || generation.Serial == 0 || generation.Files != 3 {
		t.Fatalf("publish: %d %s", a.status, a.body)
	}
	// The answer got lost: asking again gives the same.
	if again := decode[hubapi.Generation](t, h.json(http.MethodPost, path+"/publish", token, struct{}{})); again.ID != generation.ID || again.Serial != generation.Serial {
		t.Errorf("published again: %+v, was %+v", again, generation)
	}
	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	event := page.Events[len(page.Events)-1]
	if event.Serial != generation.Serial || event.Kind != hubapi.EventTree || event.Base != "/tree/files/" || event.Generation != generation.ID {
		t.Errorf("event %+v", event)
	}

	// The next generation, with one package gone.
	second := pushTree(t, h, "files", map[string]string{"index.txt": "two\n", "pool/b_1.deb": "package two", "pool/same.deb": "the same"})
	if a = h.get("/tree/files/index.txt"); string(a.body) != "two\n" || a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("index: %q %v", a.body, a.header)
	}
	if a = h.get("/tree/files/pool/a_1.deb"); string(a.body) != "package one" || a.header.Get("Cache-Control") != "public, max-age=86400" {
		t.Errorf("package of the old generation: %d %q %v", a.status, a.body, a.header)
	}
	info := decode[hubapi.TreeInfo](t, h.do(http.MethodGet, hubapi.TreePath("files"), token, nil))
	if info.Current != second.ID || len(info.Generations) != 2 || info.Generations[1].Retires == nil {
		t.Errorf("info %+v", info)
	}
	page = decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	if event := page.Events[len(page.Events)-1]; !slices.Equal(event.Changed, []string{"index.txt"}) {
		t.Errorf("changed: %v", event.Changed)
	}
	h.restart()
	if a = h.get("/tree/files/index.txt"); string(a.body) != "two\n" {
		t.Errorf("after a restart: %q", a.body)
	}
}

// What is there already makes no generation and no event; what would lead
// clients into the void is refused, and what could not be checked is told.
func TestTreePublishAnswers(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	files := map[string]string{"index.txt": "one\n"}
	one := pushTree(t, h, "files", files)
	head := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	same := pushTree(t, h, "files", files)
	if !same.Unchanged || one.Unchanged || same.ID != one.ID || same.Serial != one.Serial {
		t.Errorf("the same again: %+v, was %+v", same, one)
	}
	if now := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath)); len(now.Events) != len(head.Events) {
		t.Errorf("an event more: %+v", now.Events)
	}
	if info := decode[hubapi.TreeInfo](t, h.do(http.MethodGet, hubapi.TreePath("files"), token, nil)); len(info.Generations) != 1 || info.Generations[0].Unchanged {
		t.Errorf("info %+v", info)
	}

	const repomd = `<repomd><data type="primary"><location href="repodata/p.xml"/></data></repomd>`
	bad := map[string]string{"repodata/repomd.xml": repomd, "repodata/p.xml": `<metadata><package><location href="gone.rpm"/></package></metadata>`}
	push := decode[hubapi.TreePush](t, h.json(http.MethodPost, hubapi.TreePath("rpms", "push"), token, hubapi.TreePushRequest{Files: treeFiles(bad)}))
	var parts []part
	for _, content := range bad {
		parts = append(parts, part{hashOf(content), []byte(content)})
	}
	if a := h.upload(hubapi.TreePath("rpms", "push", push.ID, "upload"), token, "form-data", parts...); a.status != 200 {
		t.Fatalf("upload: %d %s", a.status, a.body)
	}
	e := h.json(http.MethodPost, hubapi.TreePath("rpms", "push", push.ID, "publish"), token, struct{}{}).problem(t, 400, hubapi.ErrGeneric)
	if !strings.Contains(e.Message, "repodata/p.xml") || !strings.Contains(e.Message, "gone.rpm is not in the tree") || !strings.Contains(e.Message, "createrepo_c") {
		t.Errorf("message %q", e.Message)
	}
	if want := (hubapi.TreeProblem{File: "gone.rpm", By: "repodata/p.xml", Reason: hubapi.TreeMissing}); len(e.Problems) != 1 || e.Problems[0] != want {
		t.Errorf("problems %+v", e.Problems)
	}
	if a := h.get("/tree/rpms/repodata/repomd.xml"); a.status != 404 {
		t.Errorf("published: %d", a.status)
	}

	odd := pushTree(t, h, "rpms", map[string]string{"repodata/repomd.xml": repomd, "repodata/p.xml": "\x00ZCK1 and more"})
	if !strings.Contains(odd.Note, "repodata/p.xml") || !strings.Contains(odd.Note, "zchunk cannot be read") {
		t.Errorf("note %q", odd.Note)
	}
}

// A tree goes back to an older generation, and tells so once.
func TestTreeRollback(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	one := pushTree(t, h, "files", map[string]string{"index.txt": "one\n"})
	two := pushTree(t, h, "files", map[string]string{"index.txt": "two\n"})
	path := hubapi.TreePath("files", "rollback")
	for _, id := range []int64{0, two.ID} {
		h.json(http.MethodPost, path, token, hubapi.TreeRollbackRequest{Generation: id}).problem(t, 400, hubapi.ErrGeneric)
	}
	h.json(http.MethodPost, path, token, hubapi.TreeRollbackRequest{Generation: 99}).problem(t, 404, hubapi.ErrNotFound)
	h.json(http.MethodPost, hubapi.TreePath("none", "rollback"), token, hubapi.TreeRollbackRequest{Generation: 1}).problem(t, 404, hubapi.ErrNotFound)
	uploader := everything()
	uploader.Scope = []auth.Scope{auth.ScopeUpload}
	h.json(http.MethodPost, path, h.token(uploader), hubapi.TreeRollbackRequest{Generation: one.ID}).problem(t, 403, hubapi.ErrInsufficient)

	a := h.json(http.MethodPost, path, token, hubapi.TreeRollbackRequest{Generation: one.ID})
	back := decode[hubapi.Generation](t, a)
	if a.status != 200 || back.ID != two.ID+1 || back.Serial != two.Serial+1 || back.Unchanged {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := h.get("/tree/files/index.txt"); string(a.body) != "one\n" {
		t.Errorf("served: %q", a.body)
	}
	page := decode[hubapi.EventPage](t, h.get(hubapi.EventsPath))
	if event := page.Events[len(page.Events)-1]; event.Serial != back.Serial || !slices.Equal(event.Changed, []string{"index.txt"}) {
		t.Errorf("event %+v", event)
	}
	// The answer got lost.
	again := decode[hubapi.Generation](t, h.json(http.MethodPost, path, token, hubapi.TreeRollbackRequest{Generation: one.ID}))
	if again.ID != back.ID || !again.Unchanged {
		t.Errorf("again: %+v", again)
	}
}

// Keys of a tree are checked when the configuration is, and stop what they did
// not sign.
func TestTreeKeys(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a.rsa.pub")
	if err := os.WriteFile(file, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := hub.Config{Dir: dir, Trees: map[string]hub.TreeConfig{"apks": {Keys: []string{file}}}}
	if problems := cfg.CheckFiles(); len(problems) != 1 || problems[0].Key != "trees.apks.keys[0]" {
		t.Errorf("problems %+v", problems)
	}
	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&secret.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600); err != nil {
		t.Fatal(err)
	}
	if problems := cfg.CheckFiles(); len(problems) != 0 {
		t.Errorf("problems %+v", problems)
	}
	h := startHub(t, hub.Config{Trees: cfg.Trees})
	token := h.token(everything())
	files := map[string]string{"repodata/repomd.xml": "<repomd></repomd>"}
	pushTree(t, h, "others", files)
	push := decode[hubapi.TreePush](t, h.json(http.MethodPost, hubapi.TreePath("apks", "push"), token, hubapi.TreePushRequest{Files: treeFiles(files)}))
	e := h.json(http.MethodPost, hubapi.TreePath("apks", "push", push.ID, "publish"), token, struct{}{}).problem(t, 400, hubapi.ErrGeneric)
	if len(e.Problems) != 1 || e.Problems[0].Reason != hubapi.TreeUnsigned {
		t.Errorf("problems %+v", e.Problems)
	}
}

// HTTP as caches and clients need it.
func TestTreeHTTP(t *testing.T) {
	h := startHub(t, hub.Config{})
	pushTree(t, h, "files", map[string]string{"dir/index.txt": "0123456789", "x.html": "<p>"})
	a := h.get("/tree/files/dir/index.txt")
	etag, modified := a.header.Get("Etag"), a.header.Get("Last-Modified")
	if etag == "" || strings.HasPrefix(etag, "W/") || modified != "Tue, 14 Nov 2023 22:13:20 GMT" || a.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("header %v", a.header)
	}
	if a := h.get("/tree/files/dir/index.txt", "If-None-Match", etag); a.status != 304 || len(a.body) != 0 {
		t.Errorf("If-None-Match: %d", a.status)
	}
	if a := h.get("/tree/files/dir/index.txt", "If-Modified-Since", modified); a.status != 304 {
		t.Errorf("If-Modified-Since: %d", a.status)
	}
	if a := h.get("/tree/files/dir/index.txt", "Range", "bytes=2-4"); a.status != 206 || string(a.body) != "234" {
		t.Errorf("Range: %d %q", a.status, a.body)
	}
	if a := h.get("/tree/files/dir/index.txt", "Range", "bytes=2-4", "If-Range", `"other"`); a.status != 200 || len(a.body) != 10 {
		t.Errorf("If-Range: %d %q", a.status, a.body)
	}
	if a := h.get("/tree/files/dir/index.txt", "Range", "bytes=20-"); a.status != 416 {
		t.Errorf("bad Range: %d", a.status)
	}
	if a := h.get("/tree/files/dir/index.txt", "Accept-Encoding", "gzip"); a.header.Get("Content-Encoding") != "" {
		t.Errorf("compressed: %v", a.header)
	}
	if a := h.do(http.MethodHead, "/tree/files/dir/index.txt", "", nil); a.status != 200 || len(a.body) != 0 || a.header.Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d %v", a.status, a.header)
	}
	for _, path := range []string{"/tree/files/dir", "/tree/files/dir/", "/tree/files/", "/tree/files/none"} {
		h.get(path).problem(t, 404, hubapi.ErrNotFound)
	}
	// The same size and time, other bytes: another validator.
	pushTree(t, h, "files", map[string]string{"dir/index.txt": "9876543210", "x.html": "<p>"})
	if a := h.get("/tree/files/dir/index.txt", "If-None-Match", etag); a.status != 200 || string(a.body) != "9876543210" {
		t.Errorf("changed file: %d %q", a.status, a.body)
	}
}

func TestTreeRefusals(t *testing.T) {
	h := startHub(t, hub.Config{})
	token := h.token(everything())
	list := func(files ...hubapi.TreeFile) any { return hubapi.TreePushRequest{Files: files} }
	good := treeFiles(map[string]string{"a": "a"})[0]
	changed := func(change func(*hubapi.TreeFile)) hubapi.TreeFile {
		f := good
		change(&f)
		return f
	}
	for _, files := range []any{
		list(changed(func(f *hubapi.TreeFile) { f.Path = "../a" })), list(changed(func(f *hubapi.TreeFile) { f.Path = "/a" })),
		list(changed(func(f *hubapi.TreeFile) { f.Path = "" })), list(changed(func(f *hubapi.TreeFile) { f.Path = "a//b" })),
		list(changed(func(f *hubapi.TreeFile) { f.SHA256 = "x" })), list(changed(func(f *hubapi.TreeFile) { f.Size = -1 })),
		list(changed(func(f *hubapi.TreeFile) { f.Link = "../../etc/passwd"; f.Size = 0; f.SHA256 = "" })),
		list(good, good),
		map[string]any{"files": "x"},
		[]int{1},
		"x",
	} {
		h.json(http.MethodPost, hubapi.TreePath("files", "push"), token, files).problem(t, 400, hubapi.ErrGeneric)
	}
	for _, body := range []string{`{"files":[`, `{"files":[]} more`, `{`, `nonsense`, ``} {
		h.do(http.MethodPost, hubapi.TreePath("files", "push"), token, strings.NewReader(body)).problem(t, 400, hubapi.ErrGeneric)
	}
	h.json(http.MethodPost, hubapi.TreePath("Files", "push"), token, list(good)).problem(t, 400, hubapi.ErrGeneric)
	h.json(http.MethodPost, hubapi.TreePath(".files", "push"), token, list(good)).problem(t, 400, hubapi.ErrGeneric)
	h.do(http.MethodGet, hubapi.TreePath("files"), token, nil).problem(t, 404, hubapi.ErrNotFound)

	push := decode[hubapi.TreePush](t, h.json(http.MethodPost, hubapi.TreePath("files", "push"), token, list(good)))
	claims := everything()
	claims.Repos = []string{"other"}
	other := h.token(claims)
	for _, route := range []struct{ method, path string }{
		{http.MethodGet, ""}, {http.MethodDelete, ""}, {http.MethodPost, "/upload"}, {http.MethodPost, "/publish"},
	} {
		// Not its tree; and not the tree of the push.
		h.do(route.method, hubapi.TreePath("files", "push", push.ID)+route.path, other, nil).problem(t, 403, hubapi.ErrInsufficient)
		h.do(route.method, hubapi.TreePath("other", "push", push.ID)+route.path, other, bytes.NewReader(nil)).problem(t, 404, hubapi.ErrNotFound)
	}
	claims = everything()
	claims.Scope = []auth.Scope{auth.ScopeUpload}
	h.json(http.MethodPost, hubapi.TreePath("files", "push", push.ID, "publish"), h.token(claims), struct{}{}).problem(t, 403, hubapi.ErrInsufficient)
	// Prefixes do not matter for trees.
	claims.Prefixes, claims.Scope, claims.Repos = []string{"org.nobody"}, auth.Scopes(), []string{"files"}
	if a := h.do(http.MethodGet, hubapi.TreePath("files", "push", push.ID), h.token(claims), nil); a.status != 200 {
		t.Errorf("a token of the tree: %d %s", a.status, a.body)
	}
	if a := h.do(http.MethodDelete, hubapi.TreePath("files", "push", push.ID), token, nil); a.status != 204 {
		t.Errorf("cancel: %d %s", a.status, a.body)
	}
	h.do(http.MethodGet, hubapi.TreePath("files", "push", push.ID), token, nil).problem(t, 404, hubapi.ErrNotFound)
	pushTree(t, h, "files", map[string]string{"a": "a"})
}

// What only an old generation has is there for the grace time, and no longer.
func TestTreeGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := startHub(t, hub.Config{Trees: map[string]hub.TreeConfig{"files": {Grace: 30 * time.Minute}}})
		pushTree(t, h, "files", map[string]string{"pool/a.deb": "old"})
		pushTree(t, h, "files", map[string]string{"pool/b.deb": "new"})
		time.Sleep(29 * time.Minute)
		if a := h.get("/tree/files/pool/a.deb"); string(a.body) != "old" {
			t.Errorf("within the grace time: %d", a.status)
		}
		time.Sleep(2 * time.Minute)
		if a := h.get("/tree/files/pool/a.deb"); a.status != 404 {
			t.Errorf("after the grace time: %d", a.status)
		}
		time.Sleep(time.Hour)
		if info := decode[hubapi.TreeInfo](t, h.do(http.MethodGet, hubapi.TreePath("files"), h.token(everything()), nil)); len(info.Generations) != 1 {
			t.Errorf("generations: %+v", info.Generations)
		}
		h.stop()
	})
}
