package probe

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/durable"
)

// After a restart the director goes on with what it knew: what worked may be used at
// once, what was out needs its good looks and a scan.
func TestRestart(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	inWorld(t, []string{"m", "n"}, func(t *testing.T, w *world) {
		w.options.Folder = folder
		stop := w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.waitUntil("n", true, 10*time.Second)
		w.hosts["n"].lie(lie{dial: refuse})
		w.waitUntil("n", false, bound)
		w.hosts["n"].lie(lie{})
		w.pass(3 * time.Minute) // it waits for its scan
		out := w.prober.State().ways[Way{Mirror: "n", Project: "p"}].Since
		stop()

		w.pass(time.Minute)
		stop = w.run()
		w.waitUntil("m", true, 0)
		w.waitUntil("n", false, 0)
		if since := w.prober.State().ways[Way{Mirror: "n", Project: "p"}].Since; !since.Equal(out) {
			t.Errorf("out since %v, was since %v", since, out)
		}
		if changes := w.prober.History(Way{Mirror: "n", Project: "p"}); len(changes) != 2 || changes[1].Why != Refused {
			t.Errorf("changes: %+v", changes)
		}
		w.pass(5 * time.Minute)
		w.waitUntil("n", false, 0)
		w.scan("n")
		w.waitUntil("n", true, time.Minute)
		stop()

		// After long nothing is believed without a look.
		w.pass(time.Hour)
		stop = w.run()
		w.waitUntil("m", false, 0)
		w.waitUntil("m", true, 10*time.Second)
		stop()
	})
}

// A file that was cut, or has lines that nobody wrote, is read as far as it makes sense.
func TestHistoryDamaged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		folder, now := t.TempDir(), time.Now()
		good := `{"time":"1999-12-31T23:00:00Z","mirror":"m","project":"p","scheme":"https","family":"ipv6","works":true}` + "\n"
		file := good + "{}\n" + strings.Repeat("x", 3*maxLine) + "\n\x00\xff\n[1]\n" + good + good[:40]
		if err := os.WriteFile(filepath.Join(folder, historyFile), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := openHistory(folder, now)
		if err != nil {
			t.Fatal(err)
		}
		w := Way{"m", "p", HTTPS, IPv6}
		if n := len(h.changes[w]); n != 2 || len(h.changes) != 1 {
			t.Errorf("%d changes: %+v", n, h.changes)
		}
		if err := h.add(w, Change{At: now, Why: Frozen, Detail: strings.Repeat("ü", 1000)}); err != nil {
			t.Fatal(err)
		}
		if err := h.close(); err != nil {
			t.Fatal(err)
		}
		if h, err = openHistory(folder, now); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = h.close() }()
		if changes := h.changes[w]; len(changes) != 3 || changes[2].Why != Frozen || !changes[2].At.Equal(now) {
			t.Errorf("changes: %+v", changes)
		}
	})
}

// The file stays short, however often ways change.
func TestHistoryBounded(t *testing.T) {
	t.Parallel()
	folder, now := t.TempDir(), time.Now()
	h, err := openHistory(folder, now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.close() }()
	h.limit = 64 << 10
	w := Way{"m", "p", HTTPS, IPv6}
	longest := int64(0)
	for i := range 5000 {
		if err := h.add(w, Change{At: now, Works: i%2 == 0, Detail: strings.Repeat("d", 200)}); err != nil {
			t.Fatal(err)
		}
		if h.limit > 64<<10 {
			h.limit = 64 << 10
		}
		info, err := os.Stat(filepath.Join(folder, historyFile))
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, info.Size())
	}
	if n := len(h.changes[w]); n != mostChanges || longest > 65<<10 {
		t.Errorf("%d changes are kept, the file was %d bytes long", n, longest)
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"time":"1999-12-31T23:00:00Z","mirror":"m","project":"p","scheme":"https","family":"ipv6","works":true}` + "\n"))
	f.Add([]byte("{}\n[]\n{\"mirror\":\"m\""))
	f.Fuzz(func(t *testing.T, file []byte) {
		h := &history{changes: make(map[Way][]Change)}
		if err := h.read(bytes.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		for w, changes := range h.changes {
			if len(changes) > mostChanges {
				t.Errorf("%d changes of %v", len(changes), w)
			}
			h.judge(w)
		}
	})
}

// While the disk is full the history is kept in memory, and written when it can be.
func TestHistoryFullDisk(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	root, err := os.OpenRoot(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = root.Close() }()
	full := true
	h := &history{changes: make(map[Way][]Change), dir: durable.Dir{Root: root, Fault: func(string, string) error {
		if full {
			return syscall.ENOSPC
		}
		return nil
	}}}
	now, way := time.Now(), Way{Mirror: "m", Project: "p"}
	if err := h.open(now); err != nil || !errors.Is(h.unwritten, syscall.ENOSPC) {
		t.Fatalf("at the start: %v, %v", err, h.unwritten)
	}
	if err := h.add(way, Change{At: now, Works: true}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("while it is full: %v", err)
	}
	full = false
	if err := errors.Join(h.alive(now), h.close()); err != nil {
		t.Fatal(err)
	}
	again, err := openHistory(folder, now)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.close() }()
	if n := len(again.changes[way]); n != 1 {
		t.Errorf("%d changes are known", n)
	}
}
