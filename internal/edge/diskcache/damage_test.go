package diskcache

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Whatever byte of the store is damaged: an entry is gone, or right, or known
// to be stale. Nothing is so bad that the store does not open.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 64<<20)
	bodies := map[int]string{1: strings.Repeat("body", 20), 2: "other", 3: strings.Repeat("3", 70_000)}
	for n, body := range bodies {
		put(t, s, n, body)
	}
	s.Ban(Ban{Site: "other", Flags: 1})
	if err := s.checkpoint(); err != nil {
		t.Fatal(err)
	}
	put(t, s, 4, "after the checkpoint")
	bodies[4] = "after the checkpoint"
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check := func(what, name string, data []byte) (right int) {
		t.Helper()
		image := t.TempDir()
		if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(image, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(t.Context(), image, Options{Size: 64 << 20})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return 0
		}
		defer s.Close()
		for n, body := range bodies {
			e := s.Get(idOf(n))
			if e == nil {
				continue
			}
			if st := e.State(); st.Flags != ^uint32(0) && (st.Flags != 4 || !st.Validated.Equal(time.Unix(1000, 5))) {
				t.Errorf("%s: state %+v", what, st)
			}
			if e.Meta().Path != metaOf(n).Path || e.Meta().Fixed != metaOf(n).Fixed {
				t.Errorf("%s: meta %+v", what, e.Meta())
			}
			got := content(t, e)
			switch {
			case got == body:
				right++
			case s.Peek(idOf(n)) != nil:
				t.Errorf("%s: a damaged entry stays: %.60q", what, got)
			case !strings.Contains(got, "damaged") && !strings.Contains(got, "no such file"):
				t.Errorf("%s: wrong body: %.60q", what, got)
			}
		}
		return right
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "lock" {
			return err
		}
		good, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		for i := 0; i < len(good); i += max(1, len(good)/50) {
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			check(fmt.Sprintf("%s: byte %d of %d", name, i, len(good)), name, bad)
		}
		for _, n := range []int{0, 1, 31, 32, 63, 64, 100, len(good) - 1} {
			if n < len(good) {
				check(fmt.Sprintf("%s: cut to %d of %d", name, n, len(good)), name, good[:n])
			}
		}
		if right := check(name+": longer", name, append(bytes.Clone(good), make([]byte, 1000)...)); right < 3 && d.Name() != storeFile {
			t.Errorf("%s: %d of %d entries are left when it is too long", name, right, len(bodies))
		}
		if right := check(name+": whole", name, good); right != len(bodies) {
			t.Errorf("%d of %d entries are right without damage", right, len(bodies))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Without checkpoint and log, the segments tell what there is, and all of it
// has to be validated.
func TestRebuild(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, 16<<20)
	for n := range 100 {
		put(t, s, n, strings.Repeat("x", n*10))
	}
	put(t, s, 7, "newer")
	put(t, s, 101, long(1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "index")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time from the checkpoint
		s = open(t, dir, 16<<20)
		if s.Stat().Entries != 101 || content(t, s.Get(idOf(7))) != "newer" || content(t, s.Get(idOf(101))) != long(1) {
			t.Errorf("%+v", s.Stat())
		}
		if st := s.Get(idOf(8)).State(); st.Flags != ^uint32(0) {
			t.Errorf("state %+v", st)
		}
		put(t, s, 9, "after")
		if st := s.Get(idOf(9)).State(); st.Flags != 4 {
			t.Errorf("state of a new entry: %+v", st)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParse(f *testing.F) {
	s := &Store{opts: Options{Log: slog.New(slog.DiscardHandler)}}
	for _, n := range []int{1, 10} {
		raw := metaOf(n).append(make([]byte, metaOff))
		r := record{metaLen: uint32(len(raw) - metaOff), bodyLen: 4, flags: uint8(n)}
		raw = append(raw, "body"...)
		r.length, r.sum = uint32(len(raw)), checksum(raw[metaOff:])
		r.encode(raw, 7)
		stateOf().encode(raw[stateOff:], 9)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, err := parseRecord(data, 7); err == nil && r.length < maxRecord {
			_, _ = s.parse(data, 7, itemFor(r))
		}
		if len(data) > metaOff+8 {
			// The checksums are made right, so that what is behind them is tried.
			r := record{metaLen: uint32(len(data)-metaOff) / 2, bodyLen: int64(len(data)-metaOff) - int64(len(data)-metaOff)/2}
			raw := bytes.Clone(data)
			r.length, r.sum = uint32(len(raw)), checksum(raw[metaOff:])
			r.encode(raw, 7)
			if e, err := s.parse(raw, 7, itemFor(r)); err == nil {
				again := e.Meta().append(nil)
				m, err := parseMeta(again)
				if err != nil || fmt.Sprint(m.Header) != fmt.Sprint(e.Meta().Header) {
					t.Errorf("%q: %v", again, err)
				}
			}
		}
	})
}

func FuzzReadLog(f *testing.F) {
	head := logHead(1, 7)
	f.Add(append(head[:], make([]byte, 64)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		size, err := readLog(bytes.NewReader(data), 1, 7, func(b, text []byte) {
			if len(b) != logEntry || len(text) > maxBan {
				t.Error(len(b), len(text))
			}
		})
		if err == nil && size > int64(len(data)) {
			t.Errorf("%d of %d bytes", size, len(data))
		}
	})
}
