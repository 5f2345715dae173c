package freshet

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// Every link between our own pages leads somewhere.
func TestLinks(t *testing.T) {
	out, err := peertest.Command(t, "git", "ls-files", "*.md").Output()
	if err != nil {
		t.Skipf("not a git checkout: %v", err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
	for page := range strings.Lines(string(out)) {
		page = strings.TrimSpace(page)
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", page, m[1])
			}
		}
	}
}
