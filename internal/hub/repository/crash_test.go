package repository

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/ostree"
)

// crashEnv makes the test binary the process that is killed.
const crashEnv = "FRESHET_TEST_CRASH_DIR"

const (
	crashID  = "org.test.Hello"
	crashKey = "crash-key.asc"
)

// record is what the child's database has of a publish.
type record struct {
	Keys []string
	Head string
}

// TestCrashChild publishes version after version until it is killed. It is no
// test by itself.
func TestCrashChild(t *testing.T) {
	dir := os.Getenv(crashEnv)
	if dir == "" {
		t.Skip("it is run by TestKill")
	}
	h := newHubIn(t, dir, crashOptions(t, dir))
	database, err := os.OpenFile(filepath.Join(dir, "database"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	h.next = time.Now().UnixNano()
	for version := 0; ; version++ {
		u := uploader{}
		content := appTree(crashID, fmt.Sprintf("v%d", h.next))
		for i := range 20 { // more than the store syncs one by one
			content[fmt.Sprintf("files/share/new/%d", i)] = fmt.Sprintf("%d of %d", i, h.next)
		}
		sum := u.commit(t, appRef(crashID), content)
		request := h.commit(u, map[string]string{appRef(crashID): sum})
		_, err := h.repo.Publish(t.Context(), []PublishRequest{request}, os.Stdout, func(result Result) error {
			line, err := json.Marshal(record{result.Keys, result.Refs[request.Key][appRef(crashID)]})
			if err == nil {
				_, err = database.Write(append(line, '\n'))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := request.Build.Remove(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}

func crashOptions(t testing.TB, dir string) func(*Options) {
	t.Helper()
	return func(o *Options) {
		o.Signer = openSigner(t, filepath.Join(dir, crashKey))
		o.BaseURL = "https://dl.example.org/repo"
	}
}

// TestKill kills a publishing process at random moments. Whatever it was doing,
// the next start finds the state before or after, and says so.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	openSigner(t, filepath.Join(dir, crashKey))
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	if text := os.Getenv("FRESHET_KILLS"); text != "" {
		var err error
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	known := map[string]bool{} // heads that the child's database, or a pending result, told of
	published, pendings := 0, 0
	for round := range rounds {
		killChild(t, dir)
		keys := readDatabase(t, dir, known)

		h := &hub{t: t, dir: dir, cache: memoryCache{}}
		h.opt = Options{
			Name: "stable", Dir: filepath.Join(dir, "repos", "stable"), BuildsDir: filepath.Join(dir, "builds"),
			CollectionID: "org.test.Stable", Title: "Test repository",
		}
		crashOptions(t, dir)(&h.opt)
		repo, pending, err := Open(t.Context(), h.opt, h.cache)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		h.repo = repo
		for _, p := range pending {
			if slices.ContainsFunc(p.Keys, func(key string) bool { return strings.HasPrefix(key, "refresh-") }) {
				continue
			}
			pendings++
			for _, key := range p.Keys {
				if head := p.Refs[key][appRef(crashID)]; !keys[key] {
					known[head] = true
				}
			}
			if err := p.Confirm(); err != nil {
				t.Error(err)
			}
		}
		sum, err := h.objects().ResolveRef(appRef(crashID))
		switch {
		case err == nil:
			published++
			if !known[sum.String()] {
				t.Errorf("round %d: %s is published and nobody was told", round, sum)
			}
		case len(keys) > 0:
			t.Errorf("round %d: %v, although %d publishes were recorded", round, err, len(keys))
		}
		h.check()
		checkSignatures(t, h)
		if err == nil {
			ownFsck(t, h.opt.Dir)
		}
		if round%5 == 4 {
			fsckIfThere(t, h.opt.Dir)
		}
		h.close()
		// What was uploaded is purged, as the hub does for failed builds.
		if err := os.RemoveAll(h.opt.BuildsDir); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("killed %d times: %d times something was published, %d publishes were pending", rounds, published, pendings)
	if published == 0 {
		t.Error("nothing was ever published")
	}
}

// killChild runs the child until a random moment of one of its publishes.
func killChild(t *testing.T, dir string) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$", "-test.v")
	child.Env = append(os.Environ(), crashEnv+"="+dir)
	var stderr bytes.Buffer
	child.Stderr = &stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for left := rand.IntN(12); lines.Scan(); left-- {
		if left <= 0 && strings.HasPrefix(lines.Text(), "Publishing") {
			break
		}
		if strings.HasPrefix(lines.Text(), "---") {
			t.Errorf("the child ended: %s", stderr.String())
		}
	}
	<-time.After(time.Duration(rand.IntN(15_000)) * time.Microsecond) // somewhere on the way
	if err := child.Process.Kill(); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, out)
	var exit *exec.ExitError
	if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL { //nolint:forcetypeassert // it is one here
		t.Errorf("the child was not killed: %v %s", err, stderr.String())
	}
}

// readDatabase returns the keys that the child recorded.
func readDatabase(t *testing.T, dir string, known map[string]bool) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "database"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	keys := map[string]bool{}
	for line := range bytes.Lines(data) {
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		for _, key := range r.Keys {
			keys[key] = true
		}
		known[r.Head] = true
	}
	return keys
}

// checkSignatures demands that every pointer and every head is signed.
func checkSignatures(t *testing.T, h *hub) {
	t.Helper()
	keys, err := h.opt.Signer.PublicKeys()
	if err != nil {
		t.Fatal(err)
	}
	check := func(file, signature string) {
		t.Helper()
		if err := verify(keys, readFile(t, filepath.Join(h.opt.Dir, file)), readFile(t, filepath.Join(h.opt.Dir, signature))); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	check("summary", "summary.sig")
	check("summary.idx", "summary.idx.sig")
	refs, err := h.objects().ListRefs()
	if err != nil {
		t.Fatal(err)
	}
	for _, sum := range refs {
		check(commitName(sum).Path(), commitMetaName(sum).Path())
	}
	index, err := ostree.ParseSummaryIndex([]byte(readFile(t, h.opt.Dir+"/summary.idx")))
	if err != nil {
		t.Fatal(err)
	}
	digest := ostree.ChecksumOf([]byte(readFile(t, h.opt.Dir+"/summary.idx")))
	check("summary.idx", ostree.SummaryIndexSignaturePath(digest))
	for _, s := range index.Subsummaries {
		if _, err := os.Stat(filepath.Join(h.opt.Dir, ostree.SubsummaryPath(s.Checksum))); err != nil {
			t.Error(err)
		}
	}
}
