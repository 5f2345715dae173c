package upkeep

import (
	"os"
	"strings"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/ostree"
)

// FuzzRemembered: what is read is written the same; anything else is as good as
// nothing.
func FuzzRemembered(f *testing.F) {
	sum := ostree.ChecksumOf(nil).String()
	f.Add(rememberedHead + "commit " + sum + "\ndelta " + sum + "-" + sum + " " + sum + "\nend\n")
	f.Add(rememberedHead + "commit " + sum + "\n")
	f.Add("freshet-fsck 2\nend\n")
	dir, err := durable.Open(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m, err := parseRemembered(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if !m.any() {
			return
		}
		if err := m.write(dir); err != nil {
			t.Fatal(err)
		}
		again, err := readRemembered(dir.Root)
		if err != nil || len(again.commits) != len(m.commits) || len(again.deltas) != len(m.deltas) {
			data, _ := os.ReadFile(dir.Root.Name() + "/" + rememberedFile)
			t.Errorf("%q\nbecame %q: %v", text, data, err)
		}
	})
}
