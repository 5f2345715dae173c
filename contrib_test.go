package freshet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// dashboard is one of Grafana, as far as it is looked at.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		ID      int
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct{ RefID, Expr string }
	}
}

// Dashboards have panels that do not cover one another, and ask what Prometheus understands.
func TestDashboards(t *testing.T) {
	peertest.Require(t, "promtool")
	files, err := filepath.Glob("contrib/grafana/*.json")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$project", ".*")
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var rules []rule
	uids := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if d.UID == "" || d.Title == "" || uids[d.UID] {
			t.Errorf("%s: the uid %q, the title %q", file, d.UID, d.Title)
		}
		uids[d.UID] = true
		taken := make(map[[2]int]string)
		ids := make(map[int]bool)
		for _, p := range d.Panels {
			if ids[p.ID] || len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s: panel %q has the number %d, %d questions, the place %+v", file, p.Title, p.ID, len(p.Targets), p.GridPos)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" && other != p.Title {
						t.Fatalf("%s: %q lies over %q", file, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			for _, q := range p.Targets {
				expr := variables.Replace(q.Expr)
				if strings.Contains(expr, "$") {
					t.Errorf("%s: %q asks with a variable that is not known: %s", file, p.Title, expr)
				}
				rules = append(rules, rule{fmt.Sprintf("asked_%d", len(rules)), expr})
			}
		}
	}
	// JSON is YAML.
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboards", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "promtool", "check", "rules", name).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
