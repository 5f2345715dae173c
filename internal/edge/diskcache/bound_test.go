package diskcache

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Whatever is done: the files never take more than the size, and the store
// counts what they take.
func TestSizeIsABound(t *testing.T) {
	parent, rounds := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		rounds++
		dir := filepath.Join(parent, fmt.Sprint(rounds))
		defer os.RemoveAll(dir)
		size := rapid.Int64Range(256<<10, 8<<20).Draw(t, "size")
		tb := &quietTB{}
		s, err := Open(tb.Context(), dir, Options{Size: size, OpenFiles: 4, Memory: -1})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		var writers []*Writer
		ids := rapid.IntRange(0, 60)
		bodies := map[ID]int{}
		var held []*Body
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				n, length := ids.Draw(t, "id"), rapid.IntRange(0, int(size/6)).Draw(t, "length")
				if rapid.Bool().Draw(t, "short") {
					length %= 5000
				}
				w, err := s.Create(idOf(n), metaOf(n), int64(length))
				if err == nil {
					if _, err = w.Write(bytes.Repeat([]byte{byte(length)}, length)); err == nil {
						_, err = w.Commit(stateOf())
						bodies[idOf(n)] = length
					} else {
						w.Abort()
					}
				}
				if err != nil && !errors.Is(err, ErrFull) && !errors.Is(err, ErrFirstSight) {
					t.Fatal(err)
				}
			},
			"begin": func(t *rapid.T) {
				n := ids.Draw(t, "id")
				if w, err := s.Create(idOf(n), metaOf(n), -1); err == nil {
					writers = append(writers, w)
				}
			},
			"go on": func(t *rapid.T) {
				for _, w := range writers {
					_, _ = w.Write(make([]byte, rapid.IntRange(0, int(size/20)).Draw(t, "more")))
				}
			},
			"end": func(t *rapid.T) {
				for i, w := range writers {
					if i%2 == 0 {
						w.Abort()
					} else if _, err := w.Commit(stateOf()); err != nil {
						t.Fatal(err)
					}
					delete(bodies, w.ID())
				}
				writers = nil
			},
			"delete": func(t *rapid.T) {
				if e := s.Get(idOf(ids.Draw(t, "id"))); e != nil {
					s.Delete(e)
				}
			},
			"freshen": func(t *rapid.T) {
				if e := s.Get(idOf(ids.Draw(t, "id"))); e != nil {
					e.Freshen(e.Meta(), stateOf())
				}
			},
			"use": func(t *rapid.T) {
				for range 10 {
					s.Get(idOf(ids.Draw(t, "id")))
				}
			},
			"hold": func(t *rapid.T) {
				if e := s.Get(idOf(ids.Draw(t, "id"))); e != nil {
					if b, err := e.Open(); err == nil {
						held = append(held, b)
					}
				}
			},
			"let go": func(*rapid.T) {
				for _, b := range held {
					b.Close()
				}
				held = nil
			},
			"checkpoint": func(t *rapid.T) {
				if err := s.checkpoint(); err != nil && !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			},
			"reopen": func(t *rapid.T) {
				for _, w := range writers {
					w.Abort()
				}
				for _, b := range held {
					b.Close()
				}
				writers, held = nil, nil
				before := s.Stat()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = Open(tb.Context(), dir, Options{Size: size, OpenFiles: 4, Memory: -1}); err != nil {
					t.Fatal(err)
				}
				if after := s.Stat(); after.Entries != before.Entries {
					t.Fatalf("%d entries after a restart, %d before", after.Entries, before.Entries)
				}
			},
			"": func(t *rapid.T) {
				st := s.Stat()
				if st.Used > size || st.Used < 0 {
					t.Fatalf("%d bytes are used of %d", st.Used, size)
				}
				if n := diskUsage(tb, dir); n > size {
					t.Fatalf("%d bytes are on the disk, %d counted, of %d", n, st.Used, size)
				}
				for e := range s.All() {
					length, ok := bodies[e.ID()]
					if !ok {
						continue
					}
					if got := content(tb, e); got != strings.Repeat(string([]byte{byte(length)}), length) {
						t.Fatalf("entry %v: %d bytes, want %d", e.ID(), len(got), length)
					}
				}
				if err := s.Alert(); err != nil {
					t.Fatal(err)
				}
			},
		})
	})
}
