package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// mirrorKillsEnv is how often a mirror is killed while it syncs, for each ecosystem.
const mirrorKillsEnv = "FRESHET_MIRROR_KILLS"

// The real clients install from a mirror again and again while it syncs from a real rsync
// daemon and is killed in the middle of it: each install that the mirror was there for
// works, and none brings back an older version.
func TestMirrorClients(t *testing.T) {
	parallel(t)
	kills := 2
	if text := os.Getenv(mirrorKillsEnv); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		eco        ecosystem
		kind, more string
	}{
		{dnfRepository(), "rpm", `keys = ["KEY"]`},
		{zypperRepository(), "rpm", ""},
		{aptRepository(), "deb", `keys = ["KEY"]`},
		{pacmanRepository(), "arch", `repositories = ["mine.db"]`},
		{ostreeRepository(), "ostree", ""},
		{flatpakRepository(), "ostree", ""},
	} {
		t.Run(c.eco.name, func(t *testing.T) {
			peertest.Require(t, append(c.eco.programs, "rsync")...)
			t.Parallel()
			mirrorClients(t, c.eco, c.kind, c.more, kills)
		})
	}
}

func mirrorClients(t *testing.T, eco ecosystem, kind, more string, kills int) {
	dir := t.TempDir()
	publish := eco.publisher(t, dir)
	if err := publish(1); err != nil {
		t.Fatal(err)
	}
	url := rsynctest.Serve(t, dir)
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "rsync://"), "/m/")
	up := startTap(t, addr)
	b := startBox(t, kind, "rsync://"+up.ln.Addr().String()+"/m/", strings.ReplaceAll(more, "KEY", dir+"/key.asc"))
	up.hit = b.kill
	up.at.Store(1 << 62)
	b.mustSync("published", "")
	whole := up.passed.Load()

	ctx, cancel := context.WithCancel(t.Context())
	var user sync.WaitGroup
	user.Go(func() { installs(ctx, t, eco, b, dir) })
	defer user.Wait()
	defer cancel()
	random := rand.New(rand.NewPCG(1, 1))
	version := 1
	for range kills {
		version++
		if err := publish(version); err != nil {
			t.Fatal(err)
		}
		up.passed.Store(0)
		up.at.Store(1 + random.Int64N(whole))
		_, err := b.sync()
		up.at.Store(0)
		t.Logf("version %d, the process ends: %v", version, err != nil)
		b.kill()
		b.start()
		if m, err := b.sync(); err != nil || m.Report.Result != "published" && m.Report.Result != "unchanged" {
			t.Errorf("after it was killed: %+v, %v", m, err)
		}
	}
	cancel()
	user.Wait()
	// Just after a switch an address of which somebody has read a pointer stays with it.
	for by := time.Now().Add(time.Minute); ; {
		got, err := eco.install(newClient(t), "http://"+b.listen+"/p/", dir)
		if err != nil {
			t.Errorf("at last: %q, want version %d; %v", got, version, err)
		}
		if err != nil || got == fmt.Sprintf("version %d", version) {
			break
		}
		if time.Now().After(by) {
			t.Errorf("at last: %q, want version %d", got, version)
			break
		}
	}
}

// installs installs again and again, until ctx ends.
func installs(ctx context.Context, t *testing.T, eco ecosystem, b *boxed, keys string) {
	user := newClient(t)
	before, done := 0, 0
	for ctx.Err() == nil {
		began := b.now()
		got, err := eco.install(user, "http://"+b.listen+"/p/", keys)
		if b.now() != began || began%2 == 0 {
			if began%2 == 0 {
				user = newClient(t) // an interrupted one may leave locks behind
				before = 0
			}
			continue
		}
		var version int
		if _, scanned := fmt.Sscanf(got, "version %d", &version); err != nil || scanned != nil || version < before {
			t.Errorf("%s has %q after version %d: %v", eco.name, got, before, errors.Join(err, scanned))
			return
		}
		before = version
		done++
	}
	t.Logf("%d installs", done)
}

// A new version appears while clients hold the index of the one before: all that it names
// is there until the grace time is over, and then its space is free. What the upstream
// takes back, or offers in two versions at once, is not published.
func TestMirrorRefuses(t *testing.T) {
	parallel(t)
	peertest.Require(t, "rpmbuild", "createrepo_c", "gpg", "rsync")
	dir := t.TempDir()
	publish := publishRPM(t, dir)
	for v := 1; v <= 2; v++ {
		if err := publish(v); err != nil {
			t.Fatal(err)
		}
	}
	b := startBox(t, "rpm", rsynctest.Serve(t, dir), fmt.Sprintf("keys = [%q]", dir+"/key.asc"))
	b.mustSync("published", "")
	b.mustSync("unchanged", "")
	base := "http://" + b.listen + "/p"
	served := func(version, status int) {
		t.Helper()
		get(t, base+rpmFile(version), status)
	}
	repomd := string(get(t, base+"/repodata/repomd.xml", 200))

	// The package before is gone upstream.
	if err := os.Remove(dir + rpmFile(1)); err != nil {
		t.Fatal(err)
	}
	if err := publish(3); err != nil {
		t.Fatal(err)
	}
	b.mustSync("published", "")
	for version, status := range map[int]int{1: 200, 2: 200, 3: 200} {
		served(version, status)
	}

	// An index that names what is not there; the alert names repository and path.
	next := publishedAnew(t, dir, publish, 4)
	away := t.TempDir() + rpmFile(4)
	if err := os.Rename(dir+rpmFile(4), away); err != nil {
		t.Fatal(err)
	}
	m := b.mustSync("failed", "upstream_inconsistent")
	if !strings.Contains(m.Report.Message, "repodata/repomd.xml names") || !strings.Contains(m.Report.Message, rpmFile(4)[1:]) {
		t.Errorf("it is told so: %s", m.Report.Message)
	}
	served(4, 404)
	if now := string(get(t, base+"/repodata/repomd.xml", 200)); now == repomd || now == next {
		t.Error("the index is not that of the version that is served")
	}
	if err := os.Rename(away, dir+rpmFile(4)); err != nil {
		t.Fatal(err)
	}

	// Signed by nobody.
	asc, err := os.ReadFile(dir + "/repodata/repomd.xml.asc")
	if err != nil {
		t.Fatal(err)
	}
	flipped := strings.Replace(next, "<revision>", "<revision>9", 1)
	writeAnew(t, dir+"/repodata/repomd.xml", flipped)
	b.mustSync("refused", "bad_signature")
	writeAnew(t, dir+"/repodata/repomd.xml", next)
	writeAnew(t, dir+"/repodata/repomd.xml.asc", string(asc))
	b.mustSync("published", "")
	served(4, 200)

	// The grace time is over.
	b.kill()
	text, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	writeAnew(t, b.config, strings.Replace(string(text), `schedule = "never"`, "schedule = \"never\"\ngrace = \"1ms\"", 1))
	if err := os.Chmod(b.config, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	eventually(t, "the old package goes", patience, func() error {
		gone, err := filepath.Glob(b.data + "/projects/p/generations/*")
		if err == nil && len(gone) > 1 {
			err = fmt.Errorf("there are %q", gone)
		}
		return err
	})
	served(1, 404)
	served(4, 200)
}

// publishedAnew publishes, in another second than anything before, and returns the
// pointer.
func publishedAnew(t *testing.T, dir string, publish func(int) error, version int) string {
	t.Helper()
	if err := publish(version); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(dir + "/repodata/repomd.xml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// writeAnew replaces a file, with a time of its own.
func writeAnew(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name+".new", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	when := time.Now().Add(-time.Duration(len(text)) * time.Hour).Truncate(time.Second)
	if err := os.Chtimes(name+".new", when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}
