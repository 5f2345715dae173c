package apt_test

import (
	"errors"
	"strings"
	"testing"

	"freshet/internal/apt"
)

func TestDiffs(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("ab", 32)
	text := "SHA256-Current: " + sum + " 99\nSHA256-History:\n " + sum + " 98 T-1\nSHA256-Patches:\n " + sum + " 7 T-1\nSHA256-Download:\n " + sum + " 5 T-1.gz\n " + sum + " 6 T-2.gz\nX-Patch-Precedence: merged\n"
	var got []apt.IndexEntry
	for e, err := range apt.Diffs(strings.NewReader(text)) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 2 || got[0] != (apt.IndexEntry{Path: "T-1.gz", Size: 5, SHA256: sum}) || got[1].Path != "T-2.gz" {
		t.Errorf("%+v", got)
	}
	for name, list := range map[string]string{
		"outside": sum + " 5 ../x", "folder": sum + " 5 a/b", "none": sum + " 5 .", "short": "ab 5 x", "columns": sum + " 5", "size": sum + " -5 x",
		"many": strings.Repeat(sum+" 5 x\n ", 10_001) + sum + " 5 x",
	} {
		var err error
		for _, err = range apt.Diffs(strings.NewReader("SHA256-Download:\n " + list + "\n")) {
			if err != nil {
				break
			}
		}
		if !errors.Is(err, apt.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
