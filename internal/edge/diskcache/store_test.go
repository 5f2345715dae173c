package diskcache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func open(t testing.TB, dir string, size int64) *Store {
	t.Helper()
	s, err := Open(t.Context(), dir, Options{Size: size, OpenFiles: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func idOf(n int) ID { return ID{byte(n >> 8), byte(n), 1} }

func metaOf(n int) *Meta {
	return &Meta{
		Key: fmt.Sprint(n), Site: "site", URI: fmt.Sprintf("/%d?q", n), Path: fmt.Sprintf("/%d", n), Vary: []string{"Accept"}, VaryKey: "*/*",
		Status: 200, Header: http.Header{"X": {"y"}, "Two": {"a", "b"}}, Fixed: n%2 == 0, Listed: n%10 == 0,
	}
}

func stateOf() State {
	return State{Validated: time.Unix(1000, 5), InitialAge: 3500 * time.Millisecond, Lifetime: time.Minute, Flags: 4}
}

// put stores a body; it goes to a file if it is long.
func put(t testing.TB, s *Store, n int, body string) *Entry {
	t.Helper()
	w, err := s.Create(idOf(n), metaOf(n), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, body); err != nil {
		t.Fatal(err)
	}
	e, err := w.Commit(stateOf())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func content(t testing.TB, e *Entry) string {
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
		return err.Error()
	}
	return string(data)
}

func long(n int) string { return strings.Repeat(fmt.Sprintf("%08d", n), 20_000+n) }

// diskUsage is what the files of a store take, as the store counts it.
func diskUsage(t testing.TB, dir string) int64 {
	t.Helper()
	var n int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && d.Name() != "lock" && d.Name() != storeFile {
			n += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestReopen(t *testing.T) {
	for _, how := range []string{"close", "crash"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, 16<<20)
			for n := range 20 {
				put(t, s, n, strings.Repeat("x", n*100))
			}
			put(t, s, 3, "newer")
			put(t, s, 30, long(30))
			put(t, s, 31, long(31))
			put(t, s, 31, long(32))
			s.Get(idOf(4)).Mark(func(st *State) { st.Flags |= 1 })
			if err := s.Get(idOf(4)).Save(); err != nil {
				t.Fatal(err)
			}
			s.Delete(s.Get(idOf(5)))
			s.Delete(s.Get(idOf(30)))
			m := metaOf(6)
			m.Header = http.Header{"Fresh": {"yes"}}
			s.Get(idOf(6)).Freshen(m, State{Validated: time.Unix(2000, 0), Flags: 9})
			if err := s.log.flush(); err != nil {
				t.Fatal(err)
			}
			if how == "close" {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				image := t.TempDir()
				if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
					t.Fatal(err)
				}
				dir = image
			}

			s = open(t, dir, 16<<20)
			if st := s.Stat(); st.Entries != 20 {
				t.Errorf("%+v after the restart", st)
			}
			if got := content(t, s.Get(idOf(3))); got != "newer" {
				t.Errorf("replaced entry: %q", got)
			}
			if got := content(t, s.Get(idOf(31))); got != long(32) {
				t.Errorf("replaced long entry: %d bytes %.40q", len(got), got)
			}
			e := s.Get(idOf(4))
			if st := e.State(); st.Flags != 5 || !st.Validated.Equal(time.Unix(1000, 5)) || st.InitialAge != 3500*time.Millisecond || st.Lifetime != time.Minute {
				t.Errorf("state %+v", st)
			}
			if m, want := e.Meta(), metaOf(4); fmt.Sprint(*m) != fmt.Sprint(*want) {
				t.Errorf("meta %+v, want %+v", m, want)
			}
			if e := s.Get(idOf(6)); e.State().Flags != 9 || e.Meta().Header.Get("Fresh") != "yes" || content(t, e) != strings.Repeat("x", 600) {
				t.Errorf("freshened entry: %+v %+v", e.State(), e.Meta())
			}
			if s.Get(idOf(5)) != nil || s.Get(idOf(30)) != nil {
				t.Error("a deleted entry is back")
			}
			n := 0
			for range s.Listed() {
				n++
			}
			if n != 2 {
				t.Errorf("%d entries are listed, want 2", n)
			}
			for e := range s.All() {
				if err := s.Verify(e); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, 1<<20)
	if _, err := Open(t.Context(), dir, Options{Size: 1 << 20}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
}

func TestForeignFilesAreRemoved(t *testing.T) {
	dir := t.TempDir()
	if err := open(t, dir, 1<<20).Close(); err != nil {
		t.Fatal(err)
	}
	names := []string{"tmp/half", "obj/zz/what", "seg/0000000f", "seg/x", "big/00/00000000000000000000000000000000-0000000000000001", "big/00/what"}
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, dir, 1<<20)
	if st := s.Stat(); st.Entries != 0 {
		t.Errorf("%+v", st)
	}
	eventually(t, "the scrubber is through", func() bool {
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
				return false
			}
		}
		return true
	})
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestBodySurvivesEviction(t *testing.T) {
	s := open(t, t.TempDir(), 4<<20)
	for _, body := range []string{"stays readable", long(1)} {
		b, err := put(t, s, 1, body).Open()
		if err != nil {
			t.Fatal(err)
		}
		for n := 2; n < 700; n++ {
			put(t, s, 2*n, strings.Repeat("x", 9000))
			if st := s.Stat(); st.Used > 4<<20 {
				t.Fatalf("%+v", st)
			}
		}
		for n := range 300 {
			put(t, s, 2*n+1, strings.Repeat("x", 9000))
		}
		if s.Get(idOf(1)) != nil && content(t, s.Get(idOf(1))) == body {
			t.Fatal("not evicted")
		}
		data, err := io.ReadAll(io.NewSectionReader(b, 0, int64(len(body))))
		if err != nil || string(data) != body {
			t.Errorf("%.40q, %v", data, err)
		}
		b.Close()
	}
}

// A scan of things used once does not drive out what is used often.
func TestScanResistance(t *testing.T) {
	s := open(t, t.TempDir(), 100*(8<<10))
	for n := range 40 {
		put(t, s, 2*n, strings.Repeat("x", 5000))
		s.Get(idOf(2 * n))
	}
	for n := 1000; n < 3000; n++ {
		put(t, s, 2*n, strings.Repeat("x", 5000))
		s.Get(idOf(2 * (n % 40)))
	}
	kept := 0
	for n := range 40 {
		if s.Peek(idOf(2*n)) != nil {
			kept++
		}
	}
	if kept < 38 {
		t.Errorf("%d of 40 hot entries are left after a scan", kept)
	}
	if st := s.Stat(); st.Evicted < 1000 {
		t.Errorf("%+v", st)
	}
}

// Each kind of entry has its share, and may use what the other does not.
func TestShares(t *testing.T) {
	s := open(t, t.TempDir(), 8<<20)
	count := func() (fixed, changeable int) {
		for e := range s.All() {
			if e.Meta().Fixed {
				fixed++
			} else {
				changeable++
			}
		}
		return fixed, changeable
	}
	body := strings.Repeat("x", 8000)
	for n := range 2000 {
		put(t, s, 2*n, body)
	}
	alone, _ := count()
	for n := range 2000 {
		put(t, s, 2*n+1, body)
	}
	fixed, changeable := count()
	for n := 2000; n < 4000; n++ {
		put(t, s, 2*n, body)
	}
	fixed2, changeable2 := count()
	if alone < 850 || fixed < 600 || fixed > 800 || changeable < 180 || changeable2 < 180 || fixed2 < 600 {
		t.Errorf("%d alone; %d and %d; %d and %d", alone, fixed, changeable, fixed2, changeable2)
	}
}

// A long body that would drive out others is kept when it is wanted again.
func TestSecondSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, t.TempDir(), 16<<20)
		body := strings.Repeat("x", 2<<20)
		n := 0
		for ; s.Stat().Evicted == 0; n++ {
			put(t, s, 2*n, body[:1<<20-1])
		}
		_, err := s.Create(idOf(9001), metaOf(9001), int64(len(body)))
		if !errors.Is(err, ErrFirstSight) || s.Stat().Refused != 1 {
			t.Errorf("first sight: %v", err)
		}
		put(t, s, 9001, body)
		if _, err := s.Create(idOf(9003), metaOf(9003), int64(len(body))); !errors.Is(err, ErrFirstSight) {
			t.Errorf("another: %v", err)
		}
		time.Sleep(25 * time.Hour)
		if _, err := s.Create(idOf(9003), metaOf(9003), int64(len(body))); !errors.Is(err, ErrFirstSight) {
			t.Errorf("again after a day: %v", err)
		}
		if got := content(t, s.Get(idOf(9001))); got != body {
			t.Errorf("%d bytes", len(got))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestFull(t *testing.T) {
	s := open(t, t.TempDir(), 1<<20)
	before := s.Stat().Used
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
	if st := s.Stat(); st.Used != before {
		t.Errorf("%d bytes are counted after an abort, %d before", st.Used, before)
	}
	if files, err := filepath.Glob(filepath.Join(s.Path("tmp"), "*")); len(files) > 0 || err != nil {
		t.Errorf("left: %v, %v", files, err)
	}
	if s.Alert() != nil {
		t.Errorf("a store that is full is none to worry about: %v", s.Alert())
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
	s := open(t, t.TempDir(), 2<<20)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				n := (g*31 + i*7) % 70
				want := strings.Repeat(string(rune('a'+n%26)), 3000+n)
				if n%7 == 0 {
					want = strings.Repeat(want, 30)
				}
				if e := s.Get(idOf(n)); e != nil {
					got := content(t, e)
					if got != want && !strings.Contains(got, "no such file") && !strings.Contains(got, "does not exist") {
						t.Errorf("%d: %d bytes, want %d: %.40q", n, len(got), len(want), got)
					}
					switch i % 6 {
					case 0:
						e.Mark(func(st *State) { st.Flags++ })
						if err := e.Save(); err != nil {
							t.Error(err)
						}
					case 1:
						e.Freshen(e.Meta(), e.State())
					case 2:
						s.Delete(e)
					case 3:
						e.State()
					}
					continue
				}
				w, err := s.Create(idOf(n), metaOf(n), int64(len(want)))
				if errors.Is(err, ErrFull) {
					continue // all that room is promised to others
				}
				if err != nil {
					t.Error(err)
					return
				}
				release := w.Retain()
				for rest := want; rest != ""; {
					k := min(len(rest), 20_000)
					if _, err := io.WriteString(w, rest[:k]); err != nil {
						t.Error(err)
					}
					rest = rest[k:]
				}
				if i%9 == 0 {
					w.Abort()
				} else if _, err := w.Commit(stateOf()); err != nil {
					t.Error(err)
				}
				b := make([]byte, len(want))
				if _, err := w.ReadAt(b, 0); err != nil || string(b) != want {
					t.Errorf("%d: read along: %v", n, err)
				}
				release()
				if i%50 == 0 {
					if err := s.checkpoint(); err != nil && !errors.Is(err, ErrFull) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if st := s.Stat(); st.Used > 2<<20 || st.Damaged > 0 {
		t.Errorf("%+v", st)
	}
	if err := s.Alert(); err != nil {
		t.Error(err)
	}
}

// A store that is opened with a smaller size shrinks.
func TestSmaller(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 16<<20)
	for n := range 1500 {
		put(t, s, n, strings.Repeat("x", 8000))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, 4<<20)
	eventually(t, "it is smaller", func() bool { return s.Stat().Used < 4<<20 && diskUsage(t, dir) < 4<<20 })
	if st := s.Stat(); st.Entries < 200 {
		t.Errorf("%+v", st)
	}
}
