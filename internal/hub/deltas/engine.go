package deltas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
	"freshet/internal/xzrun"
)

// Engine makes static deltas. It may be used by several goroutines at once.
type Engine interface {
	// Make makes a delta of commits of repo in the folder dir, which is there and
	// empty: the files superblock, 0, 1, … Two calls for the same delta make
	// the same files, if the engine can.
	Make(ctx context.Context, repo Source, name ostree.DeltaName, dir string) (Report, error)
}

// Source is the repository of which a delta is made.
type Source struct {
	// Objects reads it.
	Objects *ostree.Repo
	// Dir is its folder, and Parent that of the repository which has the objects
	// that are not in it; "" for none.
	Dir, Parent string
}

// OpenSource opens a repository that is complete in itself.
func OpenSource(dir string) (Source, error) {
	objects, err := ostree.OpenRepo(os.DirFS(dir))
	return Source{Objects: objects, Dir: dir}, err
}

// Names of engines, as the configuration and workers use them.
const (
	EngineNative  = "native"
	EngineFlatpak = "flatpak"
)

// OpenEngine finds the programs that an engine needs.
func OpenEngine(name string) (Engine, error) {
	switch name {
	case EngineFlatpak:
		return FindFlatpak()
	case EngineNative:
		xz, err := xzrun.Find(xzrun.Balanced())
		if err != nil {
			return nil, err
		}
		return &Native{XZ: xz, Workers: 2}, nil
	}
	return nil, fmt.Errorf("%q is no engine for static deltas", name)
}

// Report says what a delta costs its clients, in bytes.
type Report struct {
	Size    uint64 // of its files, and of what is fetched singly besides
	Parts   int
	Singly  int    // objects that are fetched singly
	Objects int    // in the parts
	Instead uint64 // what the same objects take when all are fetched singly; 0: not known
}

// Native makes deltas by package delta.
type Native struct {
	// XZ compresses.
	XZ *xzrun.Program
	// Workers is how many parts are made at once; default 1.
	Workers int
}

// maxSingly is the size above which a file is fetched singly, unless most of it
// is in the version before: a download that breaks off then begins anew with
// that file and not with the part.
const maxSingly = 32 << 20

// Make implements [Engine].
func (n *Native) Make(ctx context.Context, repo Source, name ostree.DeltaName, dir string) (Report, error) {
	commit, err := repo.Objects.Commit(name.To)
	if err != nil {
		return Report{}, err
	}
	request := delta.Request{From: name.From, To: name.To, Timestamp: commit.Timestamp}
	block, stats, err := delta.Generate(ctx, repo.Objects, request, folder(dir), delta.Options{
		Compress: n.XZ.Method, Workers: n.Workers, Fallback: maxSingly,
	})
	if err != nil {
		return Report{}, err
	}
	head := block.Encode()
	if err := os.WriteFile(filepath.Join(dir, superblockFile), head, 0o644); err != nil {
		return Report{}, err
	}
	return Report{
		Size:  stats.Parts + stats.FallbackBytes + uint64(len(head)),
		Parts: len(block.Parts), Singly: stats.Fallbacks, Objects: stats.Objects, Instead: stats.Stored + stats.FallbackBytes,
	}, nil
}

// folder takes the parts of a delta.
type folder string

// Create implements [delta.Files].
func (f folder) Create(part int) (io.WriteCloser, error) {
	return os.OpenFile(filepath.Join(string(f), strconv.Itoa(part)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
}

// Flatpak makes deltas by flatpak build-update-repo.
type Flatpak struct {
	Program string // its path
}

// FindFlatpak finds flatpak in PATH.
func FindFlatpak() (*Flatpak, error) {
	path, err := exec.LookPath("flatpak")
	if err != nil {
		return nil, fmt.Errorf("flatpak is needed to make static deltas: install flatpak: %w", err)
	}
	return &Flatpak{path}, nil
}

// Make implements [Engine]. Flatpak writes into the repository that it reads; so
// it is given one of its own, with the objects of the other.
func (f *Flatpak) Make(ctx context.Context, repo Source, name ostree.DeltaName, dir string) (report Report, err error) {
	own, err := borrow(repo, dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(own)) }()
	args := []string{"build-update-repo", "--no-update-summary", "--no-update-appstream", "--generate-static-delta-to=" + name.To.String()}
	if !name.FromScratch() {
		args = append(args, "--generate-static-delta-from="+name.From.String())
	}
	cmd := exec.CommandContext(ctx, f.Program, append(args, own)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return Report{}, fmt.Errorf("flatpak build-update-repo: %w: %s", err, lastLine(out))
	}
	made := filepath.Join(own, filepath.FromSlash(name.Dir()))
	entries, err := os.ReadDir(made)
	if err != nil {
		return Report{}, err
	}
	for _, e := range entries {
		if err := os.Rename(filepath.Join(made, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return Report{}, err
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	head, err := root.Stat(superblockFile)
	if err != nil {
		return Report{}, err
	}
	block, err := readHead(root)
	if err != nil {
		return Report{}, err
	}
	return reportOf(block, int(head.Size())), nil
}

// borrow makes a repository inside of dir that has the objects of another one.
func borrow(repo Source, dir string) (string, error) {
	objects, err := filepath.Abs(repo.Dir)
	if err != nil {
		return "", err
	}
	own := filepath.Join(dir, "repo")
	for _, sub := range []string{"refs/heads", "refs/remotes", "refs/mirrors", "tmp", "extensions", "state"} {
		if err := os.MkdirAll(filepath.Join(own, sub), 0o755); err != nil {
			return "", err
		}
	}
	config := "[core]\nrepo_version=1\nmode=archive-z2\n"
	if repo.Parent != "" {
		parent, err := filepath.Abs(repo.Parent)
		if err != nil {
			return "", err
		}
		config += "parent=" + parent + "\n"
	}
	return own, errors.Join(
		os.WriteFile(filepath.Join(own, "config"), []byte(config), 0o644),
		os.Symlink(filepath.Join(objects, "objects"), filepath.Join(own, "objects")),
	)
}

func lastLine(out []byte) string {
	text := strings.TrimSpace(string(out))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
