package repository

import (
	"bytes"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"freshet/internal/peertest"
)

// catalogueFiles are the regular files below a folder with their content.
func catalogueFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		data, err := os.ReadFile(path)
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestCheckout compares what web sites find with what ostree checks out, while
// applications come, change and go, and after the folder was made anew.
func TestCheckout(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	h := newHub(t, func(o *Options) { o.BaseURL = "http://127.0.0.1/repo" })
	dir := filepath.Join(h.opt.Dir, "appstream", "x86_64")
	compare := func(what string) {
		t.Helper()
		want := filepath.Join(t.TempDir(), "checkout")
		peertest.Run(t, "", nil, "ostree", "--repo="+h.opt.Dir, "checkout", "--user-mode", "appstream/x86_64", want)
		got, expected := catalogueFiles(t, dir), catalogueFiles(t, want)
		if !maps.Equal(got, expected) {
			t.Errorf("%s: %q, want %q", what, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(expected)))
		}
	}
	h.publishApp("org.test.Old", "v1")
	if _, err := os.Stat(dir); err == nil {
		t.Error("checked out without having been asked to")
	}
	h.opt.AppstreamCheckout = true
	h.reopen()
	compare("at the start")

	result := h.publishApp("org.test.Hello", "v1")
	compare("an application came")
	icon := "appstream/x86_64/icons/64x64/org.test.Hello.png"
	if !slices.Contains(result.Changed, icon) || slices.Contains(result.Changed, strings.Replace(icon, "Hello", "Old", 1)) {
		t.Errorf("changed %q", result.Changed)
	}
	result = h.publishApp("org.test.Hello", "v2")
	compare("an application changed")
	if slices.Contains(result.Changed, icon) || !slices.Contains(result.Changed, "appstream/x86_64/appstream.xml.gz") {
		t.Errorf("changed %q", result.Changed)
	}
	h.publish(PublishRequest{Key: "gone", Remove: []string{appRef("org.test.Old")}})
	compare("an application went")
	h.reopen()
	compare("after a restart")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.opt.Dir, checkoutFile)); err != nil {
		t.Fatal(err)
	}
	h.reopen()
	compare("after the folder was lost")
	h.check()
	fsck(t, h.opt.Dir)
}

// TestSummaryAlarm warns of a summary that old clients refuse soon.
func TestSummaryAlarm(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for size, want := range map[int64]bool{summaryAlarm - 1: false, summaryAlarm: true} {
		var log bytes.Buffer
		p := h.repo.begin(t.Context(), newJournal(&log))
		p.result.Summary = size
		p.warnOfSummary()
		if got := strings.Contains(log.String(), "summary-arches"); got != want {
			t.Errorf("%d bytes: %q", size, log.String())
		}
	}
	if size := h.publishApp("org.test.Hello", "v1").Summary; size != int64(len(readFile(t, h.opt.Dir+"/summary"))) {
		t.Errorf("the summary has %d bytes, it is said", size)
	}
}
