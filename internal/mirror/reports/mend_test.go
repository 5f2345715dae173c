package reports_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/reports"
)

// What a loss of power makes of a file is mended: the reports that are left stay, and those
// to come are not lost in what is damaged.
func TestMend(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(text string) string{
		"zeros at the end": func(text string) string { return text + strings.Repeat("\x00", 3000) },
		"cut":              func(text string) string { return text[:len(text)-20] },
		"no line feed":     func(text string) string { return text[:len(text)-1] },
		"all zeros":        func(text string) string { return strings.Repeat("\x00", len(text)) },
		"empty":            func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := t.TempDir()
			log := openLog(t, path)
			for range 3 {
				if _, err := log.Append(mirrorapi.Report{Project: "p", Result: mirrorapi.Published}); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(path, "p.jsonl")
			text, err := os.ReadFile(file)
			if err == nil {
				err = os.WriteFile(file, []byte(damage(string(text))), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			log = openLog(t, path)
			removed, err := log.Mend()
			if err != nil {
				t.Fatal(err)
			}
			if damaged := name != "no line feed" && name != "empty"; (removed["p"] == 1) != damaged {
				t.Error(removed)
			}
			before, err := log.Newest("p", 9)
			if err != nil {
				t.Fatal(err)
			}
			last, err := log.Append(mirrorapi.Report{Project: "p", Result: mirrorapi.Unchanged})
			if err != nil || len(before) > 0 && last.Serial != before[0].Serial+1 {
				t.Error(last.Serial, err)
			}
			after, err := openLog(t, path).Newest("p", 9)
			if err != nil || len(after) != len(before)+1 || after[0].Result != mirrorapi.Unchanged {
				t.Errorf("%d reports after %d, %v", len(after), len(before), err)
			}
			if again, err := log.Mend(); len(again) != 0 || err != nil {
				t.Error(again, err)
			}
		})
	}
}

// Reports that the disk does not take are there as long as the process is, and are written
// when it takes them.
func TestUnsaved(t *testing.T) {
	t.Parallel()
	full := errors.New("full")
	path := t.TempDir()
	dir, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Root.Close()
	is := false
	dir.Fault = func(string, string) error {
		if is {
			return full
		}
		return nil
	}
	log := reports.New(dir)
	for i := range 5 {
		is = 1 <= i && i < 4
		r, err := log.Append(mirrorapi.Report{Project: "p", Result: mirrorapi.Failed})
		if is != errors.Is(err, full) || r.Serial != int64(i+1) {
			t.Error(i, r.Serial, err)
		}
		if list, err := log.Newest("p", 9); len(list) != i+1 || err != nil {
			t.Error(i, len(list), err)
		}
	}
	if list, err := openLog(t, path).Newest("p", 9); len(list) != 5 || err != nil {
		t.Error(len(list), err)
	}
}

// Reports that the disk does not give are put aside, and others come after them.
func TestMendUnreadable(t *testing.T) {
	t.Parallel()
	path := t.TempDir()
	if err := os.Mkdir(filepath.Join(path, "p.jsonl"), 0o755); err != nil { // which cannot be read as a file
		t.Fatal(err)
	}
	log := openLog(t, path)
	if mended, err := log.Mend(); err != nil || mended["p"] != 1 {
		t.Errorf("%v, %v", mended, err)
	}
	if r, err := log.Append(mirrorapi.Report{Project: "p", Result: mirrorapi.Published}); err != nil || r.Serial != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}
