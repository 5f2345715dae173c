package push_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/memnet"
	"freshet/internal/ostree"
)

// fakeHub is a hub in memory that keeps the contract and complains about
// clients that do not: it verifies every content, fails the test when it gets
// something twice, and can be made to misbehave.
type fakeHub struct {
	t *testing.T

	mu      sync.Mutex
	objects map[string][]byte // of the repository, by upload name
	builds  []*fakeBuild
	pushes  []*fakePush
	blobs   map[string][]byte // of trees, by hash
	gens    []hubapi.Generation
	bytes   int64    // received as content
	resent  []string // what came though it was there
	asked   map[string]int
	trouble func(n int, r *http.Request) trouble // n counts the requests of its kind from 1

	checks     []hubapi.Check
	breakJob   string // the reason for which commit jobs break
	onPush     func() // of a tree, once its files are told
	keepUnsent bool   // missing lists stay as they were

	sameGeneration bool // all of a tree's pushes count as one generation
}

type fakeBuild struct {
	hubapi.Build
	objects map[string][]byte
	refs    map[string]string
	commit  hubapi.CommitRequest
	polls   int
}

type fakePush struct {
	hubapi.TreePush
	files      []hubapi.TreeFile
	published  bool
	cancelled  bool
	generation hubapi.Generation
}

// trouble is how a request is mistreated. The zero value is: not at all.
type trouble struct {
	status     int  // answered instead of anything
	retryAfter int  // seconds
	cutBefore  bool // the connection ends before the request is acted on
	cutAfter   bool // the answer is lost
	drop       int  // so many parts are silently not stored
	corrupt    bool // contents arrive wrong
}

func newHub(t *testing.T) *fakeHub {
	t.Helper()
	return &fakeHub{t: t, objects: map[string][]byte{}, blobs: map[string][]byte{}, asked: map[string]int{}}
}

// client serves the hub inside the bubble of the test.
func (h *fakeHub) client() *hubapi.Client {
	var network memnet.Network
	l, err := network.Listen("mem:hub")
	if err != nil {
		h.t.Fatal(err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Hour}
	go func() { _ = server.Serve(l) }()
	transport := &http.Transport{DialContext: network.DialContext, MaxIdleConnsPerHost: 8}
	h.t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = server.Close()
		synctest.Wait()
	})
	return &hubapi.Client{Base: "http://hub.mem", Token: "t0ken", HTTP: &http.Client{Transport: transport}}
}

// kindOf names the kind of a request: its method and the path's words.
func kindOf(r *http.Request) string {
	kind := r.Method
	for elem := range strings.SplitSeq(strings.TrimPrefix(r.URL.Path, hubapi.Prefix), "/") {
		if elem != "" && strings.Trim(elem, "0123456789") != "" {
			kind += " " + elem
		}
	}
	return kind
}

func (h *fakeHub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if got := r.Header.Get("Authorization"); got != "Bearer t0ken" {
		h.t.Errorf("%s %s: Authorization %q", r.Method, r.URL, got)
	}
	kind := kindOf(r)
	h.mu.Lock()
	h.asked[kind]++
	var tr trouble
	if h.trouble != nil {
		tr = h.trouble(h.asked[kind], r)
	}
	h.mu.Unlock()
	switch {
	case tr.status != 0:
		_, _ = io.Copy(io.Discard, r.Body)
		if tr.retryAfter > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(tr.retryAfter))
		}
		w.WriteHeader(tr.status)
		return
	case tr.cutBefore:
		_, _ = io.ReadFull(r.Body, make([]byte, 100))
		panic(http.ErrAbortHandler)
	}
	status, body := h.answer(r, tr)
	if tr.cutAfter {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if status != http.StatusNoContent {
		_ = json.NewEncoder(w).Encode(body)
	}
}

func fail(status int, kind hubapi.ErrorKind, format string, args ...any) (int, any) {
	return status, hubapi.Error{Status: status, Kind: kind, Message: fmt.Sprintf(format, args...)}
}

func (h *fakeHub) answer(r *http.Request, tr trouble) (int, any) {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, hubapi.Prefix+"/"), "/")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == hubapi.Prefix+"/build":
		var req hubapi.CreateBuildRequest
		h.decode(r, &req)
		h.mu.Lock()
		defer h.mu.Unlock()
		b := &fakeBuild{objects: map[string][]byte{}, refs: map[string]string{}}
		b.ID, b.Repo, b.AppID = int64(len(h.builds)+1), req.Repo, req.AppID
		h.builds = append(h.builds, b)
		return 200, b.Build
	case r.URL.Path == hubapi.EventsPath:
		return 200, hubapi.EventPage{Head: 42, Events: []hubapi.Event{{Serial: 42, Changed: []string{"summary"}}}}
	case path[0] == "build" && len(path) > 1:
		id, _ := strconv.Atoi(path[1])
		h.mu.Lock()
		known := id >= 1 && id <= len(h.builds)
		h.mu.Unlock()
		if !known {
			return fail(404, hubapi.ErrNotFound, "no build %d", id)
		}
		return h.build(r, tr, h.builds[id-1], strings.Join(path[2:], "/"))
	case path[0] == "tree" && len(path) == 2 && r.Method == http.MethodGet:
		h.mu.Lock()
		defer h.mu.Unlock()
		if len(h.gens) == 0 {
			return fail(404, hubapi.ErrNotFound, "no tree %s", path[1])
		}
		gens := slices.Clone(h.gens)
		slices.Reverse(gens)
		return 200, hubapi.TreeInfo{Name: path[1], Current: gens[0].ID, Generations: gens}
	case path[0] == "tree" && len(path) >= 3 && path[2] == "push":
		return h.tree(r, tr, path[1], path[3:])
	}
	h.t.Errorf("unexpected request %s %s", r.Method, r.URL)
	return fail(404, hubapi.ErrNotFound, "nothing there")
}

func (h *fakeHub) decode(r *http.Request, v any) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		zr, err := gzip.NewReader(body)
		if err != nil {
			h.t.Errorf("%s %s: %v", r.Method, r.URL, err)
			return
		}
		body = zr
	}
	if err := json.NewDecoder(body).Decode(v); err != nil || r.Header.Get("Content-Type") != "application/json" {
		h.t.Errorf("%s %s: %v, content type %q", r.Method, r.URL, err, r.Header.Get("Content-Type"))
	}
}

func (h *fakeHub) build(r *http.Request, tr trouble, b *fakeBuild, path string) (int, any) {
	if r.Method == http.MethodPost && path == "upload" {
		return h.receive(r, tr, func(name string, data []byte) string {
			if b.RepoState != hubapi.RepoUploading {
				return "not uploading"
			}
			return h.storeObject(b, name, data)
		})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	wrong := func(kind hubapi.ErrorKind, current string) (int, any) {
		return 400, hubapi.Error{Status: 400, Kind: kind, Message: "wrong state", CurrentState: current}
	}
	results := func(v any) *string {
		data, _ := json.Marshal(v)
		s := string(data)
		return &s
	}
	switch r.Method + " " + path {
	case "GET ":
		return 200, b.Build
	case "GET extended":
		if b.RepoState == hubapi.RepoValidating {
			if b.polls++; b.polls > 3 {
				b.RepoState = hubapi.RepoReady
			}
		}
		e := hubapi.BuildExtended{Build: b.Build, Checks: h.checks}
		for ref, commit := range b.refs {
			e.BuildRefs = append(e.BuildRefs, hubapi.BuildRef{RefName: ref, Commit: commit, BuildID: b.ID})
		}
		return 200, e
	case "GET missing_objects":
		var req hubapi.MissingObjectsRequest
		h.decode(r, &req)
		if len(req.Wanted) > 2000 {
			h.t.Errorf("asked for %d objects", len(req.Wanted))
		}
		missing := []string{}
		for _, name := range req.Wanted {
			if b.objects[name] == nil && h.objects[name] == nil || h.keepUnsent {
				missing = append(missing, name)
			}
		}
		return 200, hubapi.MissingObjectsResponse{Missing: missing}
	case "POST build_ref":
		var req hubapi.CreateBuildRefRequest
		h.decode(r, &req)
		b.refs[req.Ref] = req.Commit
		return 200, hubapi.BuildRef{ID: 1, BuildID: b.ID, RefName: req.Ref, Commit: req.Commit}
	case "POST add_extra_ids":
		var req hubapi.AddExtraIDsRequest
		h.decode(r, &req)
		b.ExtraIDs = append(b.ExtraIDs, req.IDs...)
		return 200, b.Build
	case "POST purge":
		b.RepoState = hubapi.RepoPurged
		return 200, b.Build
	case "POST commit":
		h.decode(r, &b.commit)
		if b.RepoState != hubapi.RepoUploading {
			return wrong(hubapi.ErrWrongRepoState, b.RepoState.String())
		}
		b.RepoState = hubapi.RepoCommitting
		b.polls = 0
		return 200, hubapi.Job{ID: 10 * b.ID}
	case "GET commit":
		return 200, h.job(r, b, hubapi.JobCommit, func() *string {
			if h.breakJob != "" {
				b.RepoState = hubapi.RepoFailed
				return nil
			}
			h.checkComplete(b)
			b.RepoState = hubapi.RepoReady
			if len(h.checks) > 0 {
				b.polls = 0
				b.RepoState = hubapi.RepoValidating
			}
			return results(hubapi.CommitResults{Refs: b.refs})
		})
	case "POST publish":
		if b.RepoState != hubapi.RepoReady {
			return wrong(hubapi.ErrWrongRepoState, b.RepoState.String())
		}
		if b.PublishedState != hubapi.Unpublished {
			return wrong(hubapi.ErrWrongPublishedState, b.PublishedState.String())
		}
		b.PublishedState = hubapi.Publishing
		b.polls = 0
		return 200, hubapi.Job{ID: 10*b.ID + 1, Kind: hubapi.JobPublish}
	case "GET publish":
		return 200, h.job(r, b, hubapi.JobPublish, func() *string {
			b.PublishedState = hubapi.Published
			maps.Copy(h.objects, b.objects)
			return results(hubapi.PublishResults{Refs: b.refs, UpdateRepoJob: 10*b.ID + 1, Serial: 42})
		})
	}
	h.t.Errorf("unexpected request %s %s", r.Method, r.URL)
	return fail(404, hubapi.ErrNotFound, "nothing there")
}

const jobLog = "first line\nsecond: ünï\nthird \x1b[2J\nunfinished"

// job is a job that ends when its log was read in three pieces.
func (h *fakeHub) job(r *http.Request, b *fakeBuild, kind hubapi.JobKind, end func() *string) hubapi.Job {
	var req hubapi.JobRequest
	h.decode(r, &req)
	b.polls++
	shown := jobLog[:min(len(jobLog), 14*b.polls)]
	job := hubapi.Job{ID: 10*b.ID + int64(kind), Kind: kind, Status: hubapi.JobStarted, Contents: "{}"}
	job.Log = shown[req.LogOffset:]
	if shown == jobLog {
		job.Status = hubapi.JobEnded
		if job.Results = end(); job.Results == nil {
			job.Status = hubapi.JobBroken
			text := fmt.Sprintf(`{"error-message":%q}`, h.breakJob)
			job.Results = &text
		}
	}
	return job
}

// checkComplete fails the test unless everything the build's refs need is
// there.
func (h *fakeHub) checkComplete(b *fakeBuild) {
	have := func(name ostree.ObjectName) []byte {
		if data := b.objects[name.String()]; data != nil {
			return data
		}
		data := h.objects[name.String()]
		if data == nil {
			h.t.Errorf("commit of build %d: %s is missing", b.ID, name)
		}
		return data
	}
	var walk func(tree, meta ostree.Checksum)
	walk = func(tree, meta ostree.Checksum) {
		have(ostree.ObjectName{Checksum: meta, Type: ostree.TypeDirMeta})
		d, err := ostree.ParseDirTree(have(ostree.ObjectName{Checksum: tree, Type: ostree.TypeDirTree}))
		if err != nil {
			h.t.Error(err)
			return
		}
		for _, f := range d.Files {
			have(ostree.ObjectName{Checksum: f.File, Type: ostree.TypeFile})
		}
		for _, sub := range d.Dirs {
			walk(sub.Tree, sub.Meta)
		}
	}
	for ref, commit := range b.refs {
		sum, _ := ostree.ParseChecksum(commit)
		c, err := ostree.ParseCommit(have(ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit}))
		if err != nil {
			h.t.Errorf("%s: %v", ref, err)
			continue
		}
		walk(c.Tree, c.TreeMeta)
	}
}

func (h *fakeHub) storeObject(b *fakeBuild, name string, data []byte) string {
	upload, err := ostree.ParseUploadName(name)
	if err != nil {
		return err.Error()
	}
	if upload.Delta == nil {
		if _, err := ostree.VerifyObject(upload.Object, bytes.NewReader(data)); err != nil {
			return err.Error()
		}
	} else if upload.Delta.Part < 0 && b.objects[strings.Replace(name, ".superblock.", ".0.", 1)] == nil {
		h.t.Errorf("%s came before its parts", name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if b.objects[name] != nil || h.objects[name] != nil {
		h.resent = append(h.resent, name)
	}
	b.objects[name] = data
	h.bytes += int64(len(data))
	return ""
}

// receive reads an upload and stores its parts.
func (h *fakeHub) receive(r *http.Request, tr trouble, store func(name string, data []byte) string) (int, any) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		h.t.Error(err)
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	stored := []int{}
	refused := map[string]string{}
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(400, hubapi.ErrGeneric, "%v", err)
		}
		data, err := io.ReadAll(part)
		if err != nil {
			return fail(400, hubapi.ErrGeneric, "%v", err)
		}
		if got := part.Header.Get("Content-Length"); got != strconv.Itoa(len(data)) {
			h.t.Errorf("part %s of %d bytes announces %s", part.FileName(), len(data), got)
		}
		if n < tr.drop {
			continue
		}
		if tr.corrupt {
			data = append([]byte{1}, data...)
		}
		if reason := store(part.FileName(), data); reason != "" {
			refused[part.FileName()] = reason
			continue
		}
		stored = append(stored, len(data))
	}
	if len(refused) > 0 {
		return 400, hubapi.Error{Status: 400, Kind: hubapi.ErrGeneric, Message: "refused", Refused: refused}
	}
	return 200, stored
}

func (h *fakeHub) tree(r *http.Request, tr trouble, tree string, path []string) (int, any) {
	if len(path) == 0 {
		var req hubapi.TreePushRequest
		h.decode(r, &req)
		if h.onPush != nil {
			h.onPush()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		p := &fakePush{files: req.Files}
		p.ID, p.Tree, p.Files = fmt.Sprintf("p%d", len(h.pushes)+1), tree, len(req.Files)
		h.pushes = append(h.pushes, p)
		p.Missing = h.missingBlobs(p)
		return 200, p.TreePush
	}
	h.mu.Lock()
	i := slices.IndexFunc(h.pushes, func(p *fakePush) bool { return p.ID == path[0] && p.Tree == tree && !p.cancelled })
	if i < 0 {
		h.mu.Unlock()
		return fail(404, hubapi.ErrNotFound, "no push %s", path[0])
	}
	p := h.pushes[i]
	h.mu.Unlock()
	op := r.Method + " " + strings.Join(path[1:], "/")
	if p.published && op != "POST publish" {
		return fail(404, hubapi.ErrNotFound, "push %s is published", path[0])
	}
	if op == "POST upload" {
		return h.receive(r, tr, func(name string, data []byte) string {
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != name {
				return "content has another hash"
			}
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.blobs[name] != nil {
				h.resent = append(h.resent, name)
			}
			h.blobs[name] = data
			h.bytes += int64(len(data))
			return ""
		})
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch op {
	case "GET ":
		p.Missing = h.missingBlobs(p)
		return 200, p.TreePush
	case "DELETE ":
		p.cancelled = true
		return 204, nil
	case "POST publish":
		if missing := h.missingBlobs(p); len(missing) > 0 {
			return fail(409, hubapi.ErrConflict, "%d contents are missing", len(missing))
		}
		if !p.published { // a repetition after a lost answer changes nothing
			p.published = true
			if h.sameGeneration && len(h.gens) > 0 {
				p.generation = h.gens[0]
				p.generation.Unchanged, p.generation.Note = true, "not all could be checked"
				return 200, p.generation
			}
			p.generation = hubapi.Generation{ID: int64(len(h.gens) + 1), Files: len(p.files), Serial: 17}
			p.generation.Created.Time = time.Now().UTC().Truncate(time.Millisecond)
			h.gens = append(h.gens, p.generation)
		}
		return 200, p.generation
	}
	h.t.Errorf("unexpected request %s %s", r.Method, r.URL)
	return fail(404, hubapi.ErrNotFound, "nothing there")
}

func (h *fakeHub) missingBlobs(p *fakePush) []string {
	missing := []string{}
	for _, f := range p.files {
		if f.Link == "" && (h.blobs[f.SHA256] == nil || h.keepUnsent) && !slices.Contains(missing, f.SHA256) {
			missing = append(missing, f.SHA256)
		}
	}
	return missing
}

// settle waits, within synctest, until the hub is done with requests that were cut.
// From then on what it has can be looked at.
func settle() {
	time.Sleep(time.Second)
	synctest.Wait()
}
