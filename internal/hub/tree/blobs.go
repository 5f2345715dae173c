package tree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"freshet/internal/durable"
)

// MismatchError says that an uploaded content is not what its name says. It is
// [ErrRefused].
type MismatchError struct {
	// SHA256 is the name under which it was sent.
	SHA256 string
	// Reason says what is wrong with it.
	Reason string
}

func (e *MismatchError) Error() string { return fmt.Sprintf("content %s: %s", e.SHA256, e.Reason) }

// Is makes it an [ErrRefused].
func (e *MismatchError) Is(target error) bool { return target == ErrRefused }

// PutBlob receives a content of a push. It reads r to its end, but never more
// than the size that the push tells, and stores nothing unless size and hash
// are right; else the error is a [*MismatchError]. A content that is there
// already is not read.
func (t *Trees) PutBlob(ctx context.Context, pushID, sum string, r io.Reader) error {
	p, err := t.push(pushID)
	if err != nil {
		return err
	}
	size, ok := p.sizes[sum]
	if !ok {
		return &MismatchError{SHA256: fmt.Sprintf("%.64q", sum), Reason: "the push does not list it"}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if ok, err := t.has(sum, size); ok || err != nil {
		return err
	}
	if err := t.receive(sum, size, r); err != nil {
		if _, mismatch := errors.AsType[*MismatchError](err); mismatch {
			return err
		}
		return fmt.Errorf("content %s: %w", sum, err)
	}
	_, err = t.push(pushID) // it was heard of, or ended meanwhile
	return err
}

func (t *Trees) receive(sum string, size int64, r io.Reader) (err error) {
	temp := durable.TempName()
	f, err := t.incoming.Create(temp, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // a second Close is harmless
			_ = t.incoming.Root.Remove(temp)
		}
	}()
	hash := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, hash), io.LimitReader(r, size+1))
	if err != nil {
		return err
	}
	if n > size {
		return &MismatchError{SHA256: sum, Reason: fmt.Sprintf("more than %d bytes", size)}
	}
	if n < size {
		return &MismatchError{SHA256: sum, Reason: fmt.Sprintf("%d bytes instead of %d", n, size)}
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != sum {
		return &MismatchError{SHA256: sum, Reason: "the SHA-256 of what was received is " + got}
	}
	if err := f.Close(); err != nil {
		return err
	}
	return t.incoming.Rename(temp, sum)
}

func blobPath(sum string) string { return sum[:2] + "/" + sum }

// has reports whether the content is there, as a blob or uploaded.
func (t *Trees) has(sum string, size int64) (bool, error) {
	for _, place := range []struct {
		dir  durable.Dir
		name string
	}{{t.blobs, blobPath(sum)}, {t.incoming, sum}} {
		info, err := place.dir.Root.Lstat(place.name)
		if err == nil && info.Mode().IsRegular() && info.Size() == size {
			return true, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}

// removeUnused removes a content that no generation and no push needs, and
// returns how many files and bytes that were.
func (t *Trees) removeUnused(sum string) (files int, size int64, err error) {
	// With mu no push can come to want it meanwhile.
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wanted[sum] > 0 {
		return 0, 0, nil
	}
	if err := t.incoming.Remove(sum); err != nil {
		return 0, 0, err
	}
	info, err := t.blobs.Root.Lstat(blobPath(sum))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	// A second name is that of a generation.
	if links(info) > 1 {
		return 0, 0, nil
	}
	return 1, info.Size(), t.blobs.Remove(blobPath(sum))
}

func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // 32 bits wide on some machines
	}
	return 2
}

// blob is a content that is on the disk.
type blob struct {
	mtime int64 // seconds since 1970
}

// settle makes what was uploaded for the push durable and turns it into blobs.
// It fails unless all contents are there.
func (t *Trees) settle(ctx context.Context, p *push) (map[string]blob, error) {
	times := make(map[string]int64, len(p.order))
	for i := range p.Files {
		if f := &p.Files[i]; f.Link == "" {
			if _, ok := times[f.SHA256]; !ok {
				times[f.SHA256] = f.ModTime
			}
		}
	}
	var uploaded []string
	for _, sum := range p.order {
		info, err := t.incoming.Root.Lstat(sum)
		switch {
		case err == nil && info.Size() == p.sizes[sum]:
			uploaded = append(uploaded, sum)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
	}
	if len(uploaded) > 0 {
		if err := t.incoming.Syncfs(); err != nil {
			return nil, err
		}
	}
	for _, sum := range uploaded {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := t.promote(sum); err != nil {
			return nil, err
		}
	}
	blobs := make(map[string]blob, len(p.order))
	for _, sum := range p.order {
		info, err := t.blobs.Root.Lstat(blobPath(sum))
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() != p.sizes[sum] {
			return nil, fmt.Errorf("%w: the content %s was not uploaded", ErrRefused, sum)
		}
		if err != nil {
			return nil, err
		}
		b := blob{mtime: info.ModTime().Unix()}
		if want := times[sum]; links(info) == 1 && b.mtime != want {
			when := time.Unix(want, 0)
			if err := t.blobs.Root.Chtimes(blobPath(sum), when, when); err != nil {
				return nil, err
			}
			b.mtime = want
		}
		blobs[sum] = b
	}
	return blobs, nil
}

// promote makes an uploaded content a blob. One that is there already stays,
// for generations have links to it.
func (t *Trees) promote(sum string) error {
	if _, err := t.blobs.Root.Lstat(blobPath(sum)); err == nil {
		return t.incoming.Remove(sum)
	}
	if err := t.blobs.Mkdirs(sum[:2], 0o755, func(string) {}); err != nil {
		return err
	}
	err := t.dir.Rename(path.Join(t.incomingName(), sum), path.Join("blobs", blobPath(sum)))
	if errors.Is(err, fs.ErrNotExist) {
		// Another tree that has the same content may have done it meanwhile.
		if _, there := t.blobs.Root.Lstat(blobPath(sum)); there == nil {
			return nil
		}
	}
	return err
}

// incomingName is the folder of incoming, relative to dir.
func (t *Trees) incomingName() string { return path.Join("incoming", t.boot()) }

func (t *Trees) boot() string { return path.Base(t.incoming.Root.Name()) }

// openBlobs opens the folders of contents. What was uploaded before the machine
// started anew may not have reached the disk whole, and is hashed again. A
// process that was killed loses nothing: what it wrote, the kernel has.
func (t *Trees) openBlobs() (err error) {
	boot := bootID()
	for _, name := range []string{"blobs", path.Join("incoming", boot)} {
		if err := t.dir.MkdirAll(name, 0o755); err != nil {
			return err
		}
	}
	if t.blobs, err = t.sub("blobs"); err != nil {
		return err
	}
	if t.incoming, err = t.sub(path.Join("incoming", boot)); err != nil {
		return err
	}
	if _, err := t.incoming.Sweep("."); err != nil {
		return err
	}
	entries, err := fs.ReadDir(t.dir.Root.FS(), "incoming")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == boot {
			continue
		}
		if err := t.rescue(path.Join("incoming", e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trees) sub(name string) (durable.Dir, error) {
	root, err := t.dir.Root.OpenRoot(name)
	return durable.Dir{Root: root, Fault: t.dir.Fault}, err
}

// rescue keeps those contents of a folder that are what their names say.
func (t *Trees) rescue(folder string) error {
	entries, err := fs.ReadDir(t.dir.Root.FS(), folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		if isSHA256(e.Name()) && t.hashFile(name) == e.Name() {
			if err := t.dir.Rename(name, path.Join(t.incomingName(), e.Name())); err != nil {
				return err
			}
		}
	}
	return t.dir.RemoveAll(folder)
}

// hashFile returns the SHA256 of a file, or "" if it cannot be read.
func (t *Trees) hashFile(name string) string {
	f, err := t.dir.Root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // opened for reading
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		return ""
	}
	return hex.EncodeToString(hash.Sum(nil))
}

// bootID names this boot of the machine (random(4)). Where the kernel does not
// tell, every start counts as one.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	id = bytes.TrimSpace(id)
	if err != nil || len(id) != 36 || strings.Trim(string(id), "0123456789abcdef-") != "" {
		return newID()
	}
	return string(id)
}
