package engine_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/mirror/kind"
	"freshet/internal/peertest"
	"freshet/internal/repotest"
)

// fixture is an upstream of one kind, made by the programs of the field.
type fixture struct {
	name   string
	needs  []string
	config kind.Config
	// publish makes version v, from 1, in the upstream's folder: some files stay, one is
	// gone, one is new, one has another content.
	publish func(t *testing.T, up string, v int)
}

func fixtures() []fixture {
	return []fixture{
		{"rpm", []string{"rpmbuild", "createrepo_c"}, kind.Config{Format: kind.RPM, Repositories: []string{"repo"}}, publishRPM},
		{"deb", []string{"dpkg-deb", "apt-ftparchive"}, kind.Config{Format: kind.Deb, Repositories: []string{"dists/sid"}}, publishDeb},
		{"arch", []string{"bsdtar", "repo-add"}, kind.Config{Format: kind.Arch, Repositories: []string{"core/os/x86_64/core.db"}}, publishArch},
		{"alpine", nil, kind.Config{Format: kind.Alpine, Repositories: []string{"v3/main/x86_64"}}, publishAlpine},
		{"images", nil, kind.Config{Format: kind.Images}, publishImages},
		{"ostree", []string{"ostree"}, kind.Config{Format: kind.OSTree}, publishOSTree},
		{"plain", nil, kind.Config{Format: kind.Plain}, publishPlain},
	}
}

func put(t *testing.T, file string, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	// Never in place: a server may be reading it.
	if err := os.WriteFile(file+"~", []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+"~", file); err != nil {
		t.Fatal(err)
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
}

func publishRPM(t *testing.T, up string, v int) {
	packages := filepath.Join(up, "repo/Packages")
	if v == 1 {
		for _, name := range []string{"stays", "too"} {
			repotest.RPM(t, packages, name, "1")
		}
	}
	// What is behind a package is not read by the programs that make repositories.
	text, err := os.ReadFile(filepath.Join(packages, "stays-1.rpm"))
	if err != nil {
		t.Fatal(err)
	}
	remove(t, filepath.Join(packages, fmt.Sprintf("new%d.rpm", v-1)))
	put(t, filepath.Join(packages, fmt.Sprintf("new%d.rpm", v)), string(text)+strings.Repeat("x", v))
	put(t, filepath.Join(packages, "changes.rpm"), string(text)+strings.Repeat("y", 50+v%2)+fmt.Sprint(v))
	peertest.Run(t, up, nil, "createrepo_c", "--quiet", fmt.Sprintf("--revision=%d", v), "repo")
}

func publishDeb(t *testing.T, up string, v int) {
	for _, name := range []string{"stays", "too", fmt.Sprintf("new%d", v)} {
		if file := filepath.Join(up, "pool", name+".deb"); !exists(file) {
			repotest.Deb(t, file, name, "1")
		}
	}
	remove(t, filepath.Join(up, fmt.Sprintf("pool/new%d.deb", v-1)))
	peertest.Run(t, up, nil, "sh", "-ec", `
		mkdir -p dists/sid/main/binary-amd64
		apt-ftparchive packages pool > dists/sid/main/binary-amd64/Packages
		gzip -nkf dists/sid/main/binary-amd64/Packages
		apt-ftparchive -o APT::FTPArchive::Release::Suite=sid -o APT::FTPArchive::Release::Acquire-By-Hash=no release dists/sid > Release
		mv Release dists/sid/Release`)
	// The date is that of the version.
	text, err := os.ReadFile(filepath.Join(up, "dists/sid/Release"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "Date:") {
			line = fmt.Sprintf("Date: Thu, 01 Jan 2026 00:%02d:00 UTC\n", v%60)
		}
		lines = append(lines, line)
	}
	put(t, filepath.Join(up, "dists/sid/InRelease"), strings.Join(lines, ""))
	remove(t, filepath.Join(up, "dists/sid/Release"))
}

func publishArch(t *testing.T, up string, v int) {
	dir := filepath.Join(up, "core/os/x86_64")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var bases []string
	for _, name := range []string{"stays", "too", fmt.Sprintf("new%d", v)} {
		if base := name + "-1-1-any.pkg.tar.zst"; !exists(filepath.Join(dir, base)) {
			repotest.Arch(t, dir, name, "1-1")
			bases = append(bases, base)
		}
	}
	db := []string{"-q", "core.db.tar.gz"}
	if gone := fmt.Sprintf("new%d", v-1); exists(filepath.Join(dir, gone+"-1-1-any.pkg.tar.zst")) {
		peertest.Run(t, dir, nil, "repo-remove", append(db, gone)...)
		remove(t, filepath.Join(dir, gone+"-1-1-any.pkg.tar.zst"))
	}
	peertest.Run(t, dir, nil, "repo-add", append(db, bases...)...)
}

func publishAlpine(t *testing.T, up string, v int) {
	dir := filepath.Join(up, "v3/main/x86_64")
	var entries string
	for _, name := range []string{"stays", "too", fmt.Sprintf("new%d", v)} {
		content, entry := repotest.Apk(name, "1")
		if file := filepath.Join(dir, name+"-1.apk"); !exists(file) {
			put(t, file, content)
		}
		entries += entry
	}
	remove(t, filepath.Join(dir, fmt.Sprintf("new%d-1.apk", v-1)))
	put(t, filepath.Join(dir, "APKINDEX.tar.gz"), repotest.ApkIndex(entries))
}

func publishImages(t *testing.T, up string, v int) {
	contents := map[string]string{
		"iso/stays.iso":                   "the same",
		fmt.Sprintf("iso/new%d.iso", v):   fmt.Sprintf("image %d", v),
		"iso/changes.iso":                 fmt.Sprintf("changes %d", v),
		fmt.Sprintf("iso/other%d.iso", v): fmt.Sprintf("image %d", v),
	}
	var sums string
	for name, text := range contents {
		put(t, filepath.Join(up, name), text)
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(text)), filepath.Base(name))
	}
	remove(t, filepath.Join(up, fmt.Sprintf("iso/new%d.iso", v-1)))
	remove(t, filepath.Join(up, fmt.Sprintf("iso/other%d.iso", v-1)))
	put(t, filepath.Join(up, "iso/SHA256SUMS"), sums)
}

func publishOSTree(t *testing.T, up string, v int) {
	tree := t.TempDir()
	put(t, filepath.Join(tree, "stays"), "the same")
	put(t, filepath.Join(tree, "usr/changes"), fmt.Sprintf("version %d", v))
	put(t, filepath.Join(tree, fmt.Sprintf("usr/new%d", v)), fmt.Sprintf("new %d", v))
	if v == 1 {
		peertest.Run(t, up, nil, "ostree", "init", "--mode=archive", "--repo=.")
	}
	peertest.Run(t, up, nil, "ostree", "--repo=.", "commit", "--branch=app/x", fmt.Sprintf("--timestamp=@%d", 1_700_000_000+v), "--tree=dir="+tree)
	peertest.Run(t, up, nil, "ostree", "--repo=.", "prune", "--refs-only", "--depth=0")
	peertest.Run(t, up, nil, "ostree", "--repo=.", "summary", "-u")
}

func publishPlain(t *testing.T, up string, v int) {
	if stays := filepath.Join(up, "stays"); v == 1 {
		put(t, stays, "the same")
		if err := os.Chtimes(stays, time.Unix(1_700_000_000, 0), time.Unix(1_700_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, filepath.Join(up, "dir/changes"), fmt.Sprintf("version %d", v))
	put(t, filepath.Join(up, "odd: % # ? name\n"), fmt.Sprintf("version %d", v))
	put(t, filepath.Join(up, fmt.Sprintf("dir/new%d", v)), fmt.Sprintf("version %d", v))
	remove(t, filepath.Join(up, fmt.Sprintf("dir/new%d", v-1)))
	if v == 1 {
		if err := os.Symlink("stays", filepath.Join(up, "link")); err != nil {
			t.Fatal(err)
		}
	}
}

// folderTree is the tree in a folder.
func folderTree(dir string) kind.Tree {
	fsys := os.DirFS(dir)
	return kind.Tree{
		Open: func(_ context.Context, name string) (fs.File, error) { return fsys.Open(name) },
		List: func(context.Context) iter.Seq2[kind.File, error] {
			return func(yield func(kind.File, error) bool) {
				_ = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
					var f kind.File
					if f.Path = name; err == nil && d.IsDir() {
						return nil
					}
					if !yield(f, err) {
						return fs.SkipAll
					}
					return nil
				})
			}
		},
	}
}

// visit does what a client does with the tree in a folder: from the pointers to every
// file. It returns how many files there are.
func visit(ctx context.Context, c kind.Config, dir string) (files int, err error) {
	k, err := kind.New(c)
	if err != nil {
		return 0, err
	}
	if c.Format == kind.Plain {
		return visitPlain(dir)
	}
	tree := folderTree(dir)
	list, err := k.Repositories(ctx, tree)
	if err != nil {
		return 0, err
	}
	for _, r := range list {
		for f, err := range k.Files(ctx, tree, r, nil) {
			if err != nil {
				return files, err
			}
			in, err := tree.Open(ctx, f.Path)
			if errors.Is(err, fs.ErrNotExist) && f.Optional {
				continue
			}
			if err != nil {
				return files, fmt.Errorf("%s names %w", r.Pointer, err)
			}
			err = kind.Verify(f, in)
			_ = in.Close()
			if err != nil {
				return files, err
			}
			files++
		}
	}
	return files, nil
}

// visitPlain looks whether all files are of one version.
func visitPlain(dir string) (files int, err error) {
	version := ""
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files++
		if !strings.HasPrefix(string(text), "version ") {
			return nil
		}
		if version == "" {
			version = string(text)
		}
		if version != string(text) {
			return fmt.Errorf("%s is of %s, another of %s", name, text, version)
		}
		return nil
	})
	return files, err
}
