package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"freshet/internal/ostree"
)

// What the deltas of ours may take, as a share of the peer's.
const (
	goalDeltaCPU  = 0.5
	goalDeltaSize = 1.05
	goalDeltaRSS  = 128 << 20 // bytes, of all processes together
)

// fallbacks are the sizes, in bytes, above which the peers leave files out.
const (
	ostreeFallback  = 4 << 20
	flatpakFallback = 1 << 20
)

// deltaCase is a delta that both make.
type deltaCase struct {
	name     string
	from, to string // commits; from may be empty
	peer     func(repo string) *exec.Cmd
	fallback int
}

// measureDeltas compares generating static deltas, with ostree's and flatpak's
// settings, of trees of so many megabytes.
func measureDeltas(ctx context.Context, cfg config, out io.Writer) (err error) {
	cases := deltaCases()
	if cfg.quick {
		cases = []string{"5-" + scratchCase, "5-" + versionCase}
	}
	if cfg.keep == "" { // so that the trees are made once for both kinds
		if cfg.keep, err = os.MkdirTemp(cfg.memory(), "freshet-bench-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(cfg.keep)) }()
	}
	for _, name := range cases {
		if len(cfg.cases) > 0 && !slices.Contains(cfg.cases, name) {
			continue
		}
		if name == catalogueCase {
			if err := measureCatalogue(ctx, cfg, out); err != nil {
				return err
			}
			continue
		}
		size, kind, _ := strings.Cut(name, "-")
		mb, err := strconv.Atoi(size)
		if err == nil {
			err = measureTree(ctx, cfg, mb, kind, out)
		}
		if err != nil {
			return fmt.Errorf("deltas %s: %w", name, err)
		}
	}
	return nil
}

// deltaCases are the names of what is measured: trees by their megabytes, with the
// kind of delta, and the branch of the catalogue.
func deltaCases() []string {
	return []string{"100-" + scratchCase, "100-" + versionCase, "300-" + scratchCase, "300-" + versionCase, catalogueCase}
}

const (
	catalogueCase = "appstream2"
	scratchCase   = "scratch"
	versionCase   = "version"
)

// benchBranch has the two versions of a tree.
const benchBranch = "app/org.bench.Big/x86_64/stable"

// measureTree measures the deltas of a kind. The repository is made in the folder of
// the trees, and found there if it was made before.
func measureTree(ctx context.Context, cfg config, mb int, kind string, out io.Writer) error {
	dir := filepath.Join(cfg.keep, strconv.Itoa(mb))
	repo := filepath.Join(dir, "repo")
	if _, err := os.Stat(filepath.Join(dir, "complete")); err != nil {
		if err := makeTrees(ctx, dir, repo, mb); err != nil {
			return err
		}
	}
	if cfg.prepare {
		return nil
	}
	v2, err := revision(ctx, repo, benchBranch)
	if err != nil {
		return err
	}
	v1, err := revision(ctx, repo, benchBranch+"^")
	if err != nil {
		return err
	}
	flatpak := func(args ...string) func(string) *exec.Cmd {
		return func(repo string) *exec.Cmd {
			return exec.CommandContext(ctx, "flatpak", append(append([]string{"build-update-repo", "--no-update-summary", "--no-update-appstream"}, args...), repo)...)
		}
	}
	cases := []deltaCase{
		{"scratch-ostree", "", v1, func(repo string) *exec.Cmd {
			return exec.CommandContext(ctx, "ostree", "--repo="+repo, "static-delta", "generate", "--empty", "--to="+v1)
		}, ostreeFallback},
		{"scratch-flatpak", "", v1, flatpak("--generate-static-delta-to=" + v1), flatpakFallback},
		{"version-ostree", v1, v2, func(repo string) *exec.Cmd {
			return exec.CommandContext(ctx, "ostree", "--repo="+repo, "static-delta", "generate", "--from="+v1, "--to="+v2)
		}, ostreeFallback},
		{"version-flatpak", v1, v2, flatpak("--generate-static-delta-from="+v1, "--generate-static-delta-to="+v2), flatpakFallback},
	}
	for _, c := range cases {
		if !strings.HasPrefix(c.name, kind) {
			continue
		}
		if err := c.measure(ctx, repo, strconv.Itoa(mb), out); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// makeTrees makes the repository with both versions.
func makeTrees(ctx context.Context, dir, repo string, mb int) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := output(ctx, "ostree", "init", "--repo="+repo, "--mode=archive-z2"); err != nil {
		return err
	}
	if err := commitTrees(ctx, dir, repo, mb); err != nil {
		return err
	}
	if err := output(ctx, "sync"); err != nil { // what is written is not to be in the way
		return err
	}
	return os.WriteFile(filepath.Join(dir, "complete"), nil, 0o600)
}

func revision(ctx context.Context, repo, ref string) (string, error) {
	sum, err := exec.CommandContext(ctx, "ostree", "--repo="+repo, "rev-parse", ref).Output()
	if err != nil {
		return "", fmt.Errorf("rev-parse %s: %w", ref, err)
	}
	return string(bytes.TrimSpace(sum)), nil
}

// measure lets both make the delta and prints a line for each figure.
func (c deltaCase) measure(ctx context.Context, repo, label string, out io.Writer) error {
	ours, err := c.ours(ctx, repo)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(repo, "deltas")); err != nil {
		return err
	}
	peer, err := c.theirs(repo)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(repo, "deltas")); err != nil {
		return err
	}
	name := "delta-" + c.name + "-" + label
	printLine(out, name+"-cpu", seconds(ours.CPU), seconds(peer.CPU), ratio(ours.CPU, peer.CPU), goalDeltaCPU)
	printLine(out, name+"-size", megabytes(ours.Size), megabytes(peer.Size), float64(ours.Size)/float64(peer.Size), goalDeltaSize)
	printLine(out, name+"-rss", megabytes(ours.RSS), megabytes(peer.RSS), float64(ours.RSS)/goalDeltaRSS, 1)
	return nil
}

func megabytes(n int64) string { return strconv.FormatFloat(float64(n)/1e6, 'f', 2, 64) + "MB" }

// ours generates the delta in a process of its own.
func (c deltaCase) ours(ctx context.Context, repo string) (m made, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	cmd := exec.CommandContext(ctx, self, generateCommand, repo, c.from, c.to, "2", strconv.Itoa(c.fallback))
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(data, &m)
}

func (c deltaCase) theirs(repo string) (m made, err error) {
	u, err := runUsage(c.peer(repo))
	if err != nil {
		return m, err
	}
	m.CPU, m.RSS = u.CPU, u.rss
	m.Size, err = deltaSize(repo, c.from, c.to)
	return m, err
}

// deltaSize is what a client fetches: the files of the delta, and objects that
// are not in it.
func deltaSize(repo, from, to string) (size int64, err error) {
	name, err := ostree.ParseDeltaHex(strings.TrimPrefix(from+"-"+to, "-"))
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(repo, filepath.FromSlash(name.Dir()))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	data, err := os.ReadFile(filepath.Join(dir, "superblock"))
	if err != nil {
		return 0, err
	}
	block, err := ostree.ParseSuperblock(data)
	if err != nil {
		return 0, err
	}
	for _, f := range block.Fallbacks {
		size += int64(f.Size)
	}
	return size, nil
}

// commitTrees makes a tree of files of this machine and one with the changes
// that a new version brings, and commits both.
func commitTrees(ctx context.Context, dir, repo string, mb int) error {
	tree := filepath.Join(dir, "tree")
	if err := sampleTree(tree, int64(mb)*1_000_000); err != nil {
		return err
	}
	commit := func() error {
		return output(ctx, "ostree", "--repo="+repo, "commit", "-b", benchBranch, "-s", "bench", "--no-xattrs", "--owner-uid=0", "--owner-gid=0", tree)
	}
	if err := commit(); err != nil {
		return err
	}
	if err := changeTree(tree); err != nil {
		return err
	}
	return commit()
}

// measureCatalogue makes the delta between two versions of the appstream2
// branch of 2,000 apps, of which one has changed.
func measureCatalogue(ctx context.Context, cfg config, out io.Writer) (err error) {
	const apps = 2000
	catalogue := publishCase{apps: apps, arches: []string{"x86_64"}}
	dir, err := os.MkdirTemp(cfg.memory(), "freshet-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	repo, changed := filepath.Join(dir, "repo"), filepath.Join(dir, "changed")
	if err := writeRepo(repo, catalogue); err != nil {
		return err
	}
	update := func() (string, error) {
		if err := output(ctx, "flatpak", "build-update-repo", "--no-update-summary", repo); err != nil {
			return "", err
		}
		return revision(ctx, repo, "appstream2/x86_64")
	}
	v1, err := update()
	if err != nil {
		return err
	}
	if err := writeChanged(changed, catalogue, apps/2, 1); err != nil {
		return err
	}
	if err := output(ctx, "flatpak", "build-commit-from", "--no-update-summary", "--force", "--src-repo="+changed, repo); err != nil {
		return err
	}
	v2, err := update()
	if err != nil {
		return err
	}
	if err := output(ctx, "sync"); err != nil { // what is written is not to be in the way
		return err
	}
	for _, from := range []string{v1, ""} {
		c := deltaCase{name: "appstream2", from: from, to: v2, fallback: flatpakFallback}
		args := []string{"build-update-repo", "--no-update-summary", "--no-update-appstream", "--generate-static-delta-to=" + v2}
		if from == "" {
			c.name += "-scratch"
		} else {
			args = append(args, "--generate-static-delta-from="+from)
		}
		c.peer = func(repo string) *exec.Cmd { return exec.CommandContext(ctx, "flatpak", append(args, repo)...) }
		ours, err := c.ours(ctx, repo)
		if err != nil {
			return err
		}
		printLine(out, "delta-"+c.name+"-wall", seconds(ours.Wall), "1.000s", ours.Wall.Seconds(), 1)
		if err := c.measure(ctx, repo, strconv.Itoa(apps), out); err != nil {
			return err
		}
	}
	return nil
}

func output(ctx context.Context, program string, args ...string) error {
	if text, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, text)
	}
	return nil
}

// walkFiles calls f for the regular files below root, in a fixed order.
func walkFiles(root string, f func(path string, info fs.FileInfo) error) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
				return nil
			}
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		return f(path, info)
	})
}
