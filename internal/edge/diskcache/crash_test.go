package diskcache

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/peertest"
	"freshet/internal/ramtest"
)

// image copies a store as a kill would leave it now.
func image(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// A mark reaches whatever a crash would bring back, once it is synced: the
// entry that is marked, and the one it replaced a moment ago.
func TestMarkReachesTheReplacedEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the flusher waits in fake time, so nothing is written unasked
		dir := t.TempDir()
		s := open(t, dir, 1<<20)
		put(t, s, 1, "old")
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		second := put(t, s, 1, "new")
		if got := content(t, open(t, image(t, dir), 1<<20).Get(idOf(1))); got != "old" {
			t.Fatalf("a crash brings back %q: the test tests nothing", got)
		}
		second.Mark(func(st *State) { st.Flags |= 1 })
		if err := errors.Join(second.Save(), s.Sync()); err != nil {
			t.Fatal(err)
		}
		e := open(t, image(t, dir), 1<<20).Get(idOf(1))
		if e == nil || e.State().Flags&1 == 0 {
			t.Error("what a crash brings back is not marked")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What a purge does not meet, because it was evicted or deleted before, does
// not come back once the purge is synced.
func TestEvictedStaysEvicted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, 512<<10)
		for n := range 400 {
			put(t, s, n, strings.Repeat("x", 3000))
			if n%3 == 0 {
				s.Get(idOf(n))
			}
			if n%10 == 0 {
				if err := s.Sync(); err != nil { // all of it is on the disk at some time
					t.Fatal(err)
				}
			}
		}
		synctest.Wait() // nothing is evicted from now on
		s.Delete(s.Get(idOf(399)))
		here := make(map[int]bool)
		for n := range 400 {
			if e := s.Peek(idOf(n)); e != nil {
				here[n] = true
				e.Mark(func(st *State) { st.Flags |= 1 })
			}
		}
		if len(here) < 50 || len(here) > 200 {
			t.Fatalf("%d entries are left", len(here))
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		back := open(t, image(t, dir), 4<<20)
		for n := range 400 {
			e := back.Peek(idOf(n))
			if e != nil && (!here[n] || e.State().Flags&1 == 0) {
				t.Errorf("entry %d is back, without the mark", n)
			}
			if e == nil && here[n] {
				t.Errorf("entry %d is lost", n)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A ban is for what is there, at once and after a crash, and for nothing that
// comes later.
func TestBan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, 4<<20)
		for n := range 40 {
			put(t, s, n, "x")
		}
		held := s.Get(idOf(11))
		s.Ban(Ban{Site: "site", Flags: 1})                               // what may change
		s.Ban(Ban{Site: "site", Prefix: "/3", Flags: 2, Fixed: true})    // some paths
		s.Ban(Ban{Site: "another", Flags: 8, Fixed: true})               // nothing
		put(t, s, 13, "later")                                           // no more
		s.Get(idOf(15)).Mark(func(st *State) { *st = State{Flags: 16} }) // validated anew
		check := func(s *Store) {
			t.Helper()
			for n := range 40 {
				want := uint32(4)
				if n%2 == 1 {
					want |= 1
				}
				if strings.HasPrefix(fmt.Sprint(n), "3") {
					want |= 2
				}
				switch n {
				case 13:
					want = 4
				case 15:
					want = 16
				}
				if got := s.Get(idOf(n)).State().Flags; got != want {
					t.Errorf("entry %d has flags %d, want %d", n, got, want)
				}
			}
		}
		check(s)
		if held.State().Flags != 5 {
			t.Error("who holds an entry does not see the ban")
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		back := open(t, image(t, dir), 4<<20)
		check(back)
		if err := back.checkpoint(); err != nil {
			t.Fatal(err)
		}
		check(open(t, image(t, back.dir), 4<<20))
		// A ban can also drop what it is for.
		s.Ban(Ban{Site: "site", Prefix: "/2", Fixed: true, Drop: true})
		put(t, s, 20, "later")
		dropped := func(s *Store) {
			t.Helper()
			for n := range 40 {
				gone := n != 20 && strings.HasPrefix(fmt.Sprint(n), "2")
				if e := s.Get(idOf(n)); (e == nil) != gone {
					t.Errorf("entry %d: %v", n, e != nil)
				}
			}
		}
		if err := s.Sync(); err != nil {
			t.Fatal(err)
		}
		dropped(open(t, image(t, dir), 4<<20))
		dropped(s)
		// However many there are, the list is short, and nothing is forgotten.
		for i := range 3 * maxBans {
			s.Ban(Ban{Site: fmt.Sprint("site", i), Flags: 32})
		}
		if n := len(s.bans.snapshot()); n > maxBans {
			t.Errorf("%d bans", n)
		}
		if s.Get(idOf(7)).State().Flags&1 == 0 || s.Get(idOf(30)).State().Flags&2 == 0 {
			t.Error("a ban is forgotten")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// childDir makes the test binary write to a store until it is killed; a store
// in a folder "large" has room for everything.
const childDir = "FRESHET_TEST_STORE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		fmt.Fprintln(os.Stderr, writeForever(dir))
		os.Exit(1)
	}
	if dir := os.Getenv(startDir); dir != "" {
		if err := reportStart(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(ramtest.Run(m))
}

func killedSize(dir string) int64 {
	if filepath.Base(dir) == "large" {
		return 8 << 30
	}
	return 48 << 20
}

// bodyOf is the one true body of an entry.
func bodyOf(n int) string {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, int64(n))
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	length := r.IntN(6000)
	if r.IntN(20) == 0 {
		length *= 60
	}
	b := make([]byte, length)
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return string(b)
}

// place is one in the logs of the index: so much of the log of a number.
type place struct {
	log  uint32
	size int64
}

// recorded is where the log will end when all that was added to it is written.
func recorded(l *indexLog) place {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	return place{l.num, l.size + int64(len(l.buf))}
}

// written tells whether the log is written as far as there.
func written(l *indexLog, p place) bool {
	l.flushMu.Lock()
	defer l.flushMu.Unlock()
	return l.num > p.log || l.num == p.log && l.size >= p.size // before the next one, each is written whole
}

// What was committed is written a moment later.
func TestWrittenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		s := open(t, dir, 1<<20)
		put(t, s, 1, "x")
		time.Sleep(flushDelay)
		synctest.Wait()
		if got := content(t, open(t, image(t, dir), 1<<20).Get(idOf(1))); got != "x" {
			t.Errorf("after %v a kill leaves %q", flushDelay, got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// writeForever stores, replaces, marks and reads entries, and says which, as soon
// as the log is written that tells of them.
func writeForever(dir string) error {
	s, err := Open(context.Background(), dir, Options{Size: killedSize(dir)})
	if err != nil {
		return err
	}
	type done struct {
		n  int
		at place
	}
	var told []done
	out := bufio.NewWriter(os.Stdout)
	r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
	fmt.Println("ready")
	for i := 0; ; i++ {
		n := r.IntN(8000) // 60 MB or so: some are evicted
		if e := s.Get(idOf(n)); e != nil && r.IntN(4) > 0 {
			if b, err := e.Open(); err == nil {
				b.Close()
			}
			if r.IntN(8) == 0 {
				e.Freshen(e.Meta(), e.State())
			}
			continue
		}
		body := bodyOf(n)
		w, err := s.Create(idOf(n), metaOf(n), int64(len(body)))
		if err != nil {
			continue
		}
		if _, err := w.Write([]byte(body)); err != nil {
			return err
		}
		if _, err := w.Commit(stateOf()); err != nil {
			return err
		}
		told = append(told, done{n, recorded(&s.log)})
		for len(told) > 0 && written(&s.log, told[0].at) {
			// Safe by now, unless it is not wanted any more.
			if s.Peek(idOf(told[0].n)) != nil {
				fmt.Fprintf(out, "%d whole\n", told[0].n)
			}
			told = told[1:]
		}
		_ = out.Flush()
	}
}

// A store that is killed while it is written to has what was committed and written
// before, and never a wrong byte.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	parent := t.TempDir()
	var promised, lost int
	for round := range 8 {
		// In the small one much is evicted all the time.
		dir := filepath.Join(parent, []string{"large", "small"}[round%2])
		cmd := peertest.Command(t, os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stderr = os.Stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		if !lines.Scan() {
			t.Fatal("the child did not start")
		}
		var safe []int
		for last := 300 + rand.IntN(1000); lines.Scan(); {
			var n int
			if text, ok := strings.CutSuffix(lines.Text(), " whole"); ok { // not cut by the kill
				if _, err := fmt.Sscan(text, &n); err != nil {
					t.Fatal(err)
				}
				safe = append(safe, n)
			}
			if len(safe) == last { // some more may come before it has ended
				_ = cmd.Process.Kill()
			}
		}
		_ = cmd.Wait()

		s, err := Open(t.Context(), dir, Options{Size: killedSize(dir), Memory: -1})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for e := range s.All() {
			n++
			var i int
			if _, err := fmt.Sscan(e.Meta().Key, &i); err != nil || e.ID() != idOf(i) {
				t.Fatalf("entry %v says it is %q", e.ID(), e.Meta().Key)
			}
			if got := content(t, e); got != bodyOf(i) && !strings.Contains(got, "no such file") {
				t.Errorf("round %d: entry %d is wrong: %.60q", round, i, got)
			}
		}
		for _, i := range safe {
			if round%2 == 1 {
				break // it may have been evicted since
			}
			promised++
			if s.Peek(idOf(i)) == nil {
				lost++
			}
		}
		if used := diskUsage(t, dir); used > killedSize(dir) {
			t.Errorf("round %d: %d bytes on the disk", round, used)
		}
		if st := s.Stat(); st.Damaged > 0 || n == 0 {
			t.Errorf("round %d: %+v", round, st)
		}
		left, err := filepath.Glob(filepath.Join(dir, "tmp", "*"))
		if err != nil || len(left) > 0 {
			t.Errorf("round %d: temporary files are left: %v %v", round, left, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("of %d entries that were written before the kill %d are lost", promised, lost)
	if promised < 1200 || lost > 0 {
		t.Errorf("of %d entries that were written before the kill %d are lost", promised, lost)
	}
}
