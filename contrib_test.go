package freshet

import (
	"os/exec"
	"testing"

	"freshet/internal/peertest"
)

// The rules of alerts are valid, and fire when their tests say so.
func TestRulesOfAlerts(t *testing.T) {
	peertest.Require(t, "promtool")
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", "freshet-edge.rules.yml"},
		{"test", "rules", "freshet-edge.test.yml"},
		{"check", "rules", "--lint-fatal", "freshet-hub.rules.yml"},
		{"test", "rules", "freshet-hub.test.yml"},
		{"check", "rules", "--lint-fatal", "freshet-director.rules.yml"},
		{"test", "rules", "freshet-director.test.yml"},
		{"check", "rules", "--lint-fatal", "freshet-mirror.rules.yml"},
		{"test", "rules", "freshet-mirror.test.yml"},
	} {
		cmd := exec.CommandContext(t.Context(), "promtool", args...)
		cmd.Dir = "contrib/prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
