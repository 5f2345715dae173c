package upkeep_test

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"freshet/internal/hub/repository"
	"freshet/internal/hub/upkeep"
	"freshet/internal/store/bucket"
	"freshet/internal/store/storetest"
)

// copiedHub is a hub with a copy in a bucket, of which objects are the bytes.
type copiedHub struct {
	*hub
	objects bucket.Objects
}

const copiedPrefix = "flatpak/stable/"

func (h *copiedHub) client() *bucket.Copy {
	return bucket.New(h.objects, copiedPrefix, repository.CopyHeaders)
}

func newHubInBucket(t *testing.T) *copiedHub {
	t.Helper()
	objects := storetest.Fake(t, nil).Open(t)
	h := &copiedHub{objects: objects}
	h.hub = newCopiedHub(t, h.client())
	return h
}

// compare checks the repository and its copy, and returns what is wrong by path.
func (h *copiedHub) compare(repair bool, opt upkeep.CheckOptions) (upkeep.Report, map[string]upkeep.Problem) {
	h.Helper()
	opt.Copied = &upkeep.Copied{Copy: h.client(), Skip: repository.IsUncopied, Repair: repair}
	report, problems := h.check(opt)
	byPath := make(map[string]upkeep.Problem)
	for _, p := range problems {
		byPath[p.Path] = p
	}
	return report, byPath
}

func (h *copiedHub) remove(path string) {
	h.Helper()
	if err := h.objects.Delete(h.Context(), []string{copiedPrefix + path}); err != nil {
		h.Fatal(err)
	}
}

func (h *copiedHub) put(path, content string) {
	h.Helper()
	h.remove(path)
	body := io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
	if _, err := h.objects.Create(h.Context(), copiedPrefix+path, body, bucket.Headers{}); err != nil {
		h.Fatal(err)
	}
}

// same demands that the copy has exactly what the directory has.
func (h *copiedHub) same(path string) {
	h.Helper()
	want, err := os.ReadFile(h.path(path))
	if err != nil {
		h.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := h.client().Download(h.Context(), path, &got); err != nil || !bytes.Equal(got.Bytes(), want) {
		h.Errorf("%s in the bucket: %d bytes, want %d: %v", path, got.Len(), len(want), err)
	}
}

// TestCopyIsCompared: what a bucket lacks, or has otherwise, is told, and repaired from
// what was verified in the directory, whatever the hub does beside it.
func TestCopyIsCompared(t *testing.T) {
	t.Parallel()
	h := newHubInBucket(t)
	h.publish("org.example.A", "1")
	h.publish("org.example.B", "1")
	if report, problems := h.compare(false, upkeep.CheckOptions{}); len(problems) != 0 || report.CopyFiles < 30 || report.CopyExtra != 0 {
		t.Fatalf("%+v: %+v", report, problems)
	}
	gone, short := fileOf(h.hub, "org.example.A", "files/share/org.example.A/data").Path(), fileOf(h.hub, "org.example.B", "files/share/versions/1").Path()
	ref := "refs/heads/" + appRef("org.example.A")
	stray := "refs/heads/" + appRef("org.example.Stray")
	h.remove(gone)
	h.put(short, "cut short")
	h.put(ref, strings.Repeat("0", 64)+"\n") // of the same size
	h.put("summary", "of yesterday")
	h.put(stray, "left behind")
	h.put("objects/00/"+strings.Repeat("0", 62)+".filez", "of a publish that was not decided")
	bad := []string{gone, short, ref, "summary", stray}
	slices.Sort(bad)

	report, problems := h.compare(true, upkeep.CheckOptions{DryRun: true})
	for _, path := range bad {
		if p := problems[path]; p.Kind != upkeep.KindCopy || p.Repaired || p.Failure != "" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	if len(problems) != len(bad) || report.CopyExtra != 2 {
		t.Errorf("%+v: %+v", report, problems)
	}
	// What is damaged in the directory as well is not made the content of the bucket.
	sound := read(t, h.path(gone))
	write(t, h.path(gone), slices.Concat(sound[:len(sound)-1], []byte{sound[len(sound)-1] ^ 1}))
	_, problems = h.compare(true, upkeep.CheckOptions{})
	if p := problems[gone]; p.Repaired || !strings.Contains(p.Failure, "wrong in the directory") {
		t.Errorf("damaged in both: %+v", p)
	}
	write(t, h.path(gone), sound)

	_, problems = h.compare(true, upkeep.CheckOptions{})
	if p := problems[gone]; !p.Repaired || len(problems) != 2 || problems[stray].Repaired {
		t.Errorf("%+v", problems)
	}
	for _, path := range bad {
		if path != stray {
			h.same(path)
		}
	}
	h.remove(stray)
	if _, problems := h.compare(false, upkeep.CheckOptions{}); len(problems) != 0 {
		t.Errorf("repaired: %+v", problems)
	}
	h.publish("org.example.A", "2") // the hub leads as before
	if _, problems := h.compare(false, upkeep.CheckOptions{Incremental: true}); len(problems) != 0 {
		t.Errorf("after another publish: %+v", problems)
	}
}

// A directory that belongs to another copy, or to none, is not compared.
func TestCopyOfAnother(t *testing.T) {
	t.Parallel()
	h, other := newHubInBucket(t), newHub(t)
	h.publish("org.example.A", "1")
	other.publish("org.example.A", "1")
	h.dir = other.dir
	opt := upkeep.CheckOptions{Copied: &upkeep.Copied{Copy: h.client(), Skip: repository.IsUncopied}}
	if _, err := upkeep.Check(t.Context(), other.dir, opt); err == nil || !strings.Contains(err.Error(), "no copy in a bucket") {
		t.Errorf("without a copy: %v", err)
	}
}
