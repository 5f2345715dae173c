package upkeep_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"freshet/internal/hub/quarantine"
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

// TestCopyEndsQuarantine: an object in quarantine does not come back from the bucket
// unseen, when the directory gets what it lacks; but it does when a scrub has verified it,
// and only then. What the bucket has wrong too comes from the next source.
func TestCopyEndsQuarantine(t *testing.T) {
	t.Parallel()
	h := newHubInBucket(t)
	h.publish("org.example.A", "1")
	mirror := h.copyOf()
	name := fileOf(h.hub, "org.example.A", "files/share/org.example.A/data")
	path := name.Path()
	sound := read(t, h.path(path))
	damaged := slices.Clone(sound)
	damaged[len(damaged)/2] ^= 0x10
	write(t, h.path(path), damaged)
	h.scrubbed()
	if len(h.apart()) != 1 || h.exists(path) {
		t.Fatalf("not in quarantine: %+v", h.apart())
	}

	// The directory is one change behind, and gets the payload that it lacks.
	h.close()
	old := h.dir + ".old"
	if err := os.CopyFS(old, os.DirFS(h.dir)); err != nil {
		t.Fatal(err)
	}
	h.copied = h.client()
	h.open()
	h.publish("org.example.B", "1")
	h.close()
	if err := errors.Join(os.RemoveAll(h.dir), os.Rename(old, h.dir)); err != nil {
		t.Fatal(err)
	}
	h.copied = h.client()
	h.open()
	if _, head := h.head(appRef("org.example.B")); head == nil || h.exists(path) || len(h.apart()) != 1 {
		t.Errorf("it came back unseen: %+v", h.apart())
	}

	source := upkeep.CopySource{Copy: h.client()}
	h.put(path, string(damaged))
	if found := h.scrubbed(source); len(h.apart()) != 1 || h.exists(path) || len(found) != 1 || found[0].Repaired || found[0].Failure == "" {
		t.Errorf("the bucket has it wrong as well: %+v", found)
	}
	if found := h.scrubbed(source, mirror); len(h.apart()) != 0 || len(found) != 1 || !found[0].Repaired {
		t.Errorf("a mirror has it: %+v", found)
	}
	write(t, h.path(path), damaged)
	h.scrubbed()
	h.put(path, string(sound))
	if found := h.scrubbed(source, mirror); len(h.apart()) != 0 || len(found) != 1 || !found[0].Repaired || !bytes.Equal(read(t, h.path(path)), sound) {
		t.Errorf("the bucket has it: %+v", found)
	}
	root, err := os.OpenRoot(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if told, err := quarantine.Repairs(t.Context(), root, 10); err != nil || !slices.Equal(told, []string{path}) {
		t.Errorf("caches are told of %q: %v", told, err)
	}
	h.sound()
}
