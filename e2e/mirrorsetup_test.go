package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// A fresh box becomes a mirror by one command, carries what its director desires within
// seconds, and goes on with that while the director is away.
func TestMirrorSetup(t *testing.T) {
	parallel(t)
	eco := dnfRepository()
	peertest.Require(t, eco.programs...)
	upstream := t.TempDir()
	publish := eco.publisher(t, upstream)
	if err := publish(1); err != nil {
		t.Fatal(err)
	}
	url := rsynctest.Serve(t, upstream)
	key, err := os.ReadFile(filepath.Join(upstream, "key.asc"))
	if err != nil {
		t.Fatal(err)
	}

	dir := t.TempDir()
	control, token := freeAddr(t), filepath.Join(dir, "boss.token")
	config := filepath.Join(dir, "director.toml")
	clients := run(t, "director", "token", "boss", "--out", token)
	if err := os.WriteFile(config, []byte(fmt.Sprintf("[admin]\nlisten = %q\n[director]\nstate = %q\nlisten = %q\nno-probes = true\nno-scans = true\n%s",
		control, filepath.Join(dir, "state"), freeAddr(t), clients)), 0o600); err != nil {
		t.Fatal(err)
	}
	director := start(t, "director", "-c", config)
	director.waitReady(control)
	boss := func(args ...string) string {
		t.Helper()
		return run(t, append(args, "--admin", control, "--token-file", token)...)
	}
	boss("director", "site", "add", "home", "country=DE")
	boss("director", "mirror", "add", "box7", "site=home")
	project := fmt.Sprintf("kind = \"rpm\"\nupstreams = [%q]\nschedule = \"every 1h\"\nkeys = [\"mine\"]\n", url)
	desire := func(settings string) {
		t.Helper()
		file := filepath.Join(dir, "box7.toml")
		if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		boss("director", "desired", "set", "box7", "--file", file)
	}
	keys := fmt.Sprintf("[mirror.limits]\nreserve = \"1MB\"\n[mirror.keys]\nmine = '''\n%s'''\n", key)
	desire(keys + "[mirror.projects.p]\n" + project)
	claim := strings.TrimSpace(boss("director", "mirror", "claim", "box7"))

	box := filepath.Join(dir, "box")
	listen, admin := freeAddr(t), freeAddr(t)
	setup := []string{"mirror", "setup", claim, "--directory", filepath.Join(box, "data"), "--config", filepath.Join(box, "etc", "mirror.toml"), "--listen", listen, "--admin", admin, "--any-rsync"}
	dry := run(t, append(setup, "--dry-run")...)
	if _, err := os.Stat(box); err == nil || !strings.Contains(dry, "[mirror.desired]") {
		t.Errorf("a dry run writes something, or does not say what it would: %s", dry)
	}
	run(t, setup...)
	run(t, setup...) // again: the same box
	second := append([]string(nil), setup...)
	second[6] = filepath.Join(dir, "thief", "mirror.toml")
	second[4] = filepath.Join(dir, "thief", "data")
	if _, stderr, err := tryRun(t, second...); err == nil || !strings.Contains(stderr, "another box") {
		t.Errorf("a second box with the claim: %v, %s", err, stderr)
	}

	mirror := start(t, "mirror", "-c", filepath.Join(box, "etc", "mirror.toml"))
	mirror.waitReady(admin)
	arrives := func(project string, version int) {
		t.Helper()
		eventually(t, project+" is installed", promised(time.Minute), func() error {
			got, err := eco.install(newClient(t), "http://"+listen+"/"+project+"/", upstream)
			if err == nil && got != fmt.Sprintf("version %d", version) {
				err = fmt.Errorf("got %q", got)
			}
			return err
		})
	}
	arrives("p", 1)
	ops := []string{"--admin", admin, "--token-file", filepath.Join(box, "etc", "mirror-ops.token")}

	// Another project is served, and the one before is not, soon after that is desired.
	desire(keys + "[mirror.projects.q]\n" + project)
	arrives("q", 1)
	gone := func(path string) error {
		resp, err := http.Get("http://" + listen + path)
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	}
	eventually(t, "p is gone", promised(10*time.Second), func() error { return gone("/p/repodata/repomd.xml") })
	eventually(t, "the director knows", promised(10*time.Second), func() error {
		if list := boss("director", "desired", "list"); !strings.Contains(list, "up to date") {
			return fmt.Errorf("%s", list)
		}
		return nil
	})

	// What it cannot take, it says, and goes on.
	desire("[mirror.limits]\nreserve = \"1MB\"\n[mirror.projects.q]\nkind = \"ostree\"\nupstreams = [\"https://upstream.example/\"]\nhot-set = \"900TB\"\n")
	eventually(t, "the director knows why", promised(10*time.Second), func() error {
		if list := boss("director", "desired", "list"); !strings.Contains(list, "does not fit") {
			return fmt.Errorf("%s", list)
		}
		return nil
	})
	if out, _, err := tryRun(t, append([]string{"mirror", "doctor"}, ops...)...); err == nil || !strings.Contains(out, "does not fit") {
		t.Errorf("doctor: %v, %s", err, out)
	}
	arrives("q", 1)

	// Without the director it starts again with what it had.
	director.stop(syscall.SIGTERM)
	mirror.kill()
	mirror = start(t, "mirror", "-c", filepath.Join(box, "etc", "mirror.toml"))
	mirror.waitReady(admin)
	if err := publish(2); err != nil {
		t.Fatal(err)
	}
	run(t, append([]string{"mirror", "sync", "q"}, ops...)...)
	arrives("q", 2)
	if err := gone("/p/repodata/repomd.xml"); err != nil {
		t.Error(err)
	}
}
