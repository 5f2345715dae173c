package serve

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/durable"
)

// Notes of a time that is over are in a file of their own, and go with the one after it;
// what is noted goes on over a kill, and lines that were cut are passed over.
func TestReaders(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	dir, err := durable.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Root.Close()
	begin := time.Now()
	var passed time.Duration
	now := func() time.Time { return begin.Add(passed) }
	reads := func(names ...string) {
		t.Helper()
		r := openReaders(dir, now())
		for i, name := range names {
			await(r.note(readNote{
				client: client{netip.MustParseAddr("2001:db8::1"), uint64(len(name)), "p"}, generation: "00000" + name, path: "a " + name, begins: i%2 == 0, when: now(),
			}, i%3 == 0))
		}
		r.close()
		text, err := os.ReadFile(filepath.Join(folder, readersName))
		if err == nil {
			err = os.WriteFile(filepath.Join(folder, readersName), append(text, fmt.Sprintf("%d 2001:db8::", now().UnixMilli())...), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	knows := func(want ...string) {
		t.Helper()
		var s settlement
		if err := s.recall(dir, now()); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range []string{"1", "22", "333", "4444", "55555"} {
			r := s.clients.find(client{netip.MustParseAddr("2001:db8::1"), uint64(len(name)), "p"}, now())
			if r == nil {
				continue
			}
			word := r.id
			for _, x := range r.read {
				word += ":" + x.path
			}
			got = append(got, word)
		}
		if strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%q, want %q", got, want)
		}
	}
	reads("1", "22")
	passed += time.Minute
	reads("333")
	knows("000001:a 1", "0000022", "00000333:a 333")
	passed += idle
	text := func(name string) int {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	one := text(readersName)
	r := openReaders(dir, now())
	passed += idle
	r.note(readNote{client: client{netip.MustParseAddr("2001:db8::1"), 4, "p"}, generation: "000004", path: "four", begins: true, when: now()}, false)
	r.close()
	if got := text(readersBefore); got < one {
		t.Errorf("%d bytes of %d were put aside", got, one)
	}
	knows("000004:four")
	passed += 2*idle + time.Second
	knows()
}

// What is read last is noted, however much was before it, also by processes that did not live for long.
func TestReadersAreMany(t *testing.T) {
	t.Parallel()
	dir, err := durable.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	x := readNote{client: client{netip.MustParseAddr("192.0.2.1"), 255, "p"}, generation: "000001", path: "a", begins: true, when: now}
	line := x.appendTo(nil)
	if err := dir.Root.WriteFile(readersName, bytes.Repeat(line, maxReadersFile/len(line)+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, x.generation = range []string{"000002", "000003"} {
		r := openReaders(dir, now)
		await(r.note(x, true))
		r.close()
		var s settlement
		if err := s.recall(dir, now); err != nil {
			t.Fatal(err)
		}
		if got := s.clients.find(x.client, now).generation(); got != x.generation {
			t.Errorf("the client is known to read %q, want %s", got, x.generation)
		}
	}
	if info, err := dir.Root.Stat(readersName); err != nil || info.Size() > maxReadersFile {
		t.Errorf("the file of now is not another one: %v", err)
	}
}

// What is not like a line of notes is passed over.
func TestReadersOfAnyBytes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	line := fmt.Sprintf("%d 192.0.2.1 ff p 000001 a\n", now.UnixMilli())
	for _, text := range []string{"", "\n\n", "x", "1 2 3 4 5 6\n", strings.Repeat("0", 100) + " 1 1 1 1 1\n", strings.Replace(line, " a", " %zz", 1), strings.Replace(line, "ff", "fg", 1), "\x00\xff\n"} {
		var s settlement
		if err := s.recallFrom(strings.NewReader(text+line), now); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		known := s.clients.find(client{netip.MustParseAddr("192.0.2.1"), 255, "p"}, now) != nil
		if ended := text == "" || strings.HasSuffix(text, "\n"); known != ended {
			t.Errorf("%q: known is %t", text, known)
		}
	}
}
