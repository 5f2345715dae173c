package delta_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
)

// node is a file of a generated tree.
type node struct {
	header  ostree.FileHeader
	content []byte
}

// change returns the next version of a tree: anything that packagers do.
func change(t *rapid.T, old map[string]node) map[string]node {
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	some := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32()) & 0x3F
		}
		return b
	}
	new := map[string]node{}
	for path, n := range old {
		switch rapid.IntRange(0, 12).Draw(t, "change of "+path) {
		case 0: // removed
			continue
		case 1: // renamed, as versions are
			path += ".1"
		case 2: // moved
			path = "moved/" + path
		case 3: // other permissions
			n.header.Mode ^= 0o111
		case 4: // another owner
			n.header.UID += 7
		case 5:
			n.header.Xattrs = append(n.header.Xattrs, ostree.Xattr{Name: []byte(fmt.Sprintf("user.x%d\x00", len(n.header.Xattrs))), Value: some(5)})
		case 6: // edited
			at := random.IntN(len(n.content) + 1)
			n.content = bytes.Join([][]byte{n.content[:at], some(random.IntN(50)), n.content[at:]}, nil)
		case 7: // small changes throughout
			n.content = bytes.Clone(n.content)
			for range len(n.content)/100 + 1 {
				if len(n.content) > 0 {
					n.content[random.IntN(len(n.content))]++
				}
			}
		case 8: // cut
			n.content = n.content[:random.IntN(len(n.content)+1)]
		case 9: // becomes a symlink, or another one
			n = node{header: ostree.SymlinkTo(string(some(3)) + "x")}
			n.header.Symlink = strings.ReplaceAll(n.header.Symlink, "\x00", "0")
		case 10: // pieces change places
			half := len(n.content) / 2
			n.content = append(bytes.Clone(n.content[half:]), n.content[:half]...)
		}
		if n.header.IsSymlink() {
			n = node{header: ostree.SymlinkTo(n.header.Symlink)}
		}
		new[path] = n
	}
	for i := range rapid.IntRange(0, 6).Draw(t, "added") {
		size := []int{0, 1, 100, 5_000, 40_000}[random.IntN(5)]
		h := ostree.RegularFile(random.IntN(2) == 0)
		new[fmt.Sprintf("dir%d/new%d-%d", random.IntN(3), i, random.IntN(100))] = node{h, some(size)}
	}
	return new
}

// commit writes a tree.
func commit(t testing.TB, repo *ostreetest.Repo, files map[string]node) (ostree.Checksum, error) {
	t.Helper()
	var tree ostree.Tree
	for path, n := range files {
		sum, err := ostree.WriteFile(repo, n.header, func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(n.content)), nil
		})
		if err == nil {
			err = tree.SetFile(path, sum)
		}
		if err != nil {
			return ostree.Checksum{}, err
		}
	}
	root, meta, err := tree.Write(repo)
	if err != nil {
		return ostree.Checksum{}, err
	}
	return ostree.WriteCommit(repo, &ostree.Commit{Subject: "x", Timestamp: 1, Tree: root, TreeMeta: meta})
}

// memoryParts keeps parts in memory.
type memoryParts map[int]*bytes.Buffer

func (m memoryParts) Create(part int) (io.WriteCloser, error) {
	m[part] = &bytes.Buffer{}
	return nopCloser{m[part]}, nil
}

func (m memoryParts) open(part int) (io.ReadCloser, error) {
	b, ok := m[part]
	if !ok {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b.Bytes())), nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// TestAnyTrees generates deltas of all sorts between versions of generated
// trees, and applies them.
func TestAnyTrees(t *testing.T) {
	t.Parallel()
	repo := ostreetest.New(t, "")
	rapid.Check(t, func(rt *rapid.T) {
		old := change(rt, change(rt, nil))
		new := change(rt, old)
		v1, err := commit(t, repo, old)
		if err != nil {
			rt.Fatal(err)
		}
		v2, err := commit(t, repo, new)
		if err != nil {
			rt.Fatal(err)
		}
		opt := delta.Options{
			Workers:  1, // memoryParts is not for more
			MaxPart:  rapid.SampledFrom([]int{1, 10_000, 1 << 20}).Draw(rt, "part"),
			Fallback: rapid.SampledFrom([]int{50, 20_000, 1 << 20}).Draw(rt, "fallback"),
			Window:   rapid.SampledFrom([]int{64, 2_000, 1 << 20}).Draw(rt, "window"),
		}
		for _, d := range []ostree.DeltaName{{To: v1}, {From: v1, To: v2}, {From: v2, To: v1}} {
			parts := memoryParts{}
			block, _, err := delta.Generate(t.Context(), repo.Open(), delta.Request{From: d.From, To: d.To}, parts, opt)
			if err != nil {
				rt.Fatal(err)
			}
			parsed, err := ostree.ParseSuperblock(block.Encode())
			if err != nil {
				rt.Fatal(err)
			}
			if err := delta.Verify(t.Context(), repo.Open(), parsed, parts.open, ""); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

// TestSmall demands that what is alike is found: the delta is a fraction of
// what changed.
func TestSmall(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(5, 5))
	big := []byte(noise(random, 400_000))
	edited := bytes.Clone(big)
	for range 100 {
		edited[random.IntN(len(edited))]++
	}
	inserted := bytes.Join([][]byte{big[:200_000], []byte("inserted"), big[200_000:]}, nil)
	file := func(b []byte) node { return node{ostree.RegularFile(false), b} }
	tests := []struct {
		name     string
		old, new map[string]node
		limit    uint64 // bytes of the parts
	}{
		{"edited", map[string]node{"a": file(big)}, map[string]node{"a": file(edited)}, 5_000},
		{"inserted", map[string]node{"a": file(big)}, map[string]node{"a": file(inserted)}, 1_000},
		{"permissions", map[string]node{"a": file(big)}, map[string]node{"a": {ostree.RegularFile(true), big}}, 1_000},
		{"moved", map[string]node{"a": file(big)}, map[string]node{"b/c": file(big)}, 1_000},
		{"version in the name", map[string]node{"lib/x.so.1.2": file(big)}, map[string]node{"lib/x.so.1.10": file(edited)}, 5_000},
		{"version in the path", map[string]node{"python3.11/x": file(big)}, map[string]node{"python3.12/x": file(edited)}, 5_000},
		{"other folder, same name", map[string]node{"a/x": file(big)}, map[string]node{"b/x": file(edited)}, 5_000},
		{"other extension", map[string]node{"a/x.so": file(big)}, map[string]node{"a/x.so.new": file(edited)}, 5_000},
	}
	for _, window := range []int{0, 50_000} {
		for _, tt := range tests {
			t.Run(fmt.Sprint(tt.name, window), func(t *testing.T) {
				peertest.Require(t, "xz")
				repo := ostreetest.New(t, "")
				v1, err1 := commit(t, repo, tt.old)
				v2, err2 := commit(t, repo, tt.new)
				if err := errors.Join(err1, err2); err != nil {
					t.Fatal(err)
				}
				opt := options(t)
				opt.Window = window
				block, stats := generate(t, repo, v1, v2, opt)
				if stats.Parts > tt.limit || stats.Fallbacks > 0 {
					t.Errorf("%d bytes instead of %d: %+v", stats.Parts, tt.limit, stats)
				}
				verify(t, repo, block)
			})
		}
	}
}

// TestIncompressible demands that what does not compress costs no more.
func TestIncompressible(t *testing.T) {
	t.Parallel()
	repo := ostreetest.New(t, "")
	random := rand.New(rand.NewPCG(5, 6))
	v := repo.Commit("app/x", 1, map[string]string{"a.png": noise(random, 300_000), "b.png": noise(random, 300_000)})
	_, stats := generate(t, repo, ostree.Checksum{}, v, options(t))
	if stats.Parts > 601_500 {
		t.Errorf("%d bytes", stats.Parts)
	}
}

// TestReproducible demands that the same request gives the same bytes.
func TestReproducible(t *testing.T) {
	t.Parallel()
	repo := ostreetest.New(t, "")
	old, new := trees(t)
	v1, v2 := repo.Commit("app/x", 1, old), repo.Commit("app/x", 2, new)
	opt := options(t)
	opt.MaxPart = 1 << 20
	first, _ := generate(t, repo, v1, v2, opt)
	opt.Workers = 1
	second, _ := generate(t, repo, v1, v2, opt)
	if !bytes.Equal(first.Encode(), second.Encode()) {
		t.Error("another delta")
	}
}

// TestDamaged lets objects be missing or wrong: no delta is made of them.
func TestDamaged(t *testing.T) {
	t.Parallel()
	repo := ostreetest.New(t, "")
	old, new := trees(t)
	v1, v2 := repo.Commit("app/x", 1, old), repo.Commit("app/x", 2, new)
	var names []ostree.ObjectName
	if err := repo.Open().Walk(t.Context(), v2, func(n ostree.ObjectName) error {
		names = append(names, n)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		path := filepath.Join(repo.Dir, filepath.FromSlash(name.Path()))
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(whole)
		bad[len(bad)-1] ^= 1
		for _, damage := range []func() error{
			func() error { return os.WriteFile(path, bad, 0o644) },
			func() error { return os.WriteFile(path, whole[:len(whole)/2], 0o644) },
			func() error { return os.Remove(path) },
		} {
			if err := damage(); err != nil {
				t.Fatal(err)
			}
			_, _, err := delta.Generate(t.Context(), repo.Open(), delta.Request{To: v2}, memoryParts{}, delta.Options{})
			if err == nil || !strings.Contains(err.Error(), name.Checksum.String()) {
				t.Errorf("%s: %v", name, err)
			}
			if err := os.WriteFile(path, whole, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = v1
}

// TestVerifyFindsFaults changes deltas so that clients would fail with them.
func TestVerifyFindsFaults(t *testing.T) {
	t.Parallel()
	repo := ostreetest.New(t, "")
	old, new := trees(t)
	v1, v2 := repo.Commit("app/x", 1, old), repo.Commit("app/x", 2, new)
	faults := map[string]func(*ostree.Superblock, memoryParts){
		"an object less":  func(b *ostree.Superblock, _ memoryParts) { b.Parts[0].Objects = b.Parts[0].Objects[1:] },
		"the last less":   func(b *ostree.Superblock, _ memoryParts) { o := b.Parts[0].Objects; b.Parts[0].Objects = o[:len(o)-1] },
		"a part less":     func(b *ostree.Superblock, _ memoryParts) { b.Parts = b.Parts[1:] },
		"no file":         func(_ *ostree.Superblock, p memoryParts) { delete(p, 0) },
		"another byte":    func(_ *ostree.Superblock, p memoryParts) { p[0].Bytes()[p[0].Len()/2] ^= 1 },
		"a wrong order":   func(b *ostree.Superblock, _ memoryParts) { o := b.Parts[0].Objects; o[0], o[1] = o[1], o[0] },
		"another base":    func(b *ostree.Superblock, _ memoryParts) { b.Name.From = v2 },
		"a fallback less": func(b *ostree.Superblock, _ memoryParts) { b.Fallbacks = b.Fallbacks[1:] },
		"a wrong size":    func(b *ostree.Superblock, _ memoryParts) { b.Fallbacks[0].Size++ },
		"recursion":       func(b *ostree.Superblock, _ memoryParts) { b.Recursion = []byte{1} },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			parts := memoryParts{}
			block, _, err := delta.Generate(t.Context(), repo.Open(), delta.Request{From: v1, To: v2}, parts, delta.Options{Fallback: 60_000})
			if err != nil {
				t.Fatal(err)
			}
			if err := delta.Verify(t.Context(), repo.Open(), block, parts.open, ""); err != nil {
				t.Fatal(err)
			}
			fault(block, parts)
			if err := delta.Verify(t.Context(), repo.Open(), block, parts.open, ""); err == nil {
				t.Error("not noticed")
			}
		})
	}
}
