package diskcache

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// A store on a disk that cannot be written when it is opened holds nothing and
// takes nothing. When the disk works, what was stored is there, but for what
// was banned in between.
func TestOpenOnReadOnlyDisk(t *testing.T) {
	for _, old := range []bool{true, false} {
		disk := mountTmpfs(t, 64<<20)
		dir := filepath.Join(disk, "a", "store")
		if old {
			s := open(t, dir, 32<<20)
			for n := range 20 {
				put(t, s, n, long(n))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Skipf("cannot make the disk read-only: %v", err)
		}
		returned := make(chan struct{})
		s, err := Open(t.Context(), dir, Options{Size: 32 << 20, Returned: func() { close(returned) }})
		if err != nil {
			t.Fatal(err)
		}
		if s.Err() == nil || s.Alert() == nil {
			t.Error("no alert")
		}
		if s.Get(idOf(1)) != nil {
			t.Error("an entry is found")
		}
		if _, err := s.Create(idOf(100), metaOf(100), 3); !errors.Is(err, ErrUnavailable) {
			t.Errorf("create: %v", err)
		}
		s.Ban(Ban{All: true, Prefix: metaOf(1).Path, Fixed: true, Drop: true})
		if s.Sync() == nil {
			t.Error("a ban that is nowhere written is synced")
		}
		if st := s.Stat(); st.Entries != 0 {
			t.Errorf("%+v", st)
		}
		if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, ""); err != nil {
			t.Fatal(err)
		}
		<-returned
		for s.Err() != nil { // from the very moment it is nil
			runtime.Gosched()
		}
		for n := range 20 {
			e := s.Get(idOf(n))
			switch banned := strings.HasPrefix(metaOf(n).Path, metaOf(1).Path); {
			case (!old || banned) && e != nil:
				t.Errorf("entry %d is there", n)
			case old && !banned && (e == nil || content(t, e) != long(n)):
				t.Errorf("entry %d is lost", n)
			}
		}
		eventually(t, "the store works", func() bool { return s.Alert() == nil && s.Sync() == nil })
		eventually(t, "it takes an entry", func() bool { put(t, s, 100, "new"); return s.Get(idOf(100)) != nil })
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = open(t, dir, 32<<20)
		if e := s.Get(idOf(100)); e == nil || s.Get(idOf(1)) != nil {
			t.Error("after another start, the entry is lost or the ban is")
		}
	}
}

// A store that is never usable is closed like any other, and what is no fault of
// a disk is told.
func TestOpenNoFolder(t *testing.T) {
	disk := mountTmpfs(t, 1<<20)
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot make the disk read-only: %v", err)
	}
	s, err := Open(t.Context(), filepath.Join(disk, "store"), Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file, Options{Size: 1 << 20}); err == nil {
		t.Error("a file is taken for a folder")
	}
	wrong := errors.New("somebody else's")
	if _, err := Open(t.Context(), t.TempDir(), Options{Size: 1 << 20, Check: func(string) error { return wrong }}); !errors.Is(err, wrong) {
		t.Errorf("a folder that is not ours: %v", err)
	}
}
