// Package storetest holds what each kind of storage must do, as tests: [Objects] for
// object stores, [Store] for a store of files with and without a copy in a bucket. It
// brings the servers for them too.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"freshet/internal/store/bucket"
)

func text(content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

// read returns the content and the description of an object.
func read(t *testing.T, o bucket.Objects, key string) (string, bucket.Object) {
	t.Helper()
	body, about, err := o.Open(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(body)
	if err = errors.Join(err, body.Close()); err != nil {
		t.Fatal(err)
	}
	return string(data), about
}

// Objects runs the contract of [bucket.Objects]. Each call of open returns the same
// bucket, which is empty at first.
func Objects(t *testing.T, o bucket.Objects) {
	t.Helper()
	t.Run("probe", func(t *testing.T) {
		if err := bucket.Probe(t.Context(), o, "probe/"); err != nil {
			t.Fatal(err)
		}
		if keys := list(t, o, "probe/"); len(keys) > 0 {
			t.Errorf("left behind: %q", keys)
		}
	})
	t.Run("create", func(t *testing.T) { testCreate(t, o) })
	t.Run("replace", func(t *testing.T) { testReplace(t, o) })
	t.Run("remove", func(t *testing.T) { testRemove(t, o) })
	t.Run("one of many wins", func(t *testing.T) { testRace(t, o) })
	t.Run("names", func(t *testing.T) { testNames(t, o) })
	t.Run("parts", func(t *testing.T) { testParts(t, o) })
	t.Run("list and delete", func(t *testing.T) { testList(t, o) })
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := o.Create(ctx, "cancelled/a", text("a"), bucket.Headers{}); !errors.Is(err, context.Canceled) {
			t.Errorf("Create = %v", err)
		}
	})
}

func testCreate(t *testing.T, o bucket.Objects) {
	t.Helper()
	if _, err := o.Stat(t.Context(), "create/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of nothing = %v", err)
	}
	if _, _, err := o.Open(t.Context(), "create/a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of nothing = %v", err)
	}
	for i, want := range []bool{true, false} {
		created, err := o.Create(t.Context(), "create/a", text(fmt.Sprint("content ", i)), bucket.Headers{CacheControl: "no-cache"})
		if err != nil || created != want {
			t.Fatalf("Create %d = %v, %v", i, created, err)
		}
	}
	if got, about := read(t, o, "create/a"); got != "content 0" || about.Size != 9 {
		t.Errorf("%q, %+v", got, about)
	}
	if created, err := o.Create(t.Context(), "create/empty", text(""), bucket.Headers{}); !created || err != nil {
		t.Errorf("Create of an empty object = %v, %v", created, err)
	}
	if got, _ := read(t, o, "create/empty"); got != "" {
		t.Errorf("%q", got)
	}
}

func testReplace(t *testing.T, o bucket.Objects) {
	t.Helper()
	const key = "replace/a"
	if _, err := o.Replace(t.Context(), key, text("0"), "0123456789abcdef0123456789abcdef", bucket.Headers{}); !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("replaced an object that is not there: %v", err)
	}
	first, err := o.Replace(t.Context(), key, text("1"), bucket.None, bucket.Headers{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Replace(t.Context(), key, text("2"), bucket.None, bucket.Headers{}); !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("made an object that is there: %v", err)
	}
	second, err := o.Replace(t.Context(), key, text("2"), first, bucket.Headers{})
	if err != nil || second == first {
		t.Fatalf("%v, %v after %v", err, second, first)
	}
	if _, err := o.Replace(t.Context(), key, text("3"), first, bucket.Headers{}); !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("replaced what somebody else replaced: %v", err)
	}
	// The answer to this one was lost, so to speak.
	if again, err := o.Replace(t.Context(), key, text("2"), first, bucket.Headers{}); err != nil || again != second {
		t.Errorf("%v, %v; want %v", again, err, second)
	}
	about, err := o.Stat(t.Context(), key)
	if err != nil || about.Version != second || about.Size != 1 {
		t.Errorf("%+v, %v", about, err)
	}
}

func testRemove(t *testing.T, o bucket.Objects) {
	t.Helper()
	const key = "remove/a+b"
	first, err := o.Replace(t.Context(), key, text("1"), bucket.None, bucket.Headers{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := o.Replace(t.Context(), key, text("2"), first, bucket.Headers{})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Remove(t.Context(), key, first); !errors.Is(err, bucket.ErrConflict) {
		t.Errorf("removed what somebody else wrote: %v", err)
	}
	if got, _ := read(t, o, key); got != "2" {
		t.Errorf("%q", got)
	}
	for range 2 { // of the second, the first one's answer was lost, so to speak
		if err := o.Remove(t.Context(), key, second); err != nil {
			t.Error(err)
		}
		if _, err := o.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is there still: %v", err)
		}
	}
}

// testRace has many replace the same version, and create the same object.
func testRace(t *testing.T, o bucket.Objects) {
	t.Helper()
	first, err := o.Replace(t.Context(), "race/replace", text("-"), bucket.None, bucket.Headers{})
	if err != nil {
		t.Fatal(err)
	}
	var created, replaced atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			if ok, err := o.Create(t.Context(), "race/create", text(fmt.Sprint(i)), bucket.Headers{}); err != nil {
				t.Error(err)
			} else if ok {
				created.Add(1)
			}
			if _, err := o.Replace(t.Context(), "race/replace", text(fmt.Sprint(i)), first, bucket.Headers{}); err == nil {
				replaced.Add(1)
			} else if !errors.Is(err, bucket.ErrConflict) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if created.Load() != 1 || replaced.Load() != 1 {
		t.Errorf("%d created and %d replaced it", created.Load(), replaced.Load())
	}
}

// testNames uses what names of repositories have in them.
func testNames(t *testing.T, o bucket.Objects) {
	t.Helper()
	for _, name := range []string{
		"deltas/aB/c+d_e-f+g/superblock", "deltas/a+/b/0", "refs/heads/app/org.test.App/x86_64/stable", ".signers", "a b/ü%41~!'()*&=;,$@",
	} {
		key := "names/" + name
		if created, err := o.Create(t.Context(), key, text(name), bucket.Headers{}); !created || err != nil {
			t.Errorf("%s: %v, %v", name, created, err)
			continue
		}
		if got, _ := read(t, o, key); got != name {
			t.Errorf("%s: %q", name, got)
		}
		if keys := list(t, o, key); len(keys) != 1 || keys[0] != key {
			t.Errorf("%s: listed as %q", name, keys)
		}
		if err := o.Delete(t.Context(), []string{key}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := o.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: is there still: %v", name, err)
		}
	}
}

// largeSize is that of an object in several parts.
const largeSize = 130 << 20

// large is what a large object consists of.
type large struct{}

func (large) ReadAt(p []byte, offset int64) (int, error) {
	for i := range p {
		at := offset + int64(i)
		p[i] = byte(at ^ at>>13)
	}
	return len(p), nil
}

func testParts(t *testing.T, o bucket.Objects) {
	t.Helper()
	if testing.Short() {
		t.Skip("130 MB")
	}
	content := func() *io.SectionReader { return io.NewSectionReader(large{}, 0, largeSize) }
	for _, want := range []bool{true, false} {
		if created, err := o.Create(t.Context(), "parts/a", content(), bucket.Headers{}); created != want || err != nil {
			t.Fatalf("Create = %v, %v", created, err)
		}
	}
	body, about, err := o.Open(t.Context(), "parts/a")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }() // opened for reading
	if about.Size != largeSize {
		t.Errorf("%d bytes", about.Size)
	}
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	for rest := content(); ; {
		n, err := io.ReadFull(rest, want)
		if errors.Is(err, io.EOF) {
			return
		}
		if _, err := io.ReadFull(body, got[:n]); err != nil || !bytes.Equal(got[:n], want[:n]) {
			t.Fatalf("another content, %v", err)
		}
	}
}

func list(t *testing.T, o bucket.Objects, prefix string) (keys []string) {
	t.Helper()
	err := o.List(t.Context(), prefix, func(object bucket.Object) error {
		keys = append(keys, object.Key)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func testList(t *testing.T, o bucket.Objects) {
	t.Helper()
	const n = 1100 // more than a page
	var all sync.WaitGroup
	limit := make(chan struct{}, 16)
	for i := range n {
		limit <- struct{}{}
		all.Go(func() {
			defer func() { <-limit }()
			if _, err := o.Create(t.Context(), fmt.Sprintf("list/%02x/%d", i%16, i), text("x"), bucket.Headers{}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	keys := list(t, o, "list/")
	if len(keys) != n {
		t.Errorf("%d keys", len(keys))
	}
	for i := 1; i < len(keys); i++ {
		if keys[i-1] >= keys[i] {
			t.Fatalf("%q before %q", keys[i-1], keys[i])
		}
	}
	enough := errors.New("enough")
	if err := o.List(t.Context(), "list/", func(bucket.Object) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("List = %v", err)
	}
	if err := o.Delete(t.Context(), append(keys, "list/never-there")); err != nil {
		t.Fatal(err)
	}
	if keys := list(t, o, "list/"); len(keys) > 0 {
		t.Errorf("left: %q", keys)
	}
}
