package hub

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/hub/hook"
	"freshet/internal/peertest"
)

// TestSecrets: commands read neither the configuration of the process nor what the
// hub's user keeps at home.
func TestSecrets(t *testing.T) {
	if !hook.Confines() {
		peertest.Missing(t, "Landlock")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("PGPASSFILE", filepath.Join(home, "pgpass"))
	config := filepath.Join(home, "freshet.toml")
	s := &server{cfg: Config{Dir: t.TempDir()}, hidden: []string{config}}
	files := []string{config, filepath.Join(home, "pgpass"), filepath.Join(home, ".pgpass"), filepath.Join(home, ".gnupg", "key"), filepath.Join(s.cfg.Dir, "secret")}
	for _, file := range append(files, filepath.Join(home, "plain")) {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) string {
		var out bytes.Buffer
		c := s.command("stable", []string{"/bin/cat", file})
		if err := c.Run(t.Context(), &out); (err == nil) != strings.Contains(out.String(), "content") {
			t.Errorf("%s: %v: %s", file, err, out.String())
		}
		return out.String()
	}
	for _, file := range files {
		if out := read(file); strings.Contains(out, "content") {
			t.Errorf("%s is read: %s", file, out)
		}
	}
	if out := read(filepath.Join(home, "plain")); out != "content" {
		t.Errorf("what is no secret: %s", out)
	}
}
