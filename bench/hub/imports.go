package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"freshet/internal/archive"
	"freshet/internal/flatpak"
)

// goalImport is what taking an app into the repository may cost, in proportion to
// flatpak build-commit-from.
const goalImport = 1

// imported is what one round of taking in an app cost.
type imported struct {
	trusted  cost // from the build, of which the objects are known to be sound
	verified cost // from the upload, verifying each object
}

// measureImports compares how an app comes into the repository. Ours is the commit and
// the publish of a build, with signatures, catalogue and summaries, which verify what
// they read; the peer's build-commit-from trusts its source, and makes none of these.
// Verified is with what is before it: for ours the upload, in which each object is
// verified, by HTTP; for the peer the commit of the upload into the build, untrusted.
func measureImports(ctx context.Context, cfg config, out io.Writer) (err error) {
	mb, rounds := 100, 5
	if cfg.quick {
		mb, rounds = 10, 1
	}
	dir, err := os.MkdirTemp("", "freshet-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := importBench{tree: filepath.Join(dir, "tree"), source: filepath.Join(dir, "source"), build: filepath.Join(dir, "build"), repo: filepath.Join(dir, "repo")}
	if err := sampleTree(b.tree, int64(mb)*1_000_000); err != nil {
		return err
	}
	empty := filepath.Join(dir, "empty")
	if _, err := archive.Create(empty); err != nil {
		return err
	}
	if b.hub, err = startOurs(ctx, cfg.binary, filepath.Join(dir, "hub"), empty, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.hub.stop()) }()
	if err := output(ctx, "ostree", "init", "--repo="+b.repo, "--mode=archive-z2"); err != nil {
		return err
	}
	var ours, theirs importCosts
	for round := range rounds + 1 { // the first one warms both
		if err := b.write(round); err != nil {
			return err
		}
		// Neither is to write what the other left, nor always to come first.
		sides := []importSide{{b.ours, &ours}, {b.theirs, &theirs}}
		if round%2 == 1 {
			slices.Reverse(sides)
		}
		for _, side := range sides {
			if err := syncDisk(dir); err != nil {
				return err
			}
			cost, err := side.run(ctx)
			if err != nil {
				return err
			}
			if round > 0 {
				side.costs.add(cost)
			}
		}
	}
	printImport(out, fmt.Sprintf("import-%dMB-trusted", mb), median(ours.trusted), median(theirs.trusted))
	printImport(out, fmt.Sprintf("import-%dMB-verified", mb), median(ours.verified), median(theirs.verified))
	return nil
}

// importSide is one of the two that are compared.
type importSide struct {
	run   func(context.Context) (imported, error)
	costs *importCosts
}

// importCosts are those of all rounds.
type importCosts struct{ trusted, verified []cost }

func (c *importCosts) add(i imported) {
	c.trusted, c.verified = append(c.trusted, i.trusted), append(c.verified, i.verified)
}

func printImport(out io.Writer, name string, ours, peer cost) {
	printLine(out, name+"-cpu", seconds(ours.CPU), seconds(peer.CPU), ratio(ours.CPU, peer.CPU), goalImport)
	printLine(out, name+"-wall", seconds(ours.Wall), seconds(peer.Wall), ratio(ours.Wall, peer.Wall), goalImport)
}

// importBench has an app's files, and the repositories of both.
type importBench struct {
	hub                       *ours
	tree, source, build, repo string
}

// write writes the app to source, with other content each time.
func (b *importBench) write(round int) error {
	repo, err := archive.Create(b.source)
	if err != nil {
		return err
	}
	var files []archive.File
	if err := walkFiles(b.tree, func(path string, info fs.FileInfo) error {
		name, err := filepath.Rel(b.tree, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		files = append(files, archive.File{Path: name, Content: fmt.Append(content, round), Executable: info.Mode()&0o100 != 0})
		return err
	}); err != nil {
		return err
	}
	id := appID(0)
	meta := flatpak.Metadata{Kind: flatpak.App, Name: id, Runtime: platform, SDK: platform, Command: "app"}
	return repo.CommitFlatpak("app/"+id+"/x86_64/stable", meta, files, nil, time.Unix(int64(1_700_000_000+round), 0))
}

func (b *importBench) ours(ctx context.Context) (i imported, err error) {
	var build int64
	received, err := b.hub.measure(func() (err error) {
		build, err = b.hub.upload(ctx, b.source)
		return err
	})
	if err != nil {
		return i, err
	}
	if i.trusted, err = b.hub.measure(func() error { return b.hub.finish(ctx, build) }); err != nil {
		return i, err
	}
	i.verified = i.trusted.plus(received)
	return i, b.hub.settle(ctx)
}

func (b *importBench) theirs(ctx context.Context) (i imported, err error) {
	if err := output(ctx, "ostree", "init", "--repo="+b.build, "--mode=archive-z2"); err != nil {
		return i, err
	}
	from := func(args ...string) (cost, error) {
		all := append([]string{"build-commit-from", "--no-update-summary", "--force"}, args...)
		u, err := runUsage(exec.CommandContext(ctx, "flatpak", all...))
		return u.cost, err
	}
	received, err := from("--untrusted", "--disable-fsync", "--src-repo="+b.source, b.build)
	if err != nil {
		return i, err
	}
	if i.trusted, err = from("--src-repo="+b.build, b.repo); err != nil {
		return i, err
	}
	i.verified = i.trusted.plus(received)
	return i, os.RemoveAll(b.build)
}

func (c cost) plus(more cost) cost { return cost{CPU: c.CPU + more.CPU, Wall: c.Wall + more.Wall} }
