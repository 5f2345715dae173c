package delta_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/ostree/ostreetest"
	"freshet/internal/peertest"
	"freshet/internal/xzrun"
)

// folder takes the parts of a delta of a repository.
type folder struct {
	repo string
	name ostree.DeltaName
}

func (f folder) Create(part int) (io.WriteCloser, error) {
	path := filepath.Join(f.repo, filepath.FromSlash(f.name.PartPath(part)))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	return os.Create(path)
}

// options are those of tests: with xz if it is there.
func options(t testing.TB) delta.Options {
	t.Helper()
	opt := delta.Options{Workers: 2}
	if xz, err := xzrun.Find(xzrun.Balanced()); err == nil {
		opt.Compress = xz.Method
	}
	return opt
}

// generate writes a delta into the repository.
func generate(t testing.TB, repo *ostreetest.Repo, from, to ostree.Checksum, opt delta.Options) (*ostree.Superblock, delta.Stats) {
	t.Helper()
	name := ostree.DeltaName{From: from, To: to}
	block, stats, err := delta.Generate(t.Context(), repo.Open(), delta.Request{From: from, To: to, Timestamp: 1_700_000_000}, folder{repo.Dir, name}, opt)
	if err != nil {
		t.Fatal(err)
	}
	repo.WriteFile(name.SuperblockPath(), block.Encode())
	return block, stats
}

// verify applies a delta in Go.
func verify(t testing.TB, repo *ostreetest.Repo, block *ostree.Superblock) {
	t.Helper()
	err := delta.Verify(t.Context(), repo.Open(), block, func(part int) (io.ReadCloser, error) {
		return os.Open(filepath.Join(repo.Dir, filepath.FromSlash(block.Name.PartPath(part))))
	}, t.TempDir())
	if err != nil {
		t.Error(err)
	}
}

// clientPull pulls a commit into a repository as clients have it, by the real
// ostree, and checks it. The client is made when it is not there.
func clientPull(t testing.TB, client, server string, commit ostree.Checksum, mode string) {
	t.Helper()
	if _, err := os.Stat(client); errors.Is(err, os.ErrNotExist) {
		peertest.Run(t, "", nil, "ostree", "init", "--repo="+client, "--mode="+mode)
		peertest.Run(t, "", nil, "ostree", "--repo="+client, "remote", "add", "--no-gpg-verify", "origin", "file://"+server)
	}
	out := peertest.Run(t, "", nil, "ostree", "--repo="+client, "pull", "--require-static-deltas", "origin", commit.String())
	peertest.Run(t, "", nil, "ostree", "--repo="+client, "fsck", "--quiet")
	_ = out
}

func text(random *rand.Rand, lines int) string {
	var b strings.Builder
	for range lines {
		fmt.Fprintf(&b, "%s = %d\n", []string{"alpha", "beta", "gamma", "delta"}[random.IntN(4)], random.IntN(100000))
	}
	return b.String()
}

func noise(random *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(random.Uint32())
	}
	return string(b)
}

// trees returns two versions of a tree with everything that can happen.
func trees(t testing.TB) (old, new map[string]string) {
	t.Helper()
	random := rand.New(rand.NewPCG(7, 7))
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip(err)
	}
	program = program[:min(len(program), 3<<20)]
	edited := bytes.Clone(program)
	for range 800 {
		edited[random.IntN(len(edited))] ^= 0x55
	}
	edited = append(edited[:len(edited)/2:len(edited)/2], append([]byte(noise(random, 600)), edited[len(edited)/2:]...)...)
	long := text(random, 20_000)
	old = map[string]string{
		"empty": "", "bin/program": string(program), "lib/libx.so.1.2": string(program[1<<20 : 2<<20]),
		"share/long.txt": long, "share/gone": text(random, 10), "share/moved": text(random, 500),
		"share/a.png": noise(random, 90_000), "share/link": "-> a.png", "share/same/copy1": "copy", "share/same/copy2": "copy",
		"bin/tool": "#!/bin/sh\necho " + text(random, 50), "share/one": "1",
	}
	new = maps.Clone(old)
	delete(new, "share/gone")
	delete(new, "share/moved")
	new["share/renamed"] = old["share/moved"]
	new["bin/program"] = string(edited)
	delete(new, "lib/libx.so.1.2")
	new["lib/libx.so.1.3"] = old["lib/libx.so.1.2"] + "more"
	new["share/long.txt"] = long[:100_000] + "a line\n" + long[100_020:] + "the end\n"
	new["share/b.png"] = noise(random, 70_000)
	new["share/link"] = "-> b.png"
	new["tool"] = old["bin/tool"] // not executable there
	new["share/one"] = ""
	new["empty2"], new["empty"] = "", "not any more"
	return old, new
}

func TestRealClients(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree", "xz")
	repo := ostreetest.New(t, "")
	old, new := trees(t)
	v1 := repo.Commit("app/x", 1, old)
	v2 := repo.Commit("app/x", 2, new)
	for _, d := range []ostree.DeltaName{{To: v1}, {From: v1, To: v2}, {To: v2}} {
		block, stats := generate(t, repo, d.From, d.To, options(t))
		t.Logf("%s: %d parts, %+v", d.Hex()[:8], len(block.Parts), stats)
		verify(t, repo, block)
		t.Logf("%s", peertest.Run(t, "", nil, "ostree", "--repo="+repo.Dir, "static-delta", "show", d.Hex()))
	}
	peertest.Run(t, "", nil, "ostree", "--repo="+repo.Dir, "summary", "-u")
	for _, mode := range []string{"bare-user", "bare-user-only"} {
		client := filepath.Join(t.TempDir(), "client")
		clientPull(t, client, repo.Dir, v1, mode)
		clientPull(t, client, repo.Dir, v2, mode)
	}
}

// A part of libostree may end with an operation that is for nothing: it writes one
// after each file that it patches.
func TestPatchedLast(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	repo := ostreetest.New(t, "")
	random := rand.New(rand.NewPCG(1, 2))
	old := []byte(noise(random, 20_000))
	v1 := repo.Commit("app/x", 1, map[string]string{"file": string(old)})
	for at := 100; at < len(old); at += 200 {
		old[at] ^= 1
	}
	v2 := repo.Commit("app/x", 2, map[string]string{"file": string(old)})
	peertest.Run(t, "", nil, "ostree", "--repo="+repo.Dir, "static-delta", "generate", "--from="+v1.String(), "--to="+v2.String())
	data, err := os.ReadFile(filepath.Join(repo.Dir, filepath.FromSlash(ostree.DeltaName{From: v1, To: v2}.SuperblockPath())))
	if err != nil {
		t.Fatal(err)
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, repo, block)
}
