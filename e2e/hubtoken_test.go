package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// The real flatpak gets a token from its authenticator, sends it, and installs
// what is not given to others.
func TestDownloadsThatNeedAToken(t *testing.T) {
	parallel(t)
	peertest.Require(t, "flatpak", "ostree", "dbus-run-session", "/usr/bin/python3")
	author, user := newClient(t), newClient(t)
	if out, err := author.try("/usr/bin/python3", "-c", "from gi.repository import Gio"); err != nil {
		t.Logf("%s", out)
		peertest.Missing(t, "python3-gi")
	}
	h := startPaidHub(t, author)
	token := filepath.Join(user.home, "token")
	run(t, "token", "create", "--dir", h.dir, "--sub", "user", "--scope", "download", "--prefix", "org.test.Paid", "--out", token)

	authenticator, err := filepath.Abs("testdata/authenticator.py")
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(user.home, "client")
	text := fmt.Sprintf(`set -e
export FLATPAK_BWRAP=/bin/false FLATPAK_TRIGGERSDIR=/nonexistent
flatpak --user remote-add hub %[1]s/repo/stable/stable.flatpakrepo
if flatpak --user install -y --noninteractive hub org.test.Paid; then echo "installed without a token"; exit 1; fi
mkfifo said; /usr/bin/python3 %[2]s %[3]s >said & pid=$!
exec 3<said; read line <&3; test "$line" = ready
flatpak --user install -y --noninteractive hub org.test.Paid
kill $pid; cat <&3; cat "$FLATPAK_USER_DIR/app/org.test.Paid/current/active/files/bin/hello"
`, h.url, authenticator, token)
	if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out := user.run("dbus-run-session", "--", "sh", script)
	for _, want := range []string{"asked for app/org.test.Paid/x86_64/stable type 1 of " + h.url + "/repo/stable", "echo paid"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// startPaidHub starts a hub whose repository "stable" has an app that is given with a token
// alone. The program of the app says "paid".
func startPaidHub(t *testing.T, author *client) *hubServer {
	t.Helper()
	repo := filepath.Join(author.home, "repo")
	author.run("ostree", "init", "--repo="+repo, "--mode=archive-z2")
	for name, text := range map[string]string{
		"runtime/metadata": "[Runtime]\nname=org.test.Platform\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\n",
		"runtime/usr/file": "x", "runtime/files/file": "x",
		"app/metadata":        "[Application]\nname=org.test.Paid\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\ncommand=hello\n",
		"app/files/bin/hello": "#!/bin/sh\necho paid\n", "app/export/share/x": "x",
	} {
		path := filepath.Join(author.home, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	author.run("flatpak", "build-export", "--runtime", "--disable-sandbox", "--no-update-summary", repo, author.home+"/runtime", "stable")
	author.run("flatpak", "build-export", "--token-type=1", "--disable-sandbox", "--no-update-summary", repo, author.home+"/app", "stable")

	config := filepath.Join(author.home, "hub.toml")
	settings := "[hub.repos.stable]\nrequire-auth-for-token-types = [1]\nauthenticator-name = \"org.test.Authenticator\"\n"
	if err := os.WriteFile(config, []byte("[hub]\n"+settings), 0o644); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, filepath.Join(author.home, "hub"), "", "", "--config", config)
	tokens := author.home + "/author.token"
	if err := os.WriteFile(tokens, []byte(h.token), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "push", "--hub", h.url, "--token-file", tokens, "--repo", "stable", repo)
	return h
}

// A mirror with a token has what a hub gives to few: all of an OSTree repository, verified as
// ever. The file of the token is read each time; the token of somebody else is no sync, and
// nothing that is served.
func TestMirrorOfPaidRepository(t *testing.T) {
	parallel(t)
	peertest.Require(t, "flatpak", "ostree")
	author, user := newClient(t), newClient(t)
	h := startPaidHub(t, author)
	token := filepath.Join(author.home, "mirror.token")
	grant := func(prefix string) {
		t.Helper()
		name := filepath.Join(t.TempDir(), "token")
		run(t, "token", "create", "--dir", h.dir, "--sub", "mirror", "--scope", "download", "--prefix", prefix, "--out", name)
		text, err := os.ReadFile(name)
		if err == nil {
			err = os.WriteFile(token, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	grant("org.test.Free")
	key := filepath.Join(author.home, "hub.asc")
	if err := os.WriteFile(key, keyOfFlatpakrepo(t, get(t, h.url+"/repo/stable/stable.flatpakrepo", 200)), 0o644); err != nil {
		t.Fatal(err)
	}
	b := startBox(t, "ostree", "hub+"+h.url+"/repo/stable/", fmt.Sprintf("token-file = %q\nkeys = [%q]", token, key))
	if m, err := b.sync(); err == nil {
		t.Fatalf("without a right: %+v", m)
	}
	if _, err := fetchBody("http://" + b.listen + "/p/summary"); err == nil {
		t.Error("something is served of what could not be fetched")
	}
	grant("org.test.Paid")
	b.mustSync("published", "")

	user.run("ostree", "init", "--repo="+user.home+"/repo", "--mode=archive-z2")
	user.run("ostree", "remote", "add", "--repo="+user.home+"/repo", "--gpg-import="+key, "m", "http://"+b.listen+"/p/")
	user.run("ostree", "pull", "--repo="+user.home+"/repo", "m", "app/org.test.Paid/x86_64/stable")
	if out := user.run("ostree", "cat", "--repo="+user.home+"/repo", "app/org.test.Paid/x86_64/stable", "/files/bin/hello"); !strings.Contains(out, "echo paid") {
		t.Errorf("the app is %q", out)
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range b.p.all() {
		if strings.Contains(line, strings.TrimSpace(string(secret))) {
			t.Errorf("the log tells the token: %s", line)
		}
	}
	for _, path := range []string{"/metrics", "/-/healthy"} {
		if strings.Contains(string(get(t, "http://"+b.admin+path, 200)), strings.TrimSpace(string(secret))) {
			t.Errorf("%s tells the token", path)
		}
	}
}

// keyOfFlatpakrepo is the key that a flatpakrepo names, if there is one.
func keyOfFlatpakrepo(t *testing.T, text []byte) []byte {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "GPGKey="); ok {
			key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(value))
			if err != nil {
				t.Fatal(err)
			}
			return key
		}
	}
	t.Fatalf("no key in\n%s", text)
	return nil
}
