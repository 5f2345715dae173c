package tree

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"freshet/api/hubapi"
)

// push is a tree on its way in.
type push struct {
	manifest
	sizes map[string]int64 // of the contents, by SHA256
	order []string         // the contents, in the order of the files

	// By Trees.mu.
	touched    time.Time // something was last heard of it
	publishing bool
}

func newPush(m *manifest) *push {
	p := &push{manifest: *m, sizes: make(map[string]int64), touched: time.Now()}
	for i := range m.Files {
		f := &m.Files[i]
		if _, ok := p.sizes[f.SHA256]; !ok && f.Link == "" {
			p.sizes[f.SHA256] = f.Size
			p.order = append(p.order, f.SHA256)
		}
	}
	return p
}

func pushFile(id string) string { return path.Join("pushes", id+".json") }

// Begin begins a push of a whole tree and tells which contents are missing.
// When it returns, the push survives a restart. A bad list of files is
// [ErrRefused].
func (t *Trees) Begin(ctx context.Context, name string, files []hubapi.TreeFile) (hubapi.TreePush, error) {
	if err := checkName(name); err != nil {
		return hubapi.TreePush{}, err
	}
	files, err := checkFiles(files)
	if err != nil {
		return hubapi.TreePush{}, err
	}
	p := newPush(&manifest{Version: version, Tree: name, Push: newID(), Created: now(), Files: files})
	// Registered before it is on the disk, so that what is there already
	// cannot be retired while we look.
	if err := t.registerNew(p); err != nil {
		return hubapi.TreePush{}, err
	}
	if err := t.writeManifest(pushFile(p.Push), &p.manifest); err != nil {
		return hubapi.TreePush{}, fmt.Errorf("begin a push of tree %s: %w", name, errors.Join(err, t.drop(p)))
	}
	return t.describe(ctx, p)
}

// Push describes a push that was begun, with what is missing now. Asking does
// not prolong its life.
func (t *Trees) Push(ctx context.Context, id string) (hubapi.TreePush, error) {
	t.mu.Lock()
	p := t.pushes[id]
	t.mu.Unlock()
	if p == nil {
		return hubapi.TreePush{}, fmt.Errorf("push %.64q: %w", id, ErrNotFound)
	}
	return t.describe(ctx, p)
}

// Cancel ends a push without publishing it. Contents that only it wanted are
// removed.
func (t *Trees) Cancel(id string) error {
	p, err := t.push(id)
	if err != nil {
		return err
	}
	t.mu.Lock()
	publishing := p.publishing
	if !publishing {
		p.publishing = true // by nobody: it cannot be published any more
	}
	t.mu.Unlock()
	if publishing {
		return fmt.Errorf("push %s: %w", id, ErrBusy)
	}
	if err := t.drop(p); err != nil {
		return fmt.Errorf("cancel push %s: %w", id, err)
	}
	return nil
}

func (t *Trees) push(id string) (*push, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.pushes[id]
	if p == nil {
		return nil, fmt.Errorf("push %.64q: %w", id, ErrNotFound)
	}
	p.touched = time.Now()
	return p, nil
}

// Limits of the pushes that are open at the same time, whose lists of files
// are held in memory. Those nobody touches end by themselves.
const (
	maxPushes    = 32       // of one tree
	maxOpenFiles = MaxFiles // of all pushes
)

// registerNew registers a push unless too many are open. The error is
// [ErrBusy].
func (t *Trees) registerNew(p *push) error {
	t.mu.Lock()
	pushes, files := 0, 0
	for _, other := range t.pushes {
		files += len(other.Files)
		if other.Tree == p.Tree {
			pushes++
		}
	}
	t.mu.Unlock()
	if pushes >= maxPushes || files > 0 && files+len(p.Files) > maxOpenFiles {
		return fmt.Errorf("%w: %d pushes of tree %s are open, and %d files in pushes of all trees: publish or cancel some", ErrBusy, pushes, p.Tree, files)
	}
	t.register(p)
	return nil
}

func (t *Trees) register(p *push) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pushes[p.Push] = p
	for _, sum := range p.order {
		t.wanted[sum]++
	}
}

// drop removes the push, and the contents that nothing else needs.
func (t *Trees) drop(p *push) error {
	if err := t.dir.Remove(pushFile(p.Push)); err != nil {
		return err
	}
	t.mu.Lock()
	if t.pushes[p.Push] == p {
		delete(t.pushes, p.Push)
		for _, sum := range p.order {
			if t.wanted[sum]--; t.wanted[sum] == 0 {
				delete(t.wanted, sum)
			}
		}
	}
	t.mu.Unlock()
	for _, sum := range p.order {
		if _, _, err := t.removeUnused(sum); err != nil {
			return err
		}
	}
	return nil
}

func (t *Trees) describe(ctx context.Context, p *push) (hubapi.TreePush, error) {
	missing := []string{}
	for i, sum := range p.order {
		if i%1024 == 0 && ctx.Err() != nil {
			return hubapi.TreePush{}, ctx.Err()
		}
		ok, err := t.has(sum, p.sizes[sum])
		if err != nil {
			return hubapi.TreePush{}, fmt.Errorf("push %s: %w", p.Push, err)
		}
		if !ok {
			missing = append(missing, sum)
		}
	}
	return hubapi.TreePush{
		ID: p.Push, Tree: p.Tree, Created: p.Created,
		Files: len(p.Files), Bytes: p.bytes(), Missing: missing,
	}, nil
}

// openPushes reads the pushes that were begun.
func (t *Trees) openPushes() error {
	if err := t.dir.MkdirAll("pushes", 0o755); err != nil {
		return err
	}
	if _, err := t.dir.Sweep("pushes"); err != nil {
		return err
	}
	entries, err := fs.ReadDir(t.dir.Root.FS(), "pushes")
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		m, err := t.readManifest(pushFile(id))
		if err != nil {
			return err
		}
		if m.Push != id {
			return fmt.Errorf("%s: it is push %q", pushFile(id), m.Push)
		}
		t.register(newPush(m))
	}
	return nil
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand.Read
	return hex.EncodeToString(b[:])
}

func now() hubapi.Timestamp {
	return hubapi.Timestamp{Time: time.Now().UTC().Truncate(time.Millisecond)}
}
