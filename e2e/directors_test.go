package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/control"
)

// push tells a director what the mirror two has.
func (f *fleet) push(token, generation string, files ...string) {
	f.t.Helper()
	text := "freshet-manifest 1\nproject pub\ngeneration " + generation + "\n\n"
	for _, name := range files {
		text += fmt.Sprintf("3 - - %s\n", name)
	}
	text += fmt.Sprintf("end %d\n", len(files))
	req, err := http.NewRequestWithContext(f.t.Context(), http.MethodPut, "http://"+f.admin+directorapi.ManifestPath("two", "pub"), strings.NewReader(text))
	if err != nil {
		f.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusNoContent {
		f.t.Fatalf("%s %s", resp.Status, body)
	}
}

// A second director takes over from the first what that knows, and each change; it goes on
// when the first is killed, also when it is killed itself and starts alone, and catches up
// when the first is back.
func TestDirectorsFollow(t *testing.T) {
	parallel(t)
	dir, conf := t.TempDir(), t.TempDir()
	for _, name := range []string{"a.txt", "b.txt", "c.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("abc"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	token, hash := control.NewToken("fd_")
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(conf, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	first := newFleet(t, dir)
	first.catalogue.Projects[0].Canary = "c.txt"
	first.mirror(t, "one", dir)
	first.mirror(t, "two", dir)
	first.catalogue.Mirrors[1].Carries[0].Inventory = directorapi.Source{How: directorapi.HowManifest}
	first.serve(t, "/a.txt", []string{"one"}, "--config", write("first.toml", "[director.control.clients.all]\ntoken = '"+hash+"'\n"))

	addr := freeAddr(t)
	second := &fleet{admin: freeAddr(t), url: "http://" + addr + "/pub"}
	args := []string{
		"director", "--log-level", "warn", "--listen", addr, "--admin", second.admin, "--state", filepath.Join(conf, "second"), "--config",
		write("second.toml", fmt.Sprintf("[director]\ncatalogue = 'http://%[1]s'\ncatalogue-token = '%[2]s'\ninventory = 'http://%[1]s'\ninventory-token = '%[2]s'\n", first.admin, token)),
	}
	begin := func() {
		t.Helper()
		second.process = start(t, args...)
		second.waitReady(second.admin)
	}
	begin()
	second.waitFor("/a.txt", []string{"one"})
	first.push(token, "1", "a.txt", "b.txt")
	second.waitFor("/a.txt", []string{"one", "two"})

	first.kill()
	second.waitFor("/a.txt", []string{"one", "two"})
	eventually(t, "what was taken as a whole is written down", patience, func() error {
		_, err := os.Stat(filepath.Join(conf, "second", "inventory"))
		return err
	})
	second.stop(syscall.SIGTERM)
	begin()
	second.waitFor("/a.txt", []string{"one", "two"})
	second.kill()
	begin()
	second.waitFor("/a.txt", []string{"one", "two"})
	second.waitFor("/b.txt", []string{"one", "two"})
	second.waitFor("/c.txt", []string{"one"})

	first.process = start(t, first.cmd.Args[1:]...)
	first.waitReady(first.admin)
	first.waitFor("/a.txt", []string{"one"})
	first.push(token, "2", "b.txt", "c.txt")
	second.waitFor("/a.txt", []string{"one"})
	second.waitFor("/c.txt", []string{"one", "two"})
}
