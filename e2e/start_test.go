package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
	"freshet/internal/peertest"
)

// fences returns the blocks of a page, those of the same label joined: "sh server"
// for one that begins with "```sh server".
func fences(t *testing.T, page string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	blocks := make(map[string]string)
	for _, m := range regexp.MustCompile("(?ms)^```([a-z ]+)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		blocks[m[1]] += m[2]
	}
	return blocks
}

// writeStart makes the next version of an application, with its runtime.
func writeStart(t *testing.T, dir string, version int) {
	t.Helper()
	repo, err := archive.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	const platform = "org.example.Platform/x86_64/stable"
	for ref, meta := range map[string]flatpak.Metadata{
		"runtime/" + platform:               {Kind: flatpak.Runtime, Name: "org.example.Platform", Runtime: platform, SDK: platform},
		"app/org.example.App/x86_64/stable": {Kind: flatpak.App, Name: "org.example.App", Runtime: platform, SDK: platform, Command: "app"},
	} {
		files := []archive.File{{Path: "files/version", Content: fmt.Append(nil, version)}}
		if err := repo.CommitFlatpak(ref, meta, files, nil, time.Unix(int64(1_700_000_000+version), 0)); err != nil {
			t.Fatal(err)
		}
	}
}

// What docs/start.md tells people to do works as it stands there, but for names of the
// machine: the configuration, the unit's command, the token, the push, the installation
// and the update.
func TestStart(t *testing.T) {
	parallel(t)
	peertest.Require(t, "flatpak", "curl")
	server, builder, user := newClient(t), newClient(t), newClient(t)
	hub, edge, admin := freeAddr(t), freeAddr(t), freeAddr(t)
	config := filepath.Join(server.home, "freshet.toml")
	here := strings.NewReplacer(
		"https://flatpak.example.org", "http://"+edge, `":80"`, `"`+edge+`"`, "127.0.0.1:8080", hub, "127.0.0.1:9600", admin,
		"/srv/freshet", server.home, "/etc/freshet.toml", config, "sudo -u freshet ", "", "/usr/local/bin/freshet", freshet(t),
	)
	blocks := fences(t, "../docs/start.md")
	do := func(c *client, label string) {
		t.Helper()
		commands := here.Replace(blocks[label])
		if commands == "" {
			t.Fatalf("the page has no block %q", label)
		}
		for line := range strings.Lines(commands) { // several blocks are one after the other
			c.run("sh", "-c", strings.TrimSpace(line))
		}
	}
	for _, c := range []*client{server, builder, user} {
		c.env[0] += ":" + filepath.Dir(freshet(t))
	}

	// With a certificate it is the same, and right; this machine has no such name.
	withTLS := filepath.Join(server.home, "tls.toml")
	for path, text := range map[string]string{config: blocks["toml"], withTLS: blocks["toml"] + blocks["toml tls"]} {
		if err := os.WriteFile(path, []byte(here.Replace(text)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server.run(freshet(t), "config", "check", withTLS)

	_, command, found := strings.Cut(here.Replace(blocks["ini"]), "ExecStart="+freshet(t)+" ")
	if !found {
		t.Fatal("the unit does not start the program")
	}
	command, _, _ = strings.Cut(command, "\n")
	running := start(t, strings.Fields(command)...)
	running.waitReady(admin)
	do(server, "sh server")

	writeStart(t, filepath.Join(builder.home, "repo"), 1)
	const token = "builder.token"
	if err := os.Rename(filepath.Join(server.home, token), filepath.Join(builder.home, token)); err != nil {
		t.Fatal(err)
	}
	do(builder, "sh builder")
	installs, updates, found := strings.Cut(blocks["sh user"], "flatpak update")
	if !found {
		t.Fatal("the page updates nothing")
	}
	installed := func() string {
		t.Helper()
		version, err := os.ReadFile(filepath.Join(user.home, "flatpak/app/org.example.App/current/active/files/version"))
		if err != nil {
			t.Fatal(err)
		}
		return string(version)
	}
	blocks["installs"], blocks["updates"] = installs, "flatpak update"+updates
	do(user, "installs")
	if installed() != "1" {
		t.Errorf("version %s is installed, want 1", installed())
	}
	if options := user.run("flatpak", "--user", "remotes", "--columns=name,options"); strings.Contains(options, "no-gpg-verify") {
		t.Errorf("the remote is not verified: %s", options)
	}
	get(t, "http://"+edge+"/repo/stable/appstream/org.example.App.flatpakref", 200)

	writeStart(t, filepath.Join(builder.home, "repo"), 2)
	do(builder, "sh builder")
	eventually(t, "the update comes", promised(2*time.Second), func() error {
		do(user, "updates")
		if installed() != "2" {
			return fmt.Errorf("version %s is installed, want 2", installed())
		}
		return nil
	})
	server.run(freshet(t), "hub", "fsck", filepath.Join(server.home, "hub/repos/stable"), "--incremental")
}
