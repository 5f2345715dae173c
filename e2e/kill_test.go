package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/ostree"
	"freshet/internal/peertest"
)

// killsEnv is how often each server is killed; 30 times without it.
const killsEnv = "FRESHET_KILLS"

func kills(t *testing.T) int {
	t.Helper()
	if testing.Short() {
		return 3
	}
	text := os.Getenv(killsEnv)
	if text == "" {
		return 30
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s: %q", killsEnv, text)
	}
	return n
}

// writeApp writes a repository with one app whose every file says the version.
func writeApp(t *testing.T, dir string, version int) {
	t.Helper()
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	meta := flatpak.Metadata{Kind: flatpak.App, Name: killedApp, Runtime: "org.example.Platform/x86_64/stable", SDK: "org.example.Sdk/x86_64/stable", Command: "app"}
	noise := rand.New(rand.NewPCG(1, uint64(version)))
	var files []archive.File
	for i := range 20 {
		content := fmt.Appendf(nil, "version %d file %d ", version, i)
		for range 2000 {
			content = append(content, byte(noise.IntN(256)))
		}
		files = append(files, archive.File{Path: fmt.Sprintf("files/data/%d", i), Content: content})
	}
	if err := repo.CommitFlatpak(killedRef, meta, files, nil, time.Unix(int64(1_700_000_000+version), 0)); err != nil {
		t.Fatal(err)
	}
}

const (
	killedApp = "org.example.Killed"
	killedRef = "app/" + killedApp + "/x86_64/stable"
)

// The hub is killed at random moments while builds are pushed and published
// and while a reader downloads. After each start the repository is whole, old
// or new; nothing temporary is left; and a repeated push succeeds.
func TestKillHub(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree")
	work := t.TempDir()
	dir := filepath.Join(work, "hub")
	addr := freeAddr(t)
	hub := startHub(t, dir, addr, "")
	tokenFile := filepath.Join(work, "token")
	if err := os.WriteFile(tokenFile, []byte(hub.token), 0o600); err != nil {
		t.Fatal(err)
	}
	app, tree := filepath.Join(work, "app"), filepath.Join(work, "tree")
	url := hub.url
	pushBoth := func() error {
		if out, errOut, err := tryRun(t, "push", "--hub", url, "--token-file", tokenFile, "--repo", "stable", app); err != nil {
			return fmt.Errorf("push of the app: %w\n%s%s", err, out, errOut)
		}
		if out, errOut, err := tryRun(t, "push", "--hub", url, "--token-file", tokenFile, "--tree", "files", tree); err != nil {
			return fmt.Errorf("push of the tree: %w\n%s%s", err, out, errOut)
		}
		return nil
	}
	writeVersion := func(version int) {
		writeApp(t, app, version)
		writeKilledTree(t, tree, version)
	}
	writeVersion(1)
	begin := time.Now()
	if err := pushBoth(); err != nil {
		t.Fatal(err)
	}
	took := time.Since(begin)

	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	problems := make(chan error, 100)
	readers.Go(func() { readForever(ctx, hub.url, problems) })

	user := newClient(t)
	random := rand.New(rand.NewPCG(2, 3))
	for i := range kills(t) {
		version := i + 2
		writeVersion(version)
		pushed := make(chan error, 1)
		go func() { pushed <- pushBoth() }()
		<-time.After(time.Duration(random.Int64N(int64(took) * 5 / 4)))
		hub.kill()
		hub = startHub(t, dir, addr, "") // the push goes on: it retries while the hub is away
		if err := <-pushed; err != nil {
			if err = pushBoth(); err != nil { // it may have given up; a repetition must do
				t.Fatalf("kill %d: %v", i, err)
			}
		}
		user.run("ostree", "fsck", "--quiet", "--repo="+filepath.Join(dir, "repos", "stable"))
		run(t, "hub", "fsck", filepath.Join(dir, "repos", "stable"))
		if got, err := readVersion(ctx, hub.url); err != nil || got != version {
			t.Fatalf("kill %d: version %d, want %d: %v", i, got, version, err)
		}
		if body := string(get(t, hub.url+"/tree/files/index", 200)); body != fmt.Sprintf("data-%d\n", version) {
			t.Fatalf("kill %d: tree index %q, want version %d", i, body, version)
		}
	}
	cancel()
	readers.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
	hub.kill()
	hub = startHub(t, dir, addr, "")
	hub.stop(syscall.SIGTERM)
	noTemporaryFiles(t, dir)
}

// writeKilledTree writes a tree whose index names the one data file of the
// version.
func writeKilledTree(t *testing.T, dir string, version int) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	data := fmt.Sprintf("data-%d", version)
	content := bytes.Repeat([]byte(data+"\n"), 50_000)
	if err := os.WriteFile(filepath.Join(dir, data), content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index"), []byte(data+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readForever follows the pointers down to the payload until ctx ends. That
// the server is away is no problem; an answer that does not fit is.
func readForever(ctx context.Context, base string, problems chan<- error) {
	for ctx.Err() == nil {
		_, err := readVersion(ctx, base)
		if wrong, ok := errors.AsType[*inconsistent](err); ok {
			select {
			case problems <- wrong:
			default:
			}
		}
		if err == nil {
			err = readTree(ctx, base)
			if wrong, ok := errors.AsType[*inconsistent](err); ok {
				select {
				case problems <- wrong:
				default:
				}
			}
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// inconsistent is an answer that no client may see.
type inconsistent struct{ what string }

func (i *inconsistent) Error() string { return i.what }

// fetch gets a URL. Status 404 for something a pointer names is inconsistent;
// a cut connection or a 5xx while the server is killed is not.
func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
		return body, nil
	case resp.StatusCode < 500:
		return nil, &inconsistent{fmt.Sprintf("GET %s: %s: %s", url, resp.Status, body)}
	default:
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
}

// readVersion reads as flatpak does: summary.idx, the signature named by its
// digest, the subsummary it names, the commit of the app in it, and of its tree
// every object. It returns the version that all files agree on.
func readVersion(ctx context.Context, base string) (int, error) {
	repo := base + "/repo/stable/"
	idx, err := fetch(ctx, repo+"summary.idx")
	if err != nil {
		return 0, err
	}
	digest := sha256.Sum256(idx)
	if _, err := fetch(ctx, repo+"summaries/"+hex.EncodeToString(digest[:])+".idx.sig"); err != nil {
		return 0, err
	}
	index, err := ostree.ParseSummaryIndex(idx)
	if err != nil {
		return 0, &inconsistent{"summary.idx: " + err.Error()}
	}
	for _, sub := range index.Subsummaries {
		if sub.Name != "x86_64" {
			continue
		}
		packed, err := fetch(ctx, repo+"summaries/"+sub.Checksum.String()+".gz")
		if err != nil {
			return 0, err
		}
		commit, err := commitOf(packed, sub.Checksum)
		if err != nil {
			return 0, err
		}
		return readCommit(ctx, repo, commit)
	}
	return 0, errors.New("nothing is published yet")
}

func commitOf(packed []byte, digest ostree.Checksum) (ostree.Checksum, error) {
	unzip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return ostree.Checksum{}, &inconsistent{"subsummary: " + err.Error()}
	}
	text, err := io.ReadAll(unzip)
	if err != nil {
		return ostree.Checksum{}, &inconsistent{"subsummary: " + err.Error()}
	}
	if sha256.Sum256(text) != digest {
		return ostree.Checksum{}, &inconsistent{"subsummary does not match its name"}
	}
	summary, err := ostree.ParseSummary(text)
	if err != nil {
		return ostree.Checksum{}, &inconsistent{"subsummary: " + err.Error()}
	}
	for _, ref := range summary.Refs {
		if ref.Ref == killedRef {
			return ref.Commit, nil
		}
	}
	return ostree.Checksum{}, errors.New("the app is not published yet")
}

// object fetches an object and verifies it.
func object(ctx context.Context, repo string, name ostree.ObjectName) ([]byte, error) {
	body, err := fetch(ctx, repo+name.Path())
	if err != nil {
		return nil, err
	}
	if _, err := ostree.VerifyObject(name, bytes.NewReader(body)); err != nil {
		return nil, &inconsistent{err.Error()}
	}
	return body, nil
}

func readCommit(ctx context.Context, repo string, sum ostree.Checksum) (int, error) {
	body, err := object(ctx, repo, ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommit})
	if err != nil {
		return 0, err
	}
	if _, err := fetch(ctx, repo+ostree.ObjectName{Checksum: sum, Type: ostree.TypeCommitMeta}.Path()); err != nil {
		return 0, err
	}
	commit, err := ostree.ParseCommit(body)
	if err != nil {
		return 0, &inconsistent{err.Error()}
	}
	version := 0
	if err := readDir(ctx, repo, commit.Tree, &version); err != nil {
		return 0, err
	}
	return version, nil
}

func readDir(ctx context.Context, repo string, sum ostree.Checksum, version *int) error {
	body, err := object(ctx, repo, ostree.ObjectName{Checksum: sum, Type: ostree.TypeDirTree})
	if err != nil {
		return err
	}
	dir, err := ostree.ParseDirTree(body)
	if err != nil {
		return &inconsistent{err.Error()}
	}
	for _, f := range dir.Files {
		body, err := object(ctx, repo, ostree.ObjectName{Checksum: f.File, Type: ostree.TypeFile})
		if err != nil {
			return err
		}
		content, err := ostree.NewFilezReader(bytes.NewReader(body))
		if err != nil {
			return &inconsistent{err.Error()}
		}
		text, err := io.ReadAll(content)
		if err != nil {
			return &inconsistent{err.Error()}
		}
		var v, n int
		if _, err := fmt.Sscanf(string(text[:min(len(text), 40)]), "version %d file %d", &v, &n); err != nil {
			continue // metadata
		}
		if *version != 0 && v != *version {
			return &inconsistent{fmt.Sprintf("one commit has files of version %d and %d", *version, v)}
		}
		*version = v
	}
	for _, d := range dir.Dirs {
		if err := readDir(ctx, repo, d.Tree, version); err != nil {
			return err
		}
	}
	return nil
}

// readTree reads the index of the plain tree and the file it names.
func readTree(ctx context.Context, base string) error {
	index, err := fetch(ctx, base+"/tree/files/index")
	if err != nil {
		return err
	}
	name := strings.TrimSpace(string(index))
	body, err := fetch(ctx, base+"/tree/files/"+name)
	if err != nil {
		return err
	}
	if want := strings.Repeat(name+"\n", 50_000); string(body) != want {
		return &inconsistent{fmt.Sprintf("%s has %d bytes, want %d", name, len(body), len(want))}
	}
	return nil
}

// The edge is killed at random moments while clients read through it and the
// hub publishes. Whatever it serves fits together, before and after.
func TestKillEdge(t *testing.T) {
	parallel(t)
	work := t.TempDir()
	hub := startHub(t, filepath.Join(work, "hub"), "", "")
	tokenFile := filepath.Join(work, "token")
	if err := os.WriteFile(tokenFile, []byte(hub.token), 0o600); err != nil {
		t.Fatal(err)
	}
	app, tree := filepath.Join(work, "app"), filepath.Join(work, "tree")
	publish := func(version int) {
		writeApp(t, app, version)
		writeKilledTree(t, tree, version)
		run(t, "push", "--hub", hub.url, "--token-file", tokenFile, "--repo", "stable", app)
		run(t, "push", "--hub", hub.url, "--token-file", tokenFile, "--tree", "files", tree)
	}
	publish(1)
	store, addr := filepath.Join(work, "edge"), freeAddr(t)
	edge := startEdge(t, store, addr, hub.url)

	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	problems := make(chan error, 100)
	for range 4 {
		readers.Go(func() { readForever(ctx, edge.url, problems) })
	}
	random := rand.New(rand.NewPCG(4, 5))
	for i := range kills(t) {
		version := 1 + (i+1)/5
		if (i+1)%5 == 0 { // now and then a publish, while the edge is up or down
			published := make(chan struct{})
			go func() { defer close(published); publish(version) }()
			<-time.After(time.Duration(random.Int64N(int64(300 * time.Millisecond))))
			edge.kill()
			<-published
		} else {
			<-time.After(time.Duration(random.Int64N(int64(200 * time.Millisecond))))
			edge.kill()
		}
		edge = startEdge(t, store, addr, hub.url)
		eventually(t, fmt.Sprintf("kill %d: the edge serves version %d", i, version), promised(3*time.Second), func() error {
			got, err := readVersion(ctx, edge.url)
			if err == nil && got != version {
				err = fmt.Errorf("version %d", got)
			}
			return err
		})
	}
	cancel()
	readers.Wait()
	close(problems)
	for err := range problems {
		t.Error(err)
	}
	edge.stop(syscall.SIGTERM)
	noTemporaryFiles(t, store)
}
