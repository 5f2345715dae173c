package diskcache

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// mountTmpfs makes a small disk.
func mountTmpfs(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// churn puts and reads entries; whatever the disk does, nothing is wrong.
func churn(t *testing.T, s *Store, from, to int) (stored int) {
	t.Helper()
	for n := from; n < to; n++ {
		body := bodyOf(n)
		w, err := s.Create(idOf(n), metaOf(n), int64(len(body)))
		if err != nil {
			continue
		}
		if _, err := w.Write([]byte(body)); err != nil {
			w.Abort()
			continue
		}
		e, err := w.Commit(stateOf())
		if err != nil {
			t.Errorf("commit: %v", err)
			continue
		}
		if got := content(t, e); got != body {
			t.Errorf("entry %d cannot be read by who made it: %.60q", n, got)
		}
		if e := s.Get(idOf(n)); e != nil {
			stored++
			e.Mark(func(st *State) { st.Flags |= 1 })
		}
		if e := s.Get(idOf(from + rand.IntN(n-from+1))); e != nil {
			var i int
			if _, err := fmt.Sscan(e.Meta().Key, &i); err != nil {
				t.Error(err)
			}
			if got := content(t, e); got != bodyOf(i) && !strings.Contains(got, "no such file") {
				t.Errorf("entry %d is wrong: %.60q", i, got)
			}
		}
	}
	return stored
}

// On a disk that others fill, the store takes what there is, and its size again
// when there is room.
func TestDiskFull(t *testing.T) {
	disk := mountTmpfs(t, 24<<20)
	dir := filepath.Join(disk, "store")
	s := open(t, dir, 64<<20)
	if stored := churn(t, s, 0, 4000); stored < 3500 {
		t.Errorf("%d entries were stored on a small disk", stored)
	}
	if s.Alert() == nil {
		t.Error("no alert")
	}
	if st := s.Stat(); st.Used > 24<<20 || st.Used < 12<<20 {
		t.Errorf("%+v", st)
	}
	// Somebody else takes half of what there is.
	other := filepath.Join(disk, "other")
	f, err := os.Create(other)
	if err != nil {
		t.Fatal(err)
	}
	for range 12 {
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			break
		}
	}
	_ = f.Close()
	if stored := churn(t, s, 6000, 8000); stored < 1000 {
		t.Errorf("%d entries were stored on a disk that is full of others", stored)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	s = open(t, dir, 64<<20)
	for e := range s.All() {
		var i int
		if _, err := fmt.Sscan(e.Meta().Key, &i); err != nil {
			t.Error(err)
		}
		if got := content(t, e); got != bodyOf(i) && !strings.Contains(got, "no such file") {
			t.Errorf("after the restart, entry %d is wrong: %.60q", i, got)
		}
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, "size=128m"); err != nil {
		t.Fatal(err)
	}
	churn(t, s, 9000, 9100)
	eventually(t, "the alert ends", func() bool { return s.Alert() == nil && s.Stat().Limit == 64<<20 })
	if stored := churn(t, s, 0, 6000); stored < 5990 || s.Stat().Used < 30<<20 {
		t.Errorf("%d entries are stored when there is room again, %+v", stored, s.Stat())
	}
}

// How much a disk lacks for its store follows what others have on it.
func TestShort(t *testing.T) {
	disk := mountTmpfs(t, 24<<20)
	s := open(t, filepath.Join(disk, "store"), 16<<20)
	short := func() int64 {
		t.Helper()
		n, err := s.Short()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	put(t, s, 1, strings.Repeat("x", 4<<20)) // what is stored needs no room any more
	if n := short(); n != 0 {
		t.Errorf("%d bytes lack on a disk that is large enough", n)
	}
	other := filepath.Join(disk, "other")
	if err := os.WriteFile(other, make([]byte, 14<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if n := short(); n < 6<<20 || n > 7<<20 {
		t.Errorf("%d bytes lack, want 6 MiB and some", n)
	}
	if err := os.Remove(other); err != nil {
		t.Fatal(err)
	}
	if n := short(); n != 0 {
		t.Errorf("%d bytes lack when there is room again", n)
	}
}

// A disk that cannot be written still gives what it has.
func TestReadOnly(t *testing.T) {
	disk := mountTmpfs(t, 64<<20)
	dir := filepath.Join(disk, "store")
	s := open(t, dir, 32<<20)
	churn(t, s, 0, 300)
	readOnly := func(flag uintptr) error {
		return syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|flag, "")
	}
	// Files that are open for writing keep it from becoming read-only; a failing
	// disk is the same to the store.
	if err := readOnly(syscall.MS_RDONLY); err != nil {
		for _, seg := range s.segs.all() {
			f, err := os.Open(filepath.Join(dir, seg.name()))
			if err != nil {
				t.Fatal(err)
			}
			_ = syscall.Dup3(int(f.Fd()), int(seg.f.Fd()), 0)
			_ = f.Close()
		}
		s.log.flushMu.Lock()
		f, err := os.Open(filepath.Join(dir, logName(s.log.num)))
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Dup3(int(f.Fd()), int(s.log.f.Fd()), 0)
		_ = f.Close()
		s.log.flushMu.Unlock()
		s.files.closeAll()
		f, err = os.Open(filepath.Join(dir, "lock"))
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Dup3(int(f.Fd()), int(s.home.Load().lock.Fd()), 0)
		_ = f.Close()
		if err := readOnly(syscall.MS_RDONLY); err != nil {
			t.Skipf("cannot make the disk read-only: %v", err)
		}
	}
	found := 0
	for n := range 300 {
		if e := s.Get(idOf(n)); e != nil {
			if got := content(t, e); got == bodyOf(n) {
				found++
			} else {
				t.Errorf("entry %d: %.60q", n, got)
			}
		}
	}
	if found < 290 {
		t.Errorf("%d of 300 entries are found", found)
	}
	stored := churn(t, s, 1000, 1100)
	if stored > 0 || s.Err() == nil {
		t.Errorf("%d entries were stored on a disk that cannot be written: %v", stored, s.Err())
	}
	e := s.Get(idOf(1))
	e.Mark(func(st *State) { st.Flags |= 1 })
	if err := e.Save(); err == nil {
		t.Error("a mark that cannot be written is saved")
	}
	if s.Sync() == nil {
		t.Error("a purge that cannot be written is synced")
	}
	if e := s.Get(idOf(1)); e != nil && e.State().Flags&1 == 0 {
		t.Error("a mark is lost")
	}
	if err := readOnly(0); err != nil {
		t.Fatal(err)
	}
}

// A store whose folder is removed begins anew, and so does one of which a part
// is gone.
func TestFolderRemoved(t *testing.T) {
	for _, what := range []string{".", "seg", "index", "big", "tmp", storeFile} {
		t.Run(what, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "store")
			s := open(t, dir, 32<<20)
			churn(t, s, 0, 200)
			if err := os.RemoveAll(filepath.Join(dir, what)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the store works again", func() bool {
				churn(t, s, 200, 210)
				st, err := os.Stat(filepath.Join(dir, "seg"))
				return err == nil && st.IsDir() && s.Alert() == nil && !s.home.Load().gone()
			})
			if stored := churn(t, s, 300, 500); stored != 200 {
				t.Errorf("%d of 200 entries are stored", stored)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = open(t, dir, 32<<20)
			for n := 300; n < 500; n++ {
				if e := s.Get(idOf(n)); e == nil || content(t, e) != bodyOf(n) {
					t.Fatalf("entry %d is lost", n)
				}
			}
			if used := diskUsage(t, dir); used > s.Stat().Used+64<<10 {
				t.Errorf("%d bytes on the disk, %d counted", used, s.Stat().Used)
			}
			if _, err := Open(t.Context(), dir, Options{Size: 1 << 20}); err == nil {
				t.Error("the folder is not locked any more")
			}
		})
	}
}

// A file of a body that somebody removed or cut costs that entry only.
func TestBodyFileGone(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 32<<20)
	for n := range 3 {
		put(t, s, n, long(n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "big", "*", "*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	s = open(t, dir, 32<<20)
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(files[1], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("#"), 100_000); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	right := 0
	for n := range 3 {
		e := s.Get(idOf(n))
		got := content(t, e)
		switch {
		case got == long(n):
			right++
		case !strings.Contains(got, "damaged") && !strings.Contains(got, fs.ErrNotExist.Error()) && !strings.Contains(got, "no such file"):
			t.Errorf("entry %d: %.60q", n, got)
		case s.Peek(idOf(n)) != nil:
			t.Errorf("entry %d stays", n)
		}
	}
	if right != 1 {
		t.Errorf("%d entries are right, want 1", right)
	}
}

// A disk that others fill to the last byte keeps no store from being opened:
// what is there is found, and a moment later something is given back, so that
// the log begins.
func TestOpenOnFullDisk(t *testing.T) {
	for _, lost := range []bool{false, true} { // the index with it
		t.Run(fmt.Sprintf("index lost %v", lost), func(t *testing.T) {
			disk := mountTmpfs(t, 24<<20)
			dir := filepath.Join(disk, "store")
			s := open(t, dir, 16<<20)
			churn(t, s, 0, 1500)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if lost {
				logs, err := filepath.Glob(filepath.Join(dir, "index", "*"))
				if err != nil || len(logs) == 0 {
					t.Fatal(logs, err)
				}
				for _, name := range logs {
					if err := os.Remove(name); err != nil {
						t.Fatal(err)
					}
				}
			}
			f, err := os.Create(filepath.Join(disk, "other"))
			if err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			_ = f.Close()
			s = open(t, dir, 16<<20)
			if s.Alert() == nil {
				t.Error("no alert")
			}
			found := 0
			for n := range 1500 {
				if e := s.Get(idOf(n)); e != nil && content(t, e) == bodyOf(n) {
					found++
				}
			}
			if found < 500 {
				t.Errorf("%d entries are found", found)
			}
			eventually(t, "the log begins", func() bool { return s.Sync() == nil })
			put(t, s, 9999, "new")
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			s = open(t, dir, 16<<20)
			if e := s.Get(idOf(9999)); e == nil || content(t, e) != "new" {
				t.Error("what was stored after the start is lost")
			}
		})
	}
}
