package xzrun_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"

	"freshet/internal/peertest"
	"freshet/internal/xz"
	"freshet/internal/xzrun"
)

func pack(t *testing.T, ctx context.Context, m func(ctx context.Context, size uint64, x86 bool) xz.Method, x86 bool, content []byte) ([]byte, error) { //nolint:revive // the test comes first
	t.Helper()
	var out bytes.Buffer
	z, err := xz.NewWriter(&out)
	if err != nil {
		t.Fatal(err)
	}
	err = z.Begin(m(ctx, uint64(len(content)), x86))
	if err == nil {
		_, err = z.Write(content)
	}
	err = errors.Join(err, z.Close())
	return out.Bytes(), err
}

func TestCompresses(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "xz")
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	p, err := xzrun.Find(xzrun.Balanced())
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range [][]byte{nil, []byte("short"), program[:2<<20]} {
		for _, x86 := range []bool{false, true} {
			packed, err := pack(t, t.Context(), p.Method, x86, content)
			if err != nil {
				t.Fatal(err)
			}
			r, err := xz.NewReader(bytes.NewReader(packed), 4<<20)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes become %d: %v", len(content), len(got), err)
			}
			if len(content) > 1000 && len(packed) > len(content)*6/10 {
				t.Errorf("%d bytes compressed to %d", len(content), len(packed))
			}
		}
	}
}

// TestEnds lets the process end with the context, and says what went wrong.
func TestEnds(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "xz")
	p, err := xzrun.Find(xzrun.Level{MaxDict: 1 << 20, Nice: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack(t, t.Context(), p.Method, false, make([]byte, 10<<20)); err == nil || !bytes.Contains([]byte(err.Error()), []byte("nice")) {
		t.Errorf("an option that is wrong: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pack(t, ctx, p.Method, false, make([]byte, 10<<20)); err == nil {
		t.Error("went on after the end")
	}
}

// full is a disk without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// When what xz makes cannot be written, the error says why, and not that xz has died of it.
func TestErrorOfWriter(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "xz")
	program, err := xzrun.Find(xzrun.Balanced())
	if err != nil {
		t.Fatal(err)
	}
	w, err := program.Method(t.Context(), 1<<20, false).New(full{})
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	_, err = w.Write(noise)
	if err = errors.Join(err, w.Close()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v", err)
	}
}
