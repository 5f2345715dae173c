package scan

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/inventory"
)

const sampleList = "[Version]\n2\n\n[Files]\n9\tf\t5\tlinux/a\n9\td-\t0\tlinux/hidden\n9\tf\t6\tlinux/hidden/b\n9\tf-\t7\tlinux/secret\n" +
	"9\tf\t8\tother/c\n9\tl\t8\tlinux/link\n\n[End]\n"

// serveList serves a list, that of the pointer, with an ETag, and counts whole answers.
func serveList(t *testing.T, list *atomic.Pointer[string], whole *atomic.Int32) string {
	t.Helper()
	return fake(t, func(w http.ResponseWriter, r *http.Request) {
		text := *list.Load()
		w.Header().Set("ETag", fmt.Sprintf(`"%x"`, crc32.ChecksumIEEE([]byte(text))))
		if r.Header.Get("If-None-Match") == w.Header().Get("ETag") {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		whole.Add(1)
		_, _ = w.Write([]byte(text))
	})
}

func TestFileList(t *testing.T) {
	t.Parallel()
	var list atomic.Pointer[string]
	var whole atomic.Int32
	text := sampleList
	list.Store(&text)
	url := serveList(t, &list, &whole) + "pub/"
	s := newScanner(t, Options{})
	target := target{key: key{"", "p"}, how: directorapi.HowFileList, source: url + "fullfiletimelist-fedora", base: url + "linux/"}
	m := new(memo)
	scan := func(want map[string]int64) {
		t.Helper()
		got, err := once(t, s, target, m)
		if err != nil {
			t.Fatal(err)
		}
		same(t, got, want)
	}
	scan(map[string]int64{"a": 5})
	before := s.Updated("", "p")

	// The same list is not read again, and counts as a scan.
	if scan(map[string]int64{"a": 5}); whole.Load() != 1 || !s.Updated("", "p").After(before) {
		t.Errorf("read %d times, updated %v after %v", whole.Load(), s.Updated("", "p"), before)
	}
	// It is when something about it is in doubt, and when what it said was dropped.
	s.o.Inventory.Project("p").Doubt(inventory.Origin, "a")
	m.fresh = true
	if scan(map[string]int64{"a": 5}); whole.Load() != 2 {
		t.Errorf("read %d times, want twice", whole.Load())
	}
	m.fresh = false
	s.o.Inventory.Project("p").Drop(inventory.Origin)
	if scan(map[string]int64{"a": 5}); whole.Load() != 3 {
		t.Errorf("read %d times, want three times", whole.Load())
	}
	// Nor is it taken for read when it was refused: the second time confirms it.
	other := strings.Replace(sampleList, "linux/a", "linux/z", 1)
	list.Store(&other)
	if _, err := s.scan(t.Context(), target, m); !errors.Is(err, inventory.ErrShrunk) {
		t.Errorf("got %v, want a refusal", err)
	}
	if _, err := s.scan(t.Context(), target, m); err != nil {
		t.Errorf("the second time: %v", err)
	}
	same(t, held(s.o.Inventory, "p", ""), map[string]int64{"z": 5})
	s.o.Inventory.Project("p").Drop(inventory.Origin)
	// Compressed is as good.
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(strings.Replace(sampleList, "other/c", "linux/c", 1)))
	_ = z.Close()
	text2 := packed.String()
	list.Store(&text2)
	scan(map[string]int64{"a": 5, "c": 8})
	// One that was cut changes nothing.
	cut := "[Files]\n9\tf\t5\tlinux/c\n"
	list.Store(&cut)
	if _, err := once(t, s, target, m); reasonOf(err) != BadListing {
		t.Errorf("got %v, want a bad listing", err)
	}
	same(t, held(s.o.Inventory, "p", ""), map[string]int64{"a": 5, "c": 8})
	if s.Updated("", "p").After(time.Now()) {
		t.Error("updated in the future")
	}
}
