package repository

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"freshet/internal/durable"
	"freshet/internal/ostree"
)

// smallDisk mounts a file system of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting a small disk needs privileges")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill writes a file until so many bytes are left, and returns its name.
func fill(t *testing.T, dir string, left uint64) string {
	t.Helper()
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "filler")
	free := stat.Bavail * uint64(stat.Bsize)
	if free <= left {
		return file
	}
	if err := os.WriteFile(file, make([]byte, free-left), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	h := newHubIn(t, smallDisk(t, "8m"))
	h.publishApp("org.test.Hello", "v1")

	// While something is uploaded.
	u := uploader{}
	content := appTree("org.test.Hello", "v2")
	content["files/share/big"] = noise(1 << 20)
	ref := appRef("org.test.Hello")
	sum := u.commit(t, ref, content)
	b, err := h.repo.Build(100)
	if err != nil {
		t.Fatal(err)
	}
	filler := fill(t, h.dir, 512<<10)
	refused := 0
	for name, data := range u {
		if _, err := b.PutObject(t.Context(), name, bytes.NewReader(data)); err != nil {
			refused++
			if !durable.IsNoSpace(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if refused == 0 {
		t.Error("everything fits")
	}
	h.checkTemp()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	h.next = 99
	request := h.commit(u, map[string]string{ref: sum})

	// While it is published: with more and more room, until it succeeds.
	before := h.headSum(ref)
	failures, done := 0, false
	for left := uint64(0); !done; left += 4 << 10 {
		if left > 4<<20 {
			t.Fatal("it never succeeds")
		}
		filler := fill(t, h.dir, left)
		_, err := h.repo.Publish(t.Context(), []PublishRequest{request}, nil, h.cache.save)
		if removeErr := os.Remove(filler); removeErr != nil {
			t.Fatal(removeErr)
		}
		switch {
		case err == nil:
			done = true
		case !durable.IsNoSpace(err):
			t.Fatalf("with %d bytes left: %v", left, err)
		default:
			failures++
			if head := h.headSum(ref); head != before {
				t.Fatalf("with %d bytes left: %v, but %s is published", left, err, head)
			}
			h.check()
		}
	}
	if failures < 3 {
		t.Errorf("only %d failures", failures)
	}
	if h.headSum(ref) == before {
		t.Error("nothing was published")
	}
	h.check()
	h.reopen()
	h.check()
	fsckIfThere(t, h.opt.Dir)
	ownFsck(t, h.opt.Dir)
}

// TestFailedPublishIsForgotten has a publish fail and another one succeed: the
// second must not bring in what the first had prepared.
func TestFailedPublishIsForgotten(t *testing.T) {
	t.Parallel()
	h := newHubIn(t, smallDisk(t, "8m"))
	h.publishApp("org.test.Hello", "v1")
	requests := map[string]PublishRequest{}
	for _, id := range []string{"org.test.Hello", "org.test.New"} {
		u := uploader{}
		sum := u.commit(t, appRef(id), appTree(id, "v2"))
		requests[id] = h.commit(u, map[string]string{appRef(id): sum})
	}
	filler := fill(t, h.dir, 8<<10)
	both := slices.Collect(maps.Values(requests))
	if _, err := h.repo.Publish(t.Context(), both, nil, h.cache.save); !durable.IsNoSpace(err) {
		t.Fatalf("error %v", err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	h.publishApp("org.test.Third", "v1")
	h.check()
	var refs []string
	for _, ref := range h.summary().Refs {
		refs = append(refs, ref.Ref)
	}
	want := []string{appRef("org.test.Hello"), appRef("org.test.Third"), "appstream/x86_64", "appstream2/x86_64"}
	if !slices.Equal(refs, want) {
		t.Errorf("refs %q", refs)
	}
	sum, err := ostree.ParseChecksum(h.headSum("appstream2/x86_64"))
	if err != nil {
		t.Fatal(err)
	}
	xml, err := h.objects().ReadPath(sum, "appstream.xml", 1<<20)
	if err != nil || bytes.Contains(xml, []byte("org.test.New")) || bytes.Contains(xml, []byte("v2")) {
		t.Errorf("catalogue: %v %q", err, xml)
	}
	h.publish(both...)
	h.check()
	if len(h.cache) != 5 {
		t.Errorf("%d refs cached: %v", len(h.cache), fmt.Sprint(slices.Collect(maps.Keys(h.cache))))
	}
}
