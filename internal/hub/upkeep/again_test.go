package upkeep_test

import (
	"testing"
	"time"

	"freshet/internal/hub/upkeep"
)

// TestPruneOften: prunes that come more often than the grace time ends do not begin
// it anew.
func TestPruneOften(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]upkeep.Rules{"by depth": strict, "by age": {{Ref: "*", Age: time.Minute}}} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t)
			now := time.Now()
			prune := func(after time.Duration) {
				h.prune(upkeep.PruneOptions{Rules: rules, Grace: time.Hour, Now: now.Add(after)})
			}
			h.publish("org.example.A", "0")
			old, _ := h.head(appRef("org.example.A"))
			h.publish("org.example.A", "1")
			prune(0)
			for after := 10 * time.Minute; after < time.Hour; after += 10 * time.Minute {
				if prune(after); !h.has(old) {
					t.Fatalf("gone after %v", after)
				}
			}
			if prune(time.Hour + 10*time.Minute); h.has(old) {
				t.Error("the commit is there after its grace")
			}
			if report := h.sound(); report.Orphans != 0 {
				t.Errorf("left behind: %+v", report)
			}
		})
	}
}
