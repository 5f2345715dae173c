package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// signedHub is a hub with keys outside of its process.
type signedHub struct {
	*hubServer
	t           *testing.T
	work        string
	config      string
	addr, token string
}

// startSignedHub starts a hub with the lines of configuration.
func startSignedHub(t *testing.T, work, lines string) *signedHub {
	t.Helper()
	h := &signedHub{t: t, work: work, config: filepath.Join(work, "hub.toml"), addr: freeAddr(t), token: filepath.Join(work, "token")}
	if err := os.WriteFile(h.config, []byte(fmt.Sprintf("[hub]\ndir = '%s'\n", filepath.Join(work, "hub"))+lines), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start()
	if err := os.WriteFile(h.token, []byte(h.hubServer.token), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *signedHub) start() {
	h.t.Helper()
	h.hubServer = startHub(h.t, filepath.Join(h.work, "hub"), h.addr, "", "--config", h.config)
}

// push pushes a version of an app, and tells its end.
func (h *signedHub) push(version int) chan error {
	h.t.Helper()
	app := filepath.Join(h.work, fmt.Sprintf("app%d", version))
	writeApp(h.t, app, version)
	pushed := make(chan error, 1)
	url := h.url
	go func() {
		out, errOut, err := tryRun(h.t, "push", "--hub", url, "--token-file", h.token, "--repo", "stable", app)
		if err != nil {
			err = fmt.Errorf("push of version %d: %w\n%s%s", version, err, out, errOut)
		}
		pushed <- err
	}()
	return pushed
}

// published waits for a push and for the version to be there.
func (h *signedHub) published(pushed chan error, version int) {
	h.t.Helper()
	select {
	case err := <-pushed:
		if err != nil {
			h.t.Fatal(err)
		}
	case <-time.After(3 * patience): // the hub may look for the key once a minute
		h.t.Fatalf("version %d is not pushed:\n%s", version, get(h.t, h.url+"/status", 200))
	}
	if got, err := readVersion(h.t.Context(), h.url); err != nil || got != version {
		h.t.Fatalf("version %d, %v, want %d", got, err, version)
	}
}

// waits waits until the hub says that it waits for the key, everywhere.
func (h *signedHub) waits(why string) {
	h.t.Helper()
	const metric = `freshet_hub_repo_waiting{reason="key",repo="stable"} 1`
	eventually(h.t, "the hub waits for the key", patience, func() error {
		status := string(get(h.t, h.url+"/status", 200))
		metrics := string(get(h.t, "http://"+h.admin+"/metrics", 200))
		switch {
		case !strings.Contains(status, "key: ") || !strings.Contains(status, why):
			return fmt.Errorf("status does not tell of %q:\n%s", why, status)
		case !strings.Contains(metrics, metric):
			return fmt.Errorf("no %s among the metrics", metric)
		}
		return nil
	})
}

// pullWith pulls the app with ostree, trusting the keys only.
func pullWith(t testing.TB, url, keys string) error {
	t.Helper()
	user := newClient(t)
	repo := filepath.Join(user.home, "repo")
	user.run("ostree", "init", "--repo="+repo, "--mode=archive")
	user.run("ostree", "--repo="+repo, "remote", "add", "--gpg-import="+keys, "--set=gpg-verify=true", "--set=gpg-verify-summary=true", "hub", url+"/repo/stable/")
	out, err := user.try("ostree", "--repo="+repo, "pull", "hub", killedRef)
	if err != nil {
		return fmt.Errorf("pull with %s: %w\n%s", filepath.Base(keys), err, out)
	}
	return nil
}

// gnupgHome is a GnuPG home with an agent.
type gnupgHome struct {
	t    testing.TB
	home string
}

func newGnuPGHome(t testing.TB) *gnupgHome {
	t.Helper()
	peertest.Require(t, "gpg", "gpgconf", "gpg-connect-agent")
	home, err := os.MkdirTemp("", "gpg-") //nolint:usetesting // the agent's socket has a name of limited length
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupgHome{t, home}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_ = exec.CommandContext(ctx, "gpgconf", "--homedir", home, "--kill", "all").Run()
		_ = os.RemoveAll(home)
	})
	return g
}

func (g *gnupgHome) run(name string, args ...string) string {
	g.t.Helper()
	return string(peertest.Run(g.t, "", []string{"GNUPGHOME=" + g.home}, name, args...))
}

// kill ends the agent at once.
func (g *gnupgHome) kill() {
	g.t.Helper()
	text, _, _ := strings.Cut(strings.TrimPrefix(g.run("gpg-connect-agent", "--no-autostart", "GETINFO pid", "/bye"), "D "), "\n")
	pid, err := strconv.Atoi(text)
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// A publish while the agent is away stays in the queue, through a kill -9 of
// the hub too, and goes on by itself when the agent is back. The same with an
// agent that has to be told the passphrase.
func TestHubWaitsForAgent(t *testing.T) {
	parallel(t)
	peertest.Require(t, "ostree")
	g := newGnuPGHome(t)
	conf := "allow-preset-passphrase\npinentry-program /bin/false\n"
	if err := os.WriteFile(filepath.Join(g.home, "gpg-agent.conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	g.run("gpg", "--batch", "--pinentry-mode", "loopback", "--passphrase", "secret", "--quick-generate-key", "Agent <agent@example.org>", "ed25519", "sign", "never")
	work := t.TempDir()
	public := filepath.Join(work, "release.gpg")
	g.run("gpg", "--batch", "--output", public, "--export")
	grip := strings.Split(g.run("gpg", "--batch", "--with-colons", "--with-keygrip", "--list-keys"), "\ngrp:::::::::")[1][:40]
	unlock := func() { g.run("gpg-connect-agent", "PRESET_PASSPHRASE "+grip+" -1 736563726574", "/bye") }
	socket := strings.TrimSpace(g.run("gpgconf", "--list-dirs", "agent-socket"))
	g.kill()

	// The hub starts without its key.
	hub := startSignedHub(t, work, fmt.Sprintf("gpg-keys = ['release']\n[hub.keys.release]\nfile = '%s'\nagent = '%s'\n", public, socket))
	hub.waits("gpg-agent is away")
	unlock() // starts it as well
	hub.published(hub.push(1), 1)
	if err := pullWith(t, hub.url, public); err != nil {
		t.Error(err)
	}
	if out := run(t, "hub", "keys", "--config", hub.config); !strings.Contains(out, "signs, in") {
		t.Errorf("hub keys:\n%s", out)
	}

	g.kill()
	second := hub.push(2)
	hub.waits("gpg-agent is away")
	select {
	case err := <-second:
		t.Fatalf("the push did not wait: %v", err)
	default:
	}
	if got, err := readVersion(t.Context(), hub.url); err != nil || got != 1 {
		t.Errorf("version %d, %v while it waits", got, err)
	}
	if out, _, err := tryRun(t, "hub", "keys", "--config", hub.config); err == nil || !strings.Contains(out, "away: ") {
		t.Errorf("hub keys: %v\n%s", err, out)
	}
	hub.kill()
	hub.start()
	hub.waits("gpg-agent is away")
	third := hub.push(3)
	g.run("gpg-connect-agent", "GETINFO version", "/bye") // it runs, and nobody has told it the passphrase
	hub.waits("gpg-agent says")
	unlock()
	if err := <-second; err != nil {
		t.Errorf("the push through the kill: %v", err)
	}
	hub.published(third, 3)
	if err := pullWith(t, hub.url, public); err != nil {
		t.Error(err)
	}
	metrics := string(get(t, "http://"+hub.admin+"/metrics", 200))
	if !strings.Contains(metrics, `freshet_hub_repo_waiting{reason="key",repo="stable"} 0`) || strings.Contains(metrics, `status="broken"`) {
		t.Error("the metrics tell of a wait, or of a broken job, still")
	}
}

const (
	softHSM    = "/usr/lib/softhsm/libsofthsm2.so"
	softHSMPIN = "123456"
)

// buildHelperOnce builds freshet-pkcs11 beside freshet.
var buildHelperOnce = sync.OnceValue(func() error {
	binary, err := buildOnce()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(filepath.Dir(binary), "freshet-pkcs11"), "freshet/cmd/freshet-pkcs11")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
})

// A hub with two keys in a PKCS #11 token: who trusts either of them can
// install. The token is unplugged while a build is pushed, and put back; then
// one key is taken out of service.
func TestHubWaitsForToken(t *testing.T) {
	peertest.Require(t, "ostree", "flatpak", "gpgv", "softhsm2-util", "pkcs11-tool", "cc")
	if err := buildHelperOnce(); err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	tokens := filepath.Join(work, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile := func(name, text string) string {
		path := filepath.Join(work, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("SOFTHSM2_CONF", writeFile("softhsm2.conf", "directories.tokendir = "+tokens+"\nlog.level = ERROR\n"))
	peertest.Run(t, "", nil, "softhsm2-util", "--init-token", "--free", "--label", "Releases", "--pin", softHSMPIN, "--so-pin", "12345678")
	pin := writeFile("pin", softHSMPIN+"\n")
	var tables string
	for id, key := range map[string]struct{ kind, label string }{"01": {"rsa:3072", "old"}, "02": {"EC:edwards25519", "new"}} {
		peertest.Run(t, "", nil, "pkcs11-tool", "--module", softHSM, "--login", "--pin", softHSMPIN, "--keypairgen", "--key-type", key.kind, "--label", key.label, "--id", id)
		uri := "pkcs11:token=Releases;object=" + key.label + "?module-path=" + softHSM
		certificate := filepath.Join(work, key.label+".asc")
		run(t, "hub", "keys", "certify", "--pkcs11", uri, "--passphrase-file", pin, "--user-id", key.label+" <"+key.label+"@example.org>", "--out", certificate)
		tables += fmt.Sprintf("[hub.keys.%s]\nfile = '%s'\npkcs11 = '%s'\npassphrase-file = '%s'\n", key.label, certificate, uri, pin)
	}
	hub := startSignedHub(t, work, "gpg-keys = ['old', 'new']\n"+tables)
	hub.published(hub.push(1), 1)
	trusted := func(labels ...string) {
		t.Helper()
		for _, label := range []string{"old", "new"} {
			err := pullWith(t, hub.url, filepath.Join(work, label+".asc"))
			if want := strings.Contains(strings.Join(labels, " "), label); want != (err == nil) {
				t.Errorf("trust in the %s key is enough: %v, want %v: %v", label, err == nil, want, err)
			}
		}
	}
	trusted("old", "new")
	if out := run(t, "hub", "keys", "--config", hub.config); strings.Count(out, "signs, in") != 2 || !strings.Contains(out, "rsa3072") || !strings.Contains(out, "ed25519") {
		t.Errorf("hub keys:\n%s", out)
	}

	unplugged := tokens + ".unplugged"
	unplug := func() {
		t.Helper()
		if err := os.Rename(tokens, unplugged); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(tokens, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	plugIn := func() {
		t.Helper()
		if err := os.RemoveAll(tokens); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(unplugged, tokens); err != nil {
			t.Fatal(err)
		}
	}
	for version := 2; version <= 3; version++ {
		pushed := hub.push(version)
		unplug()
		hub.waits("is away")
		plugIn()
		hub.published(pushed, version)
	}
	trusted("old", "new")

	// Somebody who has known the old key since the beginning, and one who adds the
	// remote now, go on without it: they learn of the new one while both sign.
	user := newClient(t)
	user.run("flatpak", "--user", "remote-add", "--gpg-import="+filepath.Join(work, "old.asc"), "hub", hub.url+"/repo/stable/")
	user.run("flatpak", "--user", "remote-modify", "--update-metadata", "hub")
	hub.stop(syscall.SIGTERM)
	if err := os.WriteFile(hub.config, []byte(fmt.Sprintf("[hub]\ndir = '%s'\ngpg-keys = ['new']\n", hub.dir)+tables), 0o600); err != nil {
		t.Fatal(err)
	}
	hub.start()
	hub.published(hub.push(4), 4)
	trusted("new")
	user.run("flatpak", "--user", "remote-ls", "hub")
	user.run("flatpak", "--user", "install", "-y", "--noninteractive", "--no-deps", "hub", killedApp)

	// Another key than that of the certificate is not waited for: it is wrong.
	hub.stop(syscall.SIGTERM)
	swapped := strings.NewReplacer("object=new", "object=old", "object=old", "object=new").Replace(tables)
	if err := os.WriteFile(hub.config, []byte(fmt.Sprintf("[hub]\ndir = '%s'\ngpg-keys = ['new']\n", hub.dir)+swapped), 0o600); err != nil {
		t.Fatal(err)
	}
	hub.start()
	if err := <-hub.push(5); err == nil || !strings.Contains(err.Error(), "is not the one in the token") {
		t.Errorf("signed with another key: %v", err)
	}
}
