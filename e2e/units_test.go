package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// exposed is the most that systemd may find to say about a unit, of 100.
const exposed = "25"

// The units are ones that systemd understands, and leave a service little.
func TestUnits(t *testing.T) {
	peertest.Require(t, "systemd-analyze")
	dir := t.TempDir()
	for _, role := range []string{"hub", "edge", "mirror", "director"} {
		text, err := os.ReadFile("../contrib/systemd/freshet-" + role + ".service.in")
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, "freshet-"+role+".service")
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(string(text), "@BINDIR@", filepath.Dir(freshet(t)))), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || strings.Contains(string(out), unit) {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
		if out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold="+exposed, unit).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", role, err, out)
		}
	}
}
