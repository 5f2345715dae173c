package reports_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/api/mirrorapi"
	"freshet/internal/durable"
	"freshet/internal/mirror/reports"
)

func openLog(t *testing.T, path string) *reports.Log {
	t.Helper()
	dir, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Root.Close() })
	return reports.New(dir)
}

// Reports are numbered over restarts, newest first, and one that is damaged hides no other.
func TestLog(t *testing.T) {
	path := t.TempDir()
	log := openLog(t, path)
	if _, ok, err := log.Last("epel"); ok || err != nil {
		t.Error(ok, err)
	}
	for range 3 {
		if _, err := log.Append(mirrorapi.Report{Project: "epel", Result: mirrorapi.Published}); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(path, "epel.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("{\"serial\": 4, \"proj\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	log = openLog(t, path)
	if last, ok, err := log.Last("epel"); !ok || err != nil || last.Serial != 3 {
		t.Errorf("%+v, %v, %v", last, ok, err)
	}
	if r, err := log.Append(mirrorapi.Report{Project: "epel", Result: mirrorapi.Failed}); err != nil || r.Serial != 4 {
		t.Errorf("%+v, %v", r, err)
	}
	list, err := log.Newest("epel", 2)
	if err != nil || len(list) != 2 || list[0].Serial != 4 || list[0].Result != mirrorapi.Failed || list[1].Serial != 3 {
		t.Errorf("%+v, %v", list, err)
	}
	if list, err := log.Newest("other", 2); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A file does not grow without end, and the newest reports are those that stay.
func TestLogIsBounded(t *testing.T) {
	path := t.TempDir()
	log := openLog(t, path)
	for range 30 {
		if _, err := log.Append(mirrorapi.Report{Project: "epel", Message: strings.Repeat("x", 500<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(path, "epel.jsonl"))
	if err != nil || info.Size() > 5<<20 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	if list, err := log.Newest("epel", 100); err != nil || len(list) < 2 || list[0].Serial != 30 || list[1].Serial != 29 {
		t.Errorf("%d reports, %v", len(list), err)
	}
}
