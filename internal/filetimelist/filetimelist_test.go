package filetimelist_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/filetimelist"
)

const sample = "[Version]\n2\n\n[Files]\n1767700953\tf\t282\tlinux/extras/README\n1366880149\td\t4096\tlinux\n" +
	"1\tf-\t7\tlinux/tab\there\n-5.25\tl\t3\t./link\n9\td*\t0\tprivate\n\n[Checksums SHA1]\nabc  linux/repomd.xml\n\n[End]\n"

func collect(r io.Reader) (all []filetimelist.Entry, err error) {
	for e, err := range filetimelist.Read(r) {
		if err != nil {
			return all, err
		}
		all = append(all, e)
	}
	return all, nil
}

func TestRead(t *testing.T) {
	t.Parallel()
	want := []filetimelist.Entry{
		{Type: 'f', Size: 282, ModTime: time.Unix(1767700953, 0).UTC(), Path: "linux/extras/README"},
		{Type: 'd', Size: 4096, ModTime: time.Unix(1366880149, 0).UTC(), Path: "linux"},
		{Type: 'f', Private: true, Size: 7, ModTime: time.Unix(1, 0).UTC(), Path: "linux/tab\there"},
		{Type: 'l', Size: 3, ModTime: time.Unix(-5, 0).UTC(), Path: "link"},
		{Type: 'd', Private: true, ModTime: time.Unix(9, 0).UTC(), Path: "private"},
	}
	for _, text := range []string{sample, strings.TrimSuffix(sample, "\n"), strings.ReplaceAll(sample, "\n", "\r\n"), sample + "more"} {
		got, err := collect(iotest.OneByteReader(strings.NewReader(text)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// A list that was cut anywhere is no whole one.
func TestReadCut(t *testing.T) {
	t.Parallel()
	for n := range len(sample) - len("]\n") + 1 {
		if _, err := collect(strings.NewReader(sample[:n])); !errors.Is(err, filetimelist.ErrFormat) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
	broken := errors.New("broken")
	if _, err := collect(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"1\tf\t2", "1\tf\t2\t", "x\tf\t2\tp", "1\tf\t-2\tp", "1\tf\t99999999999999999\tp", "1\tf+\t2\tp", "1\t\t2\tp", "1 f 2 p",
		"1\tf\t2\t" + strings.Repeat("p", 9000),
	} {
		if got, err := collect(strings.NewReader("[Files]\n" + line + "\n[End]\n")); !errors.Is(err, filetimelist.ErrFormat) || got != nil {
			t.Errorf("%.40q: %v, %v", line, got, err)
		}
	}
	if _, err := collect(strings.NewReader("[Version]\n2\n[End]\n")); !errors.Is(err, filetimelist.ErrFormat) {
		t.Errorf("without files: %v", err)
	}
}

// FuzzRead: nothing breaks it, and what it takes it takes again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("[Files]\n1.5\tf\t0\t/a//b/\n[End]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := collect(bytes.NewReader(text))
		for _, e := range got {
			if e.Size < 0 || strings.ContainsAny(e.Path, "\n") {
				t.Fatalf("%+v", e)
			}
		}
		again, errAgain := collect(iotest.HalfReader(bytes.NewReader(text)))
		if len(again) != len(got) || (err == nil) != (errAgain == nil) {
			t.Fatal("read in other pieces it is another list")
		}
	})
}
