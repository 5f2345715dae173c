package diskcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func open(t *testing.T, dir string, size int64) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{Size: size, OpenFiles: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func idOf(n int) ID { return ID{byte(n >> 8), byte(n), 1} }

func put(t *testing.T, s *Store, n int, body string) *Entry {
	t.Helper()
	w, err := s.Create(idOf(n), &Meta{Key: fmt.Sprint(n), Status: 200, Header: http.Header{"X": {"y"}}}, int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	e, err := w.Commit(State{Validated: time.Unix(1000, 5), InitialAge: 3 * time.Second, Lifetime: time.Minute, Flags: 4})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func content(t *testing.T, e *Entry) string {
	t.Helper()
	if e == nil {
		return "(no entry)"
	}
	b, err := e.Open()
	if err != nil {
		return err.Error()
	}
	defer b.Close()
	data, err := io.ReadAll(io.NewSectionReader(b, 0, e.Size()))
	if err != nil {
		t.Error(err)
	}
	return string(data)
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	for n := range 20 {
		put(t, s, n, strings.Repeat("x", n*100))
	}
	put(t, s, 3, "newer")
	s.Get(idOf(4)).Mark(func(st *State) { st.Flags |= 1 })
	if err := s.Get(idOf(4)).Save(); err != nil {
		t.Fatal(err)
	}
	s.Delete(s.Get(idOf(5)))
	used := s.Stat().Used
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, dir, 1<<20)
	if st := s.Stat(); st.Entries != 19 || st.Used != used {
		t.Errorf("%+v after the restart, %d bytes before", st, used)
	}
	if got := content(t, s.Get(idOf(3))); got != "newer" {
		t.Errorf("replaced entry: %q", got)
	}
	e := s.Get(idOf(4))
	if st := e.State(); st.Flags != 5 || !st.Validated.Equal(time.Unix(1000, 5)) || st.InitialAge != 3*time.Second || st.Lifetime != time.Minute {
		t.Errorf("state %+v", st)
	}
	if m := e.Meta(); m.Key != "4" || m.Header.Get("X") != "y" {
		t.Errorf("meta %+v", m)
	}
	if s.Get(idOf(5)) != nil {
		t.Error("a deleted entry is back")
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, 1<<20)
	if _, err := Open(t.Context(), dir, Options{Size: 1 << 20}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
}

// Whatever byte of an entry is damaged: it is gone, or right, or known to be
// stale.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	body := strings.Repeat("body", 50)
	put(t, s, 1, body)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "obj", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	good, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, data []byte) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(files[0]), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(context.Background(), dir, Options{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		e := s.Get(idOf(1))
		if e == nil {
			if _, err := os.Stat(files[0]); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: the file is still there", what)
			}
			return
		}
		if e.State().Flags != 4 && e.State().Flags != ^uint32(0) || e.State().Flags == 4 && !e.State().Validated.Equal(time.Unix(1000, 5)) {
			t.Errorf("%s: state %+v", what, e.State())
		}
		if b, err := e.Open(); err == nil {
			b.Close()
			if got := content(t, e); got != body {
				t.Errorf("%s: wrong body", what)
			}
		} else if s.Get(idOf(1)) != nil {
			t.Errorf("%s: a damaged entry stays: %v", what, err)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		check(fmt.Sprintf("byte %d", i), bad)
	}
	for _, n := range []int{0, 10, 63, 64, 100, len(good) - 1} {
		check(fmt.Sprintf("cut to %d", n), good[:n])
	}
	check("longer", append(bytes.Clone(good), 'x'))
	check("whole", good)
}

func TestForeignFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tmp/half", "obj/zz/what", "obj/00/00000000000000000000000000000000-0000000000000001"} {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, 1<<20)
	if st := s.Stat(); st.Entries != 0 || st.Used != 0 {
		t.Errorf("%+v", st)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*", "*", "*"))
	more, err2 := filepath.Glob(filepath.Join(dir, "tmp", "*"))
	if len(left)+len(more) > 0 || err != nil || err2 != nil {
		t.Errorf("left: %v %v", left, more)
	}
}

func TestBodySurvivesEviction(t *testing.T) {
	s := open(t, t.TempDir(), 64<<10)
	body, err := put(t, s, 1, "stays readable").Open()
	if err != nil {
		t.Fatal(err)
	}
	for n := 2; n < 100; n++ {
		put(t, s, n, strings.Repeat("x", 5000))
		if st := s.Stat(); st.Used > 64<<10 {
			t.Fatalf("%+v", st)
		}
	}
	if s.Get(idOf(1)) != nil {
		t.Fatal("not evicted")
	}
	data, err := io.ReadAll(io.NewSectionReader(body, 0, 14))
	if err != nil || string(data) != "stays readable" {
		t.Errorf("%q, %v", data, err)
	}
	body.Close()
}

// A scan of things used once does not drive out what is used often.
func TestScanResistance(t *testing.T) {
	s := open(t, t.TempDir(), 100*(8<<10))
	for n := range 40 {
		put(t, s, n, strings.Repeat("x", 5000))
		s.Get(idOf(n))
	}
	for n := 1000; n < 2000; n++ {
		put(t, s, n, strings.Repeat("x", 5000))
		s.Get(idOf(n % 40))
	}
	kept := 0
	for n := range 40 {
		if s.Peek(idOf(n)) != nil {
			kept++
		}
	}
	if kept < 38 {
		t.Errorf("%d of 40 hot entries are left after a scan", kept)
	}
}

func TestFull(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	if _, err := s.Create(idOf(1), &Meta{}, 2<<20); !errors.Is(err, ErrFull) {
		t.Errorf("twice the size: %v", err)
	}
	w, err := s.Create(idOf(1), &Meta{}, -1)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ; err == nil && n < 100; n++ {
		_, err = w.Write(make([]byte, 100<<10))
	}
	if !errors.Is(err, ErrFull) || n < 4 || n > 6 { // half the store
		t.Errorf("after %d writes: %v", n, err)
	}
	w.Abort()
	if st := s.Stat(); st.Used != 0 {
		t.Errorf("%d bytes are counted after an abort", st.Used)
	}
	if files, err := filepath.Glob(filepath.Join(s.Path("tmp"), "*")); len(files) > 0 || err != nil {
		t.Errorf("left: %v, %v", files, err)
	}
}

// What does not fit beside other writers does not empty the store first.
func TestFullEvictsNothing(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	w, err := s.Create(idOf(1), &Meta{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(State{}); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		w, err := s.Create(idOf(2+n), &Meta{}, 400<<10)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Abort()
	}
	if _, err := s.Create(idOf(9), &Meta{}, 400<<10); !errors.Is(err, ErrFull) {
		t.Errorf("a third one: %v", err)
	}
	if s.Peek(idOf(1)) == nil {
		t.Error("what was stored is gone, for nothing")
	}
}

// A time from a clock that was ahead does not make an entry young for ever.
func TestClockWasAhead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 1<<20)
	w, err := s.Create(idOf(1), &Meta{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(State{Validated: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 1<<20)
	if st := s.Peek(idOf(1)).State(); st.Flags != ^uint32(0) || st.Age(time.Now()) < time.Hour {
		t.Errorf("state %+v", st)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := open(t, t.TempDir(), 256<<10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				n := (g*31 + i*7) % 50
				want := strings.Repeat(string(rune('a'+n%26)), 3000+n)
				if e := s.Get(idOf(n)); e != nil {
					b, err := e.Open()
					if errors.Is(err, fs.ErrNotExist) {
						continue // evicted
					}
					if err != nil {
						t.Error(err)
						return
					}
					data, err := io.ReadAll(io.NewSectionReader(b, 0, e.Size()))
					b.Close()
					if err != nil || string(data) != want {
						t.Errorf("%d: %d bytes, %v", n, len(data), err)
					}
					e.Mark(func(st *State) { st.Flags++ })
					if err := e.Save(); err != nil {
						t.Error(err)
					}
					continue
				}
				put(t, s, n, want)
			}
		})
	}
	wg.Wait()
}

// Entries become durable without anybody asking, a moment after the commit.
func TestCommitDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, 1<<20)
		put(t, s, 1, "x")
		synctest.Wait()
		if files, _ := filepath.Glob(filepath.Join(dir, "obj", "*", "*")); len(files) != 0 {
			t.Errorf("committed at once: %v", files)
		}
		time.Sleep(commitDelay)
		synctest.Wait()
		if files, _ := filepath.Glob(filepath.Join(dir, "obj", "*", "*")); len(files) != 1 {
			t.Errorf("not committed: %v", files)
		}
		if got := content(t, s.Get(idOf(1))); got != "x" {
			t.Errorf("%q", got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func FuzzReadEntry(f *testing.F) {
	meta := []byte(`{"key":"k","status":200,"header":{"A":["b"]}}`)
	h := head{metaLen: uint32(len(meta)), bodyLen: 4}
	f.Add(append(append(h.encode(), meta...), "body"...))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		h, m, err := readEntry(file)
		if err == nil && (m == nil || headSize+int64(h.metaLen)+h.bodyLen != int64(len(data))) {
			t.Errorf("accepted: %+v", h)
		}
	})
}
