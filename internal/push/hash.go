package push

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// hashes is the cache of a directory's hashes, by path.
type hashes struct {
	// Version of the format; another one is ignored.
	Version int                   `json:"version"`
	Dir     string                `json:"dir"`
	Files   map[string]cachedHash `json:"files"`
}

type cachedHash struct {
	fileStat
	SHA256 string `json:"h"`
}

const (
	hashesVersion = 1
	maxHashes     = 1 << 30 // bytes of the cache file
	// settled is how long before it was hashed a file must have been changed
	// for its times to prove later that it was not changed again: the clocks of
	// file systems are coarse.
	settled = 3 * time.Second
)

func readHashes(file, dir string) *hashes {
	var h hashes
	if file == "" || !readState(file, maxHashes, &h) || h.Version != hashesVersion || h.Dir != dir || h.Files == nil {
		return &hashes{Version: hashesVersion, Dir: dir, Files: map[string]cachedHash{}}
	}
	return &h
}

// lookup returns the hash of a file that has not changed since it was taken.
func (h *hashes) lookup(f *localFile) string {
	if c, ok := h.Files[f.path]; ok && c.fileStat == f.stat {
		return c.SHA256
	}
	return ""
}

// save replaces the cache file by the files' hashes, as taken at the time or
// before, except those of files changed just then.
func (h *hashes) save(file string, files []*localFile, taken time.Time) error {
	if file == "" {
		return nil
	}
	limit := taken.Add(-settled).UnixNano()
	kept := make(map[string]cachedHash, len(files))
	for _, f := range files {
		if f.hash != "" && f.stat.MTime < limit && f.stat.CTime < limit {
			kept[f.path] = cachedHash{f.stat, f.hash}
		}
	}
	h.Files = kept
	return writeState(file, h)
}

// hashAll fills in the hashes of the files that have none, several at a time.
func hashAll(ctx context.Context, root *os.Root, files []*localFile, p Progress) error {
	var todo []*localFile
	var total int64
	for _, f := range files {
		if f.link == "" && f.hash == "" {
			todo = append(todo, f)
			total += f.stat.Size
		}
	}
	if len(todo) == 0 {
		return nil
	}
	p.Start("hashing", total)
	defer p.Finish()
	var mu sync.Mutex
	var done int64
	moved := func(n int64) {
		mu.Lock()
		defer mu.Unlock()
		done += n
		p.Set(done)
	}
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range todo {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error { return f.rehash(inner, root, moved) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// errChanging says that a file did not hold still.
var errChanging = errors.New("the file changes while it is being read")

// rehash reads the file and sets its hash and stat. A file that changes
// meanwhile is read once more.
func (f *localFile) rehash(ctx context.Context, root *os.Root, moved func(int64)) error {
	for range 2 {
		same, err := f.hashOnce(ctx, root, moved)
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
		if same {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", f.path, errChanging)
}

// hashOnce reports whether the file was the same before and after reading.
func (f *localFile) hashOnce(ctx context.Context, root *os.Root, moved func(int64)) (same bool, err error) {
	file, err := f.open(root)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	before, err := file.Stat()
	if err != nil {
		return false, err
	}
	h := sha256.New()
	n, err := io.Copy(h, &meteredReader{io.NopCloser(stopReader{ctx, file}), moved})
	if err != nil {
		return false, err
	}
	after, err := file.Stat()
	if err != nil {
		return false, err
	}
	f.stat = statOf(after)
	f.hash = hex.EncodeToString(h.Sum(nil))
	return statOf(before) == f.stat && n == f.stat.Size, nil
}

// open opens the file below root, and only if it is still a file and not a
// link to one.
func (f *localFile) open(root *os.Root) (*os.File, error) {
	listed, err := root.Lstat(f.path)
	if err != nil {
		return nil, err
	}
	if !listed.Mode().IsRegular() {
		return nil, errors.New("no longer a file")
	}
	file, err := root.Open(f.path)
	if err != nil {
		return nil, err
	}
	if opened, err := file.Stat(); err != nil || !os.SameFile(listed, opened) {
		return nil, errors.Join(errChanging, err, file.Close())
	}
	return file, nil
}

// stopReader ends reading when ctx does.
type stopReader struct {
	ctx context.Context //nolint:containedctx // lives as long as one copy
	r   io.Reader
}

func (r stopReader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}
