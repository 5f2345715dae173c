package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// What the commands tell of a hub's repository is what ostree reads in it, and what
// the real flatpak adds, lists and installs by the file they write.
func TestInspectHub(t *testing.T) {
	parallel(t)
	peertest.Require(t, "flatpak", "ostree")
	author, user := newClient(t), newClient(t)
	source := filepath.Join(author.home, "source")
	author.run("ostree", "init", "--repo="+source, "--mode=archive-z2")
	config := filepath.Join(author.home, "hub.toml")
	const settings = "[hub.repos.stable]\ntitle = \"Sample\"\nsubsets = [\"floss\"]\ncollection-id = \"org.test.Stable\"\ndeploy-collection-id = true\n"
	if err := os.WriteFile(config, []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, filepath.Join(author.home, "hub"), "", "", "--config", config)
	token := author.home + "/token"
	if err := os.WriteFile(token, []byte(h.token), 0o600); err != nil {
		t.Fatal(err)
	}
	const ref = "app/org.test.App/x86_64/stable"
	for version, options := range [][]string{{"--share=network"}, {"--share=network", "--filesystem=home"}} {
		for id, extra := range map[string][]string{"org.test.App": {"--subset=floss"}, "org.test.Other": nil} {
			dir := filepath.Join(author.home, id, strconv.Itoa(version))
			for name, text := range map[string]string{
				"metadata":        "[Application]\nname=" + id + "\nruntime=org.test.Platform/x86_64/stable\nsdk=org.test.Sdk/x86_64/stable\n",
				"files/bin/hello": strings.Repeat("hello ", 1000*(version+1)),
			} {
				if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			author.run("flatpak", append(append([]string{"build-finish", "--command=hello"}, options...), dir)...)
			author.run("flatpak", append(append([]string{"build-export", "--disable-sandbox", "--no-update-summary"}, extra...), source, dir, "stable")...)
		}
		run(t, "push", "--hub", h.url, "--token-file", token, "--repo", "stable", source)
	}

	var diff struct {
		Gained, Lost []string
		From, To     struct{ Commit string }
	}
	answer(t, &diff, "hub", "diff", "stable", ref, "--hub", h.url, "--json")
	if !slices.Equal(diff.Gained, []string{"--filesystem=home"}) || len(diff.Lost) != 0 {
		t.Errorf("%+v", diff)
	}
	repo := filepath.Join(h.dir, "repos", "stable")
	var versions struct{ Versions []struct{ Commit string } }
	answer(t, &versions, "hub", "log", "stable", ref, "--hub", h.url, "--json")
	history := author.run("ostree", "log", "--repo="+repo, ref)
	if n := strings.Count(history, "commit "); n != 2 || len(versions.Versions) != n {
		t.Fatalf("%d versions\n%s", len(versions.Versions), history)
	}
	for i, v := range versions.Versions {
		if want := []string{diff.To.Commit, diff.From.Commit}[i]; v.Commit != want || !strings.Contains(history, "commit "+want) {
			t.Errorf("version %d is %s, not %s\n%s", i, v.Commit, want, history)
		}
	}

	for subset, want := range map[string]string{"": "org.test.App\norg.test.Other\n", "floss": "org.test.App\n"} {
		file := filepath.Join(user.home, "sample"+subset+".flatpakrepo")
		run(t, "hub", "flatpakrepo", "stable", "--hub", h.url, "--subset", subset, "--out", file)
		remote := "sample" + subset
		user.run("flatpak", "--user", "remote-add", "--from", remote, file)
		if out := user.run("flatpak", "--user", "remote-ls", "--app", "--columns=application", remote); out != want {
			t.Errorf("subset %q has %q, not %q", subset, out, want)
		}
		out := user.run("flatpak", "--user", "remotes", "--columns=name,title,url,collection,subset,options")
		if !strings.Contains(out, h.url+"/repo/stable") || !strings.Contains(out, "Sample") || !strings.Contains(out, "org.test.Stable") || strings.Contains(out, "no-gpg-verify") {
			t.Errorf("the remote is another than the file says:\n%s", out)
		}
	}
}

// answer runs freshet and reads the JSON that it prints.
func answer(t *testing.T, into any, args ...string) {
	t.Helper()
	out := run(t, args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("freshet %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}
