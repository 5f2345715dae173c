package hub_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
	"freshet/internal/archive"
	"freshet/internal/auth"
	"freshet/internal/flatpak"
	"freshet/internal/hub"
	"freshet/internal/memnet"
	"freshet/internal/ostree"
	"freshet/internal/role"
)

// runningHub is a hub that serves on a network in memory.
type runningHub struct {
	t       *testing.T
	cfg     hub.Config
	client  *http.Client
	base    string
	metrics *prometheus.Registry
	cancel  context.CancelFunc
	ended   chan error
}

// startHub runs a hub until the end of the test. Without a Dir it gets a new
// one.
func startHub(t *testing.T, cfg hub.Config) *runningHub {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	cfg.Listen = "mem:hub"
	h := &runningHub{t: t, cfg: cfg, base: "http://hub.mem"}
	h.start()
	t.Cleanup(h.stop)
	return h
}

func (h *runningHub) start() {
	h.t.Helper()
	var network memnet.Network
	transport := &http.Transport{DialContext: network.DialContext, DisableCompression: true}
	h.client = &http.Client{Transport: transport}
	h.metrics = prometheus.NewRegistry()
	ctx, cancel := context.WithCancel(context.Background())
	h.cancel, h.ended = cancel, make(chan error, 1)
	ready := make(chan struct{})
	env := role.Env{
		Log:     slog.New(slog.NewTextHandler(h.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
		Listen:  func(_ context.Context, addr string) (net.Listener, error) { return network.Listen(addr) },
		Metrics: h.metrics,
		Ready:   func() { close(ready) },
	}
	go func() { h.ended <- hub.Run(ctx, h.cfg, env) }()
	select {
	case <-ready:
	case err := <-h.ended:
		cancel()
		h.cancel = nil
		h.t.Fatalf("hub ended before it was ready: %v", err)
	}
}

// patience is how long a busy machine may take for what takes a moment.
const patience = 3 * time.Minute

// stop ends the hub cleanly; it may be started again.
func (h *runningHub) stop() {
	if h.cancel == nil {
		return
	}
	h.client.CloseIdleConnections()
	h.cancel()
	h.cancel = nil
	if err := <-h.ended; err != nil {
		h.t.Errorf("hub ended with: %v", err)
	}
}

func (h *runningHub) restart() {
	h.t.Helper()
	h.stop()
	h.start()
}

// everything are claims that grant all.
func everything() auth.Claims {
	return auth.Claims{
		Sub: "build", Name: "tester", Scope: auth.Scopes(), Prefixes: []string{""}, Repos: []string{""},
		Expires: time.Now().Add(3 * time.Hour).Unix(),
	}
}

// secret is the key of the hub's tokens.
func (h *runningHub) secret() auth.Secret {
	h.t.Helper()
	secret, err := auth.LoadSecret(filepath.Join(h.cfg.Dir, "secret"))
	if err != nil {
		h.t.Fatal(err)
	}
	return secret
}

func (h *runningHub) token(claims auth.Claims) string {
	h.t.Helper()
	token, err := (&auth.Authority{Secret: h.secret()}).Issue(claims)
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

// api is a client with all rights that does not try again.
func (h *runningHub) api() *hubapi.Client {
	return &hubapi.Client{Base: h.base, Token: h.token(everything()), HTTP: h.client, RetryFor: -1}
}

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// decode reads the answer's JSON.
func decode[T any](t *testing.T, a answer) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(a.body, &v); err != nil {
		t.Fatalf("answer %d %q: %v", a.status, a.body, err)
	}
	return v
}

// problem reads the answer as an error body and checks that it is one.
func (a answer) problem(t *testing.T, status int, kind hubapi.ErrorKind) hubapi.Error {
	t.Helper()
	e := decode[hubapi.Error](t, a)
	if a.status != status || e.Status != status || e.Kind != kind || e.Message == "" {
		t.Errorf("answer %d %s, want %d %s", a.status, a.body, status, kind)
	}
	if word := a.header.Get(role.ReasonHeader); word != string(kind) {
		t.Errorf("reason %q, want %q", word, kind)
	}
	return e
}

// do makes a request; header are pairs of names and values.
func (h *runningHub) do(method, path, token string, body io.Reader, header ...string) answer {
	h.t.Helper()
	request, err := http.NewRequestWithContext(h.t.Context(), method, h.base+path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := h.client.Do(request)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{response.StatusCode, response.Header, data}
}

func (h *runningHub) get(path string, header ...string) answer {
	h.t.Helper()
	return h.do(http.MethodGet, path, "", nil, header...)
}

// json makes a request with a JSON body, compressed as flat-manager's client
// does for its larger ones.
func (h *runningHub) json(method, path, token string, v any) answer {
	h.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	var body bytes.Buffer
	zw := gzip.NewWriter(&body)
	_, _ = zw.Write(data)
	_ = zw.Close()
	return h.do(method, path, token, &body, "Content-Type", "application/json", "Content-Encoding", "gzip")
}

// part is one file of an upload.
type part struct {
	name    string
	content []byte
}

// upload sends parts as multipart of the dialect ("mixed" or "form-data").
func (h *runningHub) upload(path, token, dialect string, parts ...part) answer {
	h.t.Helper()
	body, contentType := multipartOf(dialect, parts...)
	return h.do(http.MethodPost, path, token, bytes.NewReader(body), "Content-Type", contentType)
}

func multipartOf(dialect string, parts ...part) (body []byte, contentType string) {
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for i, p := range parts {
		header := make(textproto.MIMEHeader)
		if dialect == "mixed" {
			header.Set("Content-Disposition", `attachment; filename="`+p.name+`"`)
			header.Set("Content-Length", fmt.Sprint(len(p.content)))
		} else {
			header.Set("Content-Disposition", fmt.Sprintf(`form-data; name="file%d"; filename="%s"`, i, p.name))
			header.Set("Content-Type", "application/octet-stream")
		}
		pw, _ := w.CreatePart(header) // a bytes.Buffer does not fail
		_, _ = pw.Write(p.content)
	}
	_ = w.Close()
	return buf.Bytes(), "multipart/" + dialect + "; boundary=" + w.Boundary()
}

// content is a repository to push: its refs and, as parts, its objects.
type content struct {
	refs  map[string]string
	parts []part
}

// app makes the content of one application. Different texts give different
// commits.
func app(t *testing.T, id, text string) content {
	t.Helper()
	return appAt(t, "app/"+id+"/x86_64/stable", text)
}

// appAt is app with the ref of the application.
func appAt(t *testing.T, ref, text string) content {
	t.Helper()
	id := strings.Split(ref, "/")[1]
	dir := t.TempDir()
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	meta := flatpak.Metadata{
		Kind: flatpak.App, Name: id, Command: "hello",
		Runtime: "org.test.Platform/x86_64/stable", SDK: "org.test.Sdk/x86_64/stable",
	}
	files := []archive.File{
		{Path: "files/bin/hello", Content: []byte("#!/bin/sh\necho " + text + "\n"), Executable: true},
		{Path: "files/share/doc/same", Content: []byte("the same in every version\n")},
	}
	if err := repo.CommitFlatpak(ref, meta, files, []string{"export"}, time.Unix(1_700_000_000, 0)); err != nil {
		t.Fatal(err)
	}
	head, err := os.ReadFile(filepath.Join(dir, "refs", "heads", ref))
	if err != nil {
		t.Fatal(err)
	}
	c := content{refs: map[string]string{ref: strings.TrimSpace(string(head))}}
	err = filepath.WalkDir(filepath.Join(dir, "objects"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		relative, _ := filepath.Rel(dir, path)
		name, err := ostree.ParseObjectPath(filepath.ToSlash(relative))
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		c.parts = append(c.parts, part{name.String(), data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// Files first, metadata second, as the clients do.
	sort.Slice(c.parts, func(i, j int) bool {
		return strings.HasSuffix(c.parts[i].name, ".filez") && !strings.HasSuffix(c.parts[j].name, ".filez")
	})
	return c
}

func (c content) names() []string {
	names := make([]string, len(c.parts))
	for i, p := range c.parts {
		names[i] = p.name
	}
	return names
}

// ref is the only ref, and its commit.
func (c content) ref() (ref, commit string) {
	for ref, commit = range c.refs {
	}
	return ref, commit
}

// push creates a build, uploads the content and sets its refs.
func (h *runningHub) push(repo string, c content) hubapi.Build {
	h.t.Helper()
	return h.pushInto(map[string]any{"repo": repo}, c)
}

// pushInto is push with what the build is to be.
func (h *runningHub) pushInto(build map[string]any, c content) hubapi.Build {
	h.t.Helper()
	return h.pushTo(h.json(http.MethodPost, "/api/v1/build", h.token(everything()), build), c)
}

func (h *runningHub) pushTo(created answer, c content) hubapi.Build {
	h.t.Helper()
	token := h.token(everything())
	build := decode[hubapi.Build](h.t, created)
	if created.status != http.StatusOK || build.ID == 0 {
		h.t.Fatalf("create: %d %s", created.status, created.body)
	}
	path := hubapi.BuildPath(build.ID)
	if a := h.upload(path+"/upload", token, "mixed", c.parts...); a.status != http.StatusOK {
		h.t.Fatalf("upload: %d %s", a.status, a.body)
	}
	for ref, commit := range c.refs {
		if a := h.json(http.MethodPost, path+"/build_ref", token, map[string]any{"ref": ref, "commit": commit}); a.status != http.StatusOK {
			h.t.Fatalf("build_ref: %d %s", a.status, a.body)
		}
	}
	return build
}

// wait polls a job until it has ended.
func (h *runningHub) wait(path string) hubapi.Job {
	h.t.Helper()
	token := h.token(everything())
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		a := h.do(http.MethodGet, path, token, nil)
		if a.status != http.StatusOK {
			h.t.Fatalf("job: %d %s", a.status, a.body)
		}
		job := decode[hubapi.Job](h.t, a)
		if job.Status == hubapi.JobEnded || job.Status == hubapi.JobBroken {
			return job
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s does not end: %s", path, a.body)
		}
	}
}

// commit commits a build and expects success.
func (h *runningHub) commit(build hubapi.Build) hubapi.Job {
	h.t.Helper()
	path := hubapi.BuildPath(build.ID, "commit")
	if a := h.json(http.MethodPost, path, h.token(everything()), struct{}{}); a.status != http.StatusOK {
		h.t.Fatalf("commit: %d %s", a.status, a.body)
	}
	job := h.wait(path)
	if job.Status != hubapi.JobEnded {
		h.t.Fatalf("commit job: %+v results %s", job, *job.Results)
	}
	return job
}

// publish publishes a committed build and expects success.
func (h *runningHub) publish(build hubapi.Build) hubapi.Job {
	h.t.Helper()
	path := hubapi.BuildPath(build.ID, "publish")
	if a := h.json(http.MethodPost, path, h.token(everything()), struct{}{}); a.status != http.StatusOK {
		h.t.Fatalf("publish: %d %s", a.status, a.body)
	}
	job := h.wait(path)
	if job.Status != hubapi.JobEnded {
		h.t.Fatalf("publish job: %+v results %s", job, *job.Results)
	}
	return job
}

// publishAll takes content through its whole life.
func (h *runningHub) publishAll(repo string, c content) hubapi.Build {
	h.t.Helper()
	build := h.push(repo, c)
	h.commit(build)
	h.publish(build)
	return build
}

// eventually waits until the condition holds.
func (h *runningHub) eventually(what string, holds func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("never: %s", what)
		}
	}
}
