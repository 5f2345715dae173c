package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/peertest"
)

// deltaHub is a hub that leaves static deltas to workers.
type deltaHub struct {
	*hubServer
	t                   *testing.T
	work, dir, addr     string
	tokenFile, farmFile string
	version             int
}

func newDeltaHub(t *testing.T) *deltaHub {
	t.Helper()
	work := t.TempDir()
	h := &deltaHub{t: t, work: work, dir: filepath.Join(work, "hub"), addr: freeAddr(t), tokenFile: filepath.Join(work, "token"), farmFile: filepath.Join(work, "farm")}
	const config = "[hub]\ndelta-workers = -1\n[hub.repos.stable.deltas]\nappstream-depth = -1\n[[hub.repos.stable.deltas.rules]]\ndepth = 2\n"
	if err := os.WriteFile(filepath.Join(work, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	if err := os.WriteFile(h.tokenFile, []byte(h.token), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "token", "create", "--dir", h.dir, "--sub", "delta", "--scope", "generate", "--name", "farm", "--out", h.farmFile)
	return h
}

func (h *deltaHub) start() {
	h.t.Helper()
	h.hubServer = startHub(h.t, h.dir, h.addr, "", "--config", filepath.Join(h.work, "config.toml"))
}

func (h *deltaHub) worker() *process {
	h.t.Helper()
	return start(h.t, "hub", "delta-worker", "--hub", h.url, "--token-file", h.farmFile, "--dir", filepath.Join(h.work, "worker"))
}

// publish publishes the next version.
func (h *deltaHub) publish() {
	h.t.Helper()
	h.version++
	app := filepath.Join(h.work, fmt.Sprint("app", h.version))
	writeApp(h.t, app, h.version)
	run(h.t, "push", "--hub", h.url, "--token-file", h.tokenFile, "--repo", "stable", app)
}

func (h *deltaHub) repo() string { return filepath.Join(h.dir, "repos", "stable") }

func (h *deltaHub) head() ostree.Checksum {
	h.t.Helper()
	data, err := os.ReadFile(filepath.Join(h.repo(), "refs", "heads", filepath.FromSlash(killedRef)))
	if err != nil {
		h.t.Fatal(err)
	}
	sum, err := ostree.ParseChecksum(strings.TrimSpace(string(data)))
	if err != nil {
		h.t.Fatal(err)
	}
	return sum
}

// deltas are those that clients find for a commit, each carried out as a client
// would.
func (h *deltaHub) deltas(to ostree.Checksum) map[ostree.DeltaName]bool {
	h.t.Helper()
	found := map[ostree.DeltaName]bool{}
	data, err := os.ReadFile(filepath.Join(h.repo(), filepath.FromSlash(ostree.DeltaIndexPath(to))))
	if err != nil {
		return found
	}
	index, err := ostree.ParseDeltaIndex(data)
	if err != nil {
		h.t.Fatal(err)
	}
	repo, err := ostree.OpenRepo(os.DirFS(h.repo()))
	if err != nil {
		h.t.Fatal(err)
	}
	for _, d := range index.Deltas {
		head, err := os.ReadFile(filepath.Join(h.repo(), filepath.FromSlash(d.Name.SuperblockPath())))
		if err != nil {
			h.t.Fatal(err)
		}
		block, err := ostree.ParseSuperblock(head)
		if err != nil || ostree.ChecksumOf(head) != d.Superblock {
			h.t.Fatalf("superblock of %s is not the one that is listed: %v", d.Name.Hex(), err)
		}
		err = delta.Verify(h.t.Context(), repo, block, func(part int) (io.ReadCloser, error) {
			return os.Open(filepath.Join(h.repo(), filepath.FromSlash(d.Name.PartPath(part))))
		}, "")
		if err != nil {
			h.t.Fatal(err)
		}
		found[d.Name] = true
	}
	return found
}

func (h *deltaHub) waitDeltas(to ostree.Checksum, n int) map[ostree.DeltaName]bool {
	h.t.Helper()
	for deadline := time.Now().Add(patience); ; <-time.After(20 * time.Millisecond) {
		if found := h.deltas(to); len(found) == n {
			return found
		} else if time.Now().After(deadline) {
			h.t.Fatalf("deltas to %s: %d, want %d", to, len(found), n)
		}
	}
}

// Worker and hub are killed in turn while deltas are made. What clients find is whole
// at every moment, the queue goes on after each start, and the real ostree takes
// what was published.
func TestKillDeltaWorker(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree", "xz")
	h := newDeltaHub(t)
	worker := h.worker()
	random := rand.New(rand.NewPCG(4, 5))
	rounds := min(kills(t), 12)
	for i := range rounds {
		h.publish()
		<-time.After(time.Duration(random.Int64N(int64(100 * time.Millisecond))))
		h.deltas(h.head())
		if i%2 == 0 {
			worker.kill()
			worker = h.worker()
		} else {
			h.kill()
			h.deltas(h.head())
			h.start()
		}
		h.waitDeltas(h.head(), min(h.version, 2))
	}
	last := h.head()
	worker.stop(syscall.SIGTERM)
	h.stop(syscall.SIGTERM)
	noTemporaryFiles(t, h.dir)
	// A worker keeps for a time what it has made and does not know to be taken: one delta
	// at most each time that the hub was killed, or the worker itself.
	if left, err := os.ReadDir(filepath.Join(h.work, "worker", "made")); err != nil || len(left) > rounds {
		t.Errorf("left in the worker: %v %v", left, err)
	}
	applyOffline(t, h, last)
}

// applyOffline has the real ostree show and apply the deltas to a commit and to the
// one before it.
func applyOffline(t *testing.T, h *deltaHub, last ostree.Checksum) {
	t.Helper()
	user := newClient(t)
	repo, err := ostree.OpenRepo(os.DirFS(h.repo()))
	if err != nil {
		t.Fatal(err)
	}
	commit, err := repo.Commit(last)
	if err != nil {
		t.Fatal(err)
	}
	target := "--repo=" + filepath.Join(user.home, "target")
	user.run("ostree", target, "init", "--mode=bare-user")
	for _, name := range []ostree.DeltaName{{To: commit.Parent}, {From: commit.Parent, To: last}} {
		shown := user.run("ostree", "static-delta", "show", "--repo="+h.repo(), name.Hex())
		if !strings.Contains(shown, "To: "+name.To.String()) || !strings.Contains(shown, "Number of parts: 1") {
			t.Errorf("static-delta show %s:\n%s", name.Hex(), shown)
		}
		user.run("ostree", "static-delta", "apply-offline", target, filepath.Join(h.repo(), filepath.FromSlash(name.Dir())))
		user.run("ostree", target, "fsck", "--quiet")
		if out := user.run("ostree", target, "show", name.To.String()); !strings.Contains(out, name.To.String()) {
			t.Errorf("after apply-offline of %s:\n%s", name.Hex(), out)
		}
	}
	user.run("ostree", target, "checkout", "--user-mode", last.String(), filepath.Join(user.home, "tree"))
	content, err := os.ReadFile(filepath.Join(user.home, "tree", "files", "data", "0"))
	if want := fmt.Sprintf("version %d file 0 ", h.version); err != nil || !bytes.HasPrefix(content, []byte(want)) {
		t.Errorf("content %.30q, want %q: %v", content, want, err)
	}
	// ostree verifies what is signed as a file of its own, which the deltas of flatpak
	// repositories are not: their commits are.
	superblock := filepath.Join(h.repo(), filepath.FromSlash(ostree.DeltaName{To: last}.SuperblockPath()))
	if out, err := user.try("ostree", "static-delta", "verify", "--repo="+h.repo(), superblock); err == nil {
		t.Errorf("static-delta verify takes a delta without a signature of its own:\n%s", out)
	}
}

// A worker as flat-manager has them, with the real ostree and flatpak, makes deltas.
func TestOldDeltaWorker(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree", "flatpak")
	h := newDeltaHub(t)
	h.publish()
	before := h.head()
	user := newClient(t)
	mine := filepath.Join(user.home, "delta-repo")
	user.run("ostree", "--repo="+mine, "init", "--mode=bare-user")
	user.run("ostree", "--repo="+mine, "remote", "add", "--no-gpg-verify", "upstream", "http://unused.invalid")
	token, err := os.ReadFile(h.farmFile)
	if err != nil {
		t.Fatal(err)
	}
	bearer := "Bearer " + strings.TrimSpace(string(token))
	conn, _, err := websocket.Dial(t.Context(), strings.Replace(h.url, "http", "ws", 1)+"/api/v1/delta/worker",
		&websocket.DialOptions{HTTPHeader: http.Header{"Authorization": {bearer}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	say := func(text string) {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	say(`{"Register":{"capacity":1}}`)
	serve := func() {
		_, data, err := conn.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var request struct {
			RequestDelta struct {
				ID    int
				URL   string
				Delta struct{ From, To *string }
			}
		}
		if err := json.Unmarshal(data, &request); err != nil {
			t.Fatal(err)
		}
		r := request.RequestDelta
		args := []string{"build-update-repo", "--no-update-summary", "--no-update-appstream", "--generate-static-delta-to=" + *r.Delta.To}
		name := *r.Delta.To
		for _, commit := range []*string{r.Delta.From, r.Delta.To} {
			if commit != nil {
				user.run("ostree", "--repo="+mine, "pull", "--url="+r.URL, "upstream", *commit)
			}
		}
		if r.Delta.From != nil {
			args = append(args, "--generate-static-delta-from="+*r.Delta.From)
			name = *r.Delta.From + "-" + name
		}
		user.run("flatpak", append(args, mine)...)
		parsed, err := ostree.ParseDeltaHex(name)
		if err != nil {
			t.Fatal(err)
		}
		uploadOld(t, h.url+"/api/v1/delta/upload/stable", bearer, parsed, filepath.Join(mine, filepath.FromSlash(parsed.Dir())))
		say(fmt.Sprintf(`{"Finished":{"id":%d,"errmsg":null}}`, r.ID))
	}
	serve()
	h.waitDeltas(before, 1)
	h.publish()
	serve()
	serve()
	if found := h.waitDeltas(h.head(), 2); !found[ostree.DeltaName{From: before, To: h.head()}] {
		t.Errorf("deltas %v", found)
	}
}

// uploadOld sends the files of a delta in one form.
func uploadOld(t *testing.T, url, bearer string, name ostree.DeltaName, dir string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		w, _ := form.CreateFormFile("content", name.String()+"."+f.Name()+".delta") // a buffer does not fail
		_, _ = w.Write(content)
	}
	_ = form.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, &body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", form.FormDataContentType())
	request.Header.Set("Authorization", bearer)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if answer, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("upload: %s %s", response.Status, answer)
	}
}
