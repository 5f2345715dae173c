package unpack

import (
	"bytes"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"freshet/internal/peertest"
)

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// A file which never ends is given up.
func TestLimit(t *testing.T) {
	t.Parallel()
	l := &limited{r: zeros{}, left: 1 << 20}
	n := 0
	for b := make([]byte, 1000); ; n += len(b) {
		if _, err := l.Read(b); err != nil {
			if !regexp.MustCompile(`more than \d+ bytes`).MatchString(err.Error()) || n > 1<<20 {
				t.Errorf("%d bytes: %v", n, err)
			}
			return
		}
	}
}

// Each form is told by its first bytes, and what cannot be read is said.
func TestNewReader(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("Package: hello\n", 10_000)
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{
		"plain": text, "empty": "", "short": "x",
		"gzip": zipped.String(), "zstd": string(encoder.EncodeAll([]byte(text), nil)),
	}
	peertest.Require(t, "xz", "bzip2")
	for _, program := range []string{"xz", "bzip2"} {
		cmd := peertest.Command(t, program, "-c")
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		forms[program] = string(out)
	}
	for name, packed := range forms {
		want := text
		if name == "empty" || name == "short" {
			want = packed
		}
		plain, done, err := NewReader(iotest.HalfReader(strings.NewReader(packed)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := io.ReadAll(plain); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		done()
	}
	for name, begin := range map[string]string{
		"zchunk": "\x00ZCK1....", "lzma": "\x5d\x00\x00\x80\x00", "lz4": "\x04\x22\x4d\x18",
		"compress": "\x1f\x9d\x90", "lzo": "\x89LZO\x00", "lrzip": "LRZI\x00", "lzip": "LZIP\x01",
	} {
		_, _, err := NewReader(strings.NewReader(begin))
		if format, ok := errors.AsType[FormatError](err); !ok || string(format) != name {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := NewReader(iotest.ErrReader(os.ErrClosed)); !errors.Is(err, os.ErrClosed) {
		t.Errorf("reader's error: %v", err)
	}
}
