package spool_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/api/watchapi"
	"freshet/internal/telemetry/spool"
)

func open(t *testing.T, dir string, o spool.Options) *spool.Spool {
	t.Helper()
	o.Node = "box"
	s, err := spool.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// line counts a request of so many bytes.
func line(label string, bytes int64) []watchapi.Line {
	now := time.Now().Unix()
	return []watchapi.Line{
		{Count: &watchapi.Count{Cube: "b", Width: 60, At: now - now%60, Labels: []string{label}, Requests: 1, Bytes: bytes}},
		{Count: &watchapi.Count{Cube: "g", Width: 60, At: now - now%60, Labels: []string{label}, Times: []watchapi.Bucket{{3, 1}}}},
	}
}

func add(t *testing.T, s *spool.Spool, lines []watchapi.Line) {
	t.Helper()
	if err := s.Add(time.Now(), time.Now(), lines); err != nil {
		t.Fatal(err)
	}
}

// delivered takes all batches out, and returns what they count, what was dropped, and how many they were. Numbers must
// follow one another, or what is missing must be told.
func delivered(t *testing.T, s *spool.Spool) (sum spool.Sum, dropped watchapi.Dropped, batches int) {
	t.Helper()
	last := make(map[string]int64)
	for {
		b, ok := s.Next()
		if !ok {
			return sum, dropped, batches
		}
		batches++
		if b.First <= last[b.Epoch] {
			t.Errorf("batch %v after number %d", b.ID, last[b.Epoch])
		}
		last[b.Epoch] = b.Last
		err := spool.Decode(bytes.NewReader(b.Body), func(watchapi.Head) error { return nil }, func(l watchapi.Line) error {
			if l.Dropped != nil {
				dropped.Requests += l.Dropped.Requests
				dropped.Bytes += l.Dropped.Bytes
				dropped.Reason = l.Dropped.Reason
			}
			sum.Add(l)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Done(b)
	}
}

func check(t *testing.T, sum spool.Sum, requests, bytes int64) {
	t.Helper()
	if n, b := sum.Served(); n != requests || b != bytes {
		t.Errorf("%d requests and %d bytes, want %d and %d", n, b, requests, bytes)
	}
}

// Many batches are merged, but never the oldest; nothing is lost, also when the process ends in between.
func TestMerges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "spool")
		s := open(t, dir, spool.Options{Files: 50})
		add(t, s, line("x", 1))
		first, _ := s.Next()
		for i := range 400 {
			time.Sleep(5 * time.Second)
			add(t, s, line(fmt.Sprint(i%5), int64(i)))
			if i == 200 { // killed
				_ = s.Close()
				s = open(t, dir, spool.Options{Files: 50})
			}
		}
		if again, _ := s.Next(); again.ID != first.ID || !bytes.Equal(again.Body, first.Body) {
			t.Errorf("the oldest batch has become %v", again.ID)
		}
		if st := s.Stat(); st.Batches > 51 || st.Dropped.Batches > 0 {
			t.Errorf("%+v", st)
		}
		sum, _, batches := delivered(t, s)
		check(t, sum, 401, 1+400*399/2)
		times := int64(0)
		for _, l := range sum.Lines() {
			if l.Count != nil && l.Width != 60 {
				t.Errorf("minutes were lost: %+v", l.Count)
			}
			if l.Count != nil && l.Cube == "g" {
				for _, b := range l.Times {
					times += b[1]
				}
			}
		}
		if batches > 51 || times != 401 {
			t.Errorf("%d batches, %d times", batches, times)
		}
		_ = s.Close()
	})
}

// What a crash leaves of a merge is put right: a merged batch takes the place of those that it was made of.
func TestCrashInMerge(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, spool.Options{Files: 3})
	kept := make(map[string][]byte)
	for i := range 6 {
		add(t, s, line("x", int64(i)))
		files, _ := filepath.Glob(filepath.Join(dir, "*.batch"))
		for _, name := range files {
			if kept[name] == nil {
				kept[name], _ = os.ReadFile(name)
			}
		}
	}
	_ = s.Close()
	for name, body := range kept { // none was removed yet
		if err := os.WriteFile(name, body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ".durable-left"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, spool.Options{})
	defer s.Close()
	sum, _, _ := delivered(t, s)
	check(t, sum, 6, 15)
	if left, _ := filepath.Glob(filepath.Join(dir, ".durable-*")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

// In a full spool minutes become hours, and then the oldest batches are dropped; the sum of what is delivered and of what is
// told to be dropped is right.
func TestFull(t *testing.T) {
	for name, c := range map[string]struct {
		labels int
		drops  bool
	}{"few labels": {2, false}, "many labels": {100, true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := open(t, filepath.Join(t.TempDir(), "spool"), spool.Options{Bytes: 1500})
				want, times := int64(0), 300
				for i := range times {
					time.Sleep(time.Minute)
					add(t, s, line(strings.Repeat("x", 1+i%c.labels), int64(i)))
					want += int64(i)
					if st := s.Stat(); st.Bytes > 3000 {
						t.Fatalf("%+v after %d batches", st, i)
					}
				}
				sum, dropped, _ := delivered(t, s)
				n, b := sum.Served()
				if n+dropped.Requests != int64(times) || b+dropped.Bytes != want || dropped.Requests > 0 != c.drops {
					t.Errorf("%d and %d requests, %d and %d bytes, want %d and %d", n, dropped.Requests, b, dropped.Bytes, times, want)
				}
				hours := false
				for _, l := range sum.Lines() {
					hours = hours || l.Count != nil && l.Width == 3600
				}
				if !hours && !c.drops {
					t.Error("no minutes became hours")
				}
				_ = s.Close()
			})
		})
	}
}

// What is too old is dropped, and told.
func TestOld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t, filepath.Join(t.TempDir(), "spool"), spool.Options{Age: time.Hour})
		for range 10 {
			add(t, s, line("x", 7))
			time.Sleep(time.Minute)
		}
		time.Sleep(2 * time.Hour)
		add(t, s, line("x", 1))
		sum, dropped, batches := delivered(t, s)
		check(t, sum, 2, 8) // the oldest, of which a watch may know, and the newest
		if batches != 2 || dropped.Requests != 9 || dropped.Bytes != 63 || dropped.Reason != "too_old" {
			t.Errorf("%d batches, %+v", batches, dropped)
		}
		_ = s.Close()
	})
}

// While another process has the spool, batches are added; when it has ended, they are delivered.
func TestTwoProcesses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	before := open(t, dir, spool.Options{})
	after := open(t, dir, spool.Options{})
	add(t, before, line("x", 1))
	add(t, after, line("x", 2))
	add(t, before, line("x", 4))
	if b, ok := after.Next(); ok {
		t.Errorf("%v is delivered by both", b.ID)
	}
	_ = before.Close()
	sum, _, batches := delivered(t, after)
	check(t, sum, 3, 7)
	if batches != 3 {
		t.Errorf("%d batches", batches)
	}
	_ = after.Close()
}

// A batch that is damaged holds up nobody, and neither does one that a watch refuses.
func TestRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, spool.Options{})
	defer s.Close()
	for i := range 3 {
		add(t, s, line("x", int64(1)<<i))
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.batch"))
	if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, ok := s.Next()
	if !ok || b.First != 2 {
		t.Fatalf("%v, %v", b.ID, ok)
	}
	s.Refuse(b, "malformed")
	add(t, s, line("x", 8))
	sum, dropped, _ := delivered(t, s)
	check(t, sum, 2, 12)
	if dropped.Bytes != 2 || s.Stat().Refused != 2 {
		t.Errorf("%+v, %+v", dropped, s.Stat())
	}
	if kept, _ := filepath.Glob(filepath.Join(dir, "refused", "*")); len(kept) != 2 {
		t.Errorf("%q are kept", kept)
	}
}
