package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
)

// The doctor says why a mirror does not start, without one that runs and without a token.
func TestMirrorDoctorAlone(t *testing.T) {
	t.Parallel()
	dir, admin := t.TempDir(), freeAddr(t)
	for name, c := range map[string]struct{ text, about, words string }{
		"no disk":      {fmt.Sprintf("[mirror]\ndirectory = %q\n", filepath.Join(dir, "not/mounted")), "directory", "neither it nor"},
		"no directory": {"[mirror]\n", "configuration", "directory: is required"},
		"no TOML":      {"[mirror]\ndirectory =\n", "configuration", ":2:"},
		"no mirror":    {"[admin]\n", "configuration", "no table [mirror]"},
	} {
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "-")+".toml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, err := tryRun(t, "mirror", "doctor", "--config", file, "--admin", admin, "--json")
		if err == nil || !strings.Contains(errs, "wrong") {
			t.Errorf("%s: it ends well: %s", name, errs)
		}
		var d mirrorapi.Diagnosis
		if err := json.Unmarshal([]byte(out), &d); err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		found := false
		for _, f := range d.Findings {
			found = found || f.Level == mirrorapi.LevelError && strings.HasPrefix(f.About, c.about) && strings.Contains(f.Message, c.words)
		}
		if !found {
			t.Errorf("%s: %+v", name, d.Findings)
		}
	}
}
