package xz_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"freshet/internal/peertest"
	"freshet/internal/xz"
)

const maxDict = 64 << 20

// samples are contents of all sorts.
func samples(t testing.TB) map[string][]byte {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	text := bytes.Buffer{}
	for text.Len() < 1<<20 {
		fmt.Fprintf(&text, "line %d says %d\n", text.Len(), random.IntN(1000))
	}
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("no program to compress: ", err)
	}
	// Many bytes that look like CALL and JMP, close together.
	calls := make([]byte, 200_000)
	for i := range calls {
		calls[i] = []byte{0xE8, 0xE9, 0, 0xFF, byte(random.Uint32())}[random.IntN(5)]
	}
	return map[string][]byte{
		"empty": nil, "byte": {7}, "four": []byte("\xE8\x00\x00\x00"), "noise": noise, "text": text.Bytes(),
		"zeros": make([]byte, 3<<20), "program": program[:min(len(program), 1<<20)], "calls": calls,
		"edge": noise[:1<<16], "edge+1": noise[:1<<16+1],
	}
}

func decode(data []byte) ([]byte, error) {
	r, err := xz.NewReader(bytes.NewReader(data), maxDict)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// TestReadsXZ reads what the xz program writes.
func TestReadsXZ(t *testing.T) {
	peertest.Require(t, "xz")
	for name, content := range samples(t) {
		for _, args := range [][]string{
			{"-0"},
			{"-6", "--check=sha256"},
			{"-3", "--check=none", "--block-size=100000"},
			{"--check=crc32", "--x86", "--lzma2=preset=1,dict=64KiB"},
			{"-T2", "--block-size=400000", "--x86", "--lzma2=preset=4,dict=4KiB,lc=0,lp=3,pb=4"},
		} {
			t.Run(fmt.Sprint(name, args), func(t *testing.T) {
				packed := run(t, content, append(args, "-c")...)
				got, err := decode(packed)
				if err != nil || !bytes.Equal(got, content) {
					t.Fatalf("%d bytes instead of %d: %v", len(got), len(content), err)
				}
			})
		}
	}
}

// TestXZReads lets the xz program read what we write: blocks that are stored,
// and that the program itself has compressed, with and without the x86 filter.
func TestXZReads(t *testing.T) {
	peertest.Require(t, "xz")
	for name, content := range samples(t) {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			z, err := xz.NewWriter(&out)
			if err != nil {
				t.Fatal(err)
			}
			var want []byte
			for _, m := range []xz.Method{xz.Stored(), raw(t, false), raw(t, true), xz.Stored()} {
				if err := z.Begin(m); err != nil {
					t.Fatal(err)
				}
				for rest := content; len(rest) > 0; {
					n, err := z.Write(rest[:min(len(rest), 70_001)])
					if err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				want = append(want, content...)
			}
			if err := z.Close(); err != nil {
				t.Fatal(err)
			}
			if got := run(t, out.Bytes(), "-dc"); !bytes.Equal(got, want) {
				t.Errorf("xz reads %d bytes instead of %d", len(got), len(want))
			}
			if got, err := decode(out.Bytes()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("we read %d bytes instead of %d: %v", len(got), len(want), err)
			}
		})
	}
}

func TestStoredCostsLittle(t *testing.T) {
	content := samples(t)["noise"]
	var out bytes.Buffer
	z, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Begin(xz.Stored()), copyTo(z, content), z.Close()); err != nil {
		t.Fatal(err)
	}
	if more := out.Len() - len(content); more > 100 {
		t.Errorf("%d bytes more", more)
	}
}

func copyTo(w io.Writer, p []byte) error {
	_, err := w.Write(p)
	return err
}

// TestRefused reads files with every byte changed or missing in turn: all
// that is wrong is noticed.
func TestRefused(t *testing.T) {
	var out bytes.Buffer
	z, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Begin(xz.Stored()), copyTo(z, []byte("some content")), z.Begin(xz.Stored()), copyTo(z, []byte("more")), z.Close()); err != nil {
		t.Fatal(err)
	}
	whole := out.Bytes()
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x21
		for _, data := range [][]byte{bad, whole[:i]} {
			if got, err := decode(data); !errors.Is(err, xz.ErrMalformed) && !errors.Is(err, xz.ErrUnsupported) {
				t.Errorf("byte %d of %d: read %q, %v", i, len(whole), got, err)
			}
		}
	}
	if _, err := decode(append(bytes.Clone(whole), 0)); !errors.Is(err, xz.ErrMalformed) {
		t.Errorf("with a byte more: %v", err)
	}
}

func TestDictionaryIsBounded(t *testing.T) {
	peertest.Require(t, "xz")
	packed := run(t, []byte("content"), "-9", "-c")
	r, err := xz.NewReader(bytes.NewReader(packed), 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); !errors.Is(err, xz.ErrUnsupported) {
		t.Errorf("64 MiB with 32 allowed: %v", err)
	}
}

func FuzzReader(f *testing.F) {
	for _, content := range []string{"", "hello hello hello hello", "\xE8\x01\x02\x00\x00\xE8\x01\x02\x00\x00"} {
		var out bytes.Buffer
		z, err := xz.NewWriter(&out)
		if err := errors.Join(err, z.Begin(xz.Stored()), copyTo(z, []byte(content)), z.Close()); err != nil {
			f.Fatal(err)
		}
		f.Add(out.Bytes())
	}
	if _, err := exec.LookPath("xz"); err == nil {
		for _, content := range [][]byte{[]byte("hello hello hello hello"), bytes.Repeat([]byte("\xE8\x01\x02\x00\x00a"), 100)} {
			f.Add(run(f, content, "-c", "--x86", "--lzma2=dict=4KiB", "--check=none"))
			f.Add(run(f, content, "-c", "--lzma2=dict=4KiB", "--check=none", "--block-size=100"))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := xz.NewReader(bytes.NewReader(data), 1<<20)
		if err == nil {
			_, err = io.Copy(io.Discard, io.LimitReader(r, 64<<20))
		}
		if err != nil && !errors.Is(err, xz.ErrMalformed) && !errors.Is(err, xz.ErrUnsupported) {
			t.Fatal(err)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	content := samples(b)["program"]
	peertest.Require(b, "xz")
	packed := run(b, content, "-2", "-c")
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		if _, err := decode(packed); err != nil {
			b.Fatal(err)
		}
	}
}

// raw is a method whose encoder is the xz program.
func raw(tb testing.TB, x86 bool) xz.Method {
	tb.Helper()
	args := []string{"-c", "--format=raw"}
	if x86 {
		args = append(args, "--x86")
	}
	args = append(args, "--lzma2=preset=1,dict=1MiB")
	return xz.Method{X86: x86, DictSize: 1 << 20, New: func(out io.Writer) (io.WriteCloser, error) {
		return &collector{done: func(p []byte) error { return copyTo(out, run(tb, p, args...)) }}, nil
	}}
}

type collector struct {
	bytes.Buffer
	done func([]byte) error
}

func (c *collector) Close() error { return c.done(c.Bytes()) }

func run(tb testing.TB, input []byte, args ...string) []byte {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), "xz", args...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("xz %v: %v\n%s", args, err, stderr.String())
	}
	return out
}
