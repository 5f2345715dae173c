package fetch

import (
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"freshet/api/mirrorapi"
	"freshet/internal/closure"
	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
	"freshet/internal/source"
)

// ErrManifest is among the errors of a mirror whose manifest cannot be read.
var ErrManifest = errors.New("the mirror's manifest is not sound")

// mirrorSource is a project of another mirror, as it is served to everybody. [Pin] makes
// it one generation.
type mirrorSource struct {
	*webSource
	project string
	mirror  *webSource // all of the mirror
}

func openMirror(u *url.URL, text string, o Options) (*mirrorSource, error) {
	root, project := SplitMirror(u)
	base, err := url.Parse(root + "/")
	if err != nil {
		return nil, err
	}
	s := &mirrorSource{webSource: openWeb(u, text, o), project: project}
	s.mirror = s.at(base)
	return s, nil
}

// at is the same source with another root.
func (s *mirrorSource) at(root *url.URL) *webSource {
	other := *s.webSource
	other.root = root
	return &other
}

// Pinned is a generation of a project of another mirror. Whatever is read of it is of this
// generation, and is what its manifest says: everything else is inconsistent.
type Pinned struct {
	head     mirrorapi.Head
	manifest *generation.Manifest
	tree     *webSource
}

// Shelf keeps the manifest that was read last of each upstream: [generation.Project].
type Shelf interface {
	// KeptManifest returns the one that was kept of an upstream. The error is
	// [fs.ErrNotExist] if there is none, and [generation.ErrManifest] if it was damaged.
	KeptManifest(of string) (*generation.Manifest, error)
	// KeepManifest keeps another one in its place, which make writes to an empty file.
	KeepManifest(of string, make func(*os.File) (*generation.Manifest, error)) (*generation.Manifest, error)
}

// maxHead bounds what a mirror says of a generation.
const maxHead = 1 << 20

// Pin returns the generation that a mirror serves now, if the source is a mirror of which
// generations are fetched; else nil. Its manifest is that on the shelf, if it is still the
// same, or made of it and of what has changed, if the mirror tells that. The errors are those of
// [Source.Read], of the disk, and [ErrManifest] or [closure.ErrInconsistent] of what is not
// as it should be. The caller closes it.
func Pin(ctx context.Context, from Source, shelf Shelf) (*Pinned, error) {
	s, ok := from.(*mirrorSource)
	if !ok {
		return nil, nil //nolint:nilnil // as documented
	}
	head, err := s.readHead(ctx)
	if err != nil {
		return nil, err
	}
	manifest, err := s.manifestOf(ctx, head, shelf)
	if err != nil {
		return nil, fmt.Errorf("generation %s at %s: %w", head.Generation, s.url, err)
	}
	tree := s.mirror.below(s.path(head, "tree/"))
	return &Pinned{head: head, manifest: manifest, tree: s.at(tree)}, nil
}

func (s *mirrorSource) readHead(ctx context.Context) (head mirrorapi.Head, err error) {
	f, err := s.mirror.Read(ctx, s.projectPath(), maxHead, Validator{})
	if errors.Is(err, fs.ErrNotExist) {
		// Not the same as a file that is not there: nothing is known of the project.
		return head, fmt.Errorf("%w: it has no project %q, or is no Freshet mirror: %w", ErrUnreachable, s.project, err)
	}
	if err != nil {
		return head, err
	}
	if err := json.Unmarshal(f.Data, &head); err != nil {
		return head, fmt.Errorf("%w: %s: which generation there is: %w", ErrManifest, s.url, err)
	}
	sum, err := hex.DecodeString(head.Manifest)
	if name := head.Generation; err != nil || len(sum) != sha256.Size || name == "" || len(name) > 128 || strings.ContainsAny(name, "/%?#") || name[0] == '.' {
		return head, fmt.Errorf("%w: %s: %.80q is no name of a generation, or %.80q no SHA-256", ErrManifest, s.url, name, head.Manifest)
	}
	return head, nil
}

// projectPath is where the mirror tells of the project, and path where it has something of
// a generation.
func (s *mirrorSource) projectPath() string {
	return strings.TrimPrefix(mirrorapi.GenerationsPrefix, "/") + s.project
}

func (s *mirrorSource) path(head mirrorapi.Head, what string) string {
	return s.projectPath() + "/" + head.Generation + "/" + what
}

// manifestOf returns the manifest of a generation.
func (s *mirrorSource) manifestOf(ctx context.Context, head mirrorapi.Head, shelf Shelf) (*generation.Manifest, error) {
	kept, err := shelf.KeptManifest(s.url)
	switch {
	case err == nil && kept.Sum() == head.Manifest:
		return kept, nil
	case err == nil:
		m, err := s.keep(ctx, shelf, s.path(head, "delta/"+kept.Name()), func(from io.Reader, to *os.File) (*generation.Manifest, error) {
			return kept.ApplyDelta(from, to, head.Manifest)
		})
		if closed := kept.Close(); err == nil || ctx.Err() != nil || durable.IsNoSpace(err) {
			return m, errors.Join(err, closed)
		}
		// It has none between these two, or one that is not sound: then all of it.
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, generation.ErrManifest):
		return nil, err
	}
	return s.keep(ctx, shelf, s.path(head, "manifest"), func(from io.Reader, to *os.File) (*generation.Manifest, error) {
		return generation.UnpackManifest(from, to, head.Manifest)
	})
}

// keep makes a manifest of what the mirror has at a path.
func (s *mirrorSource) keep(ctx context.Context, shelf Shelf, path string, read func(from io.Reader, to *os.File) (*generation.Manifest, error)) (*generation.Manifest, error) {
	a, err := s.mirror.ask(ctx, http.MethodGet, s.mirror.below(path), make(http.Header))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: it has switched meanwhile: %w", closure.ErrInconsistent, err)
	}
	if err != nil {
		return nil, err
	}
	defer a.close()
	src := &source.Reader{R: a}
	m, err := shelf.KeepManifest(s.url, func(to *os.File) (*generation.Manifest, error) { return read(src, to) })
	switch {
	case err == nil:
		return m, nil
	case src.Err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, src.Err)
	case errors.Is(err, generation.ErrOther):
		return nil, fmt.Errorf("%w: %w", closure.ErrInconsistent, err)
	case errors.Is(err, generation.ErrManifest):
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return nil, err
}

// Head is what the mirror says of the generation.
func (p *Pinned) Head() mirrorapi.Head { return p.head }

// Close ends the use of it.
func (p *Pinned) Close() error { return p.manifest.Close() }

// URL is that of the source that was pinned.
func (p *Pinned) URL() string { return p.tree.url }

// maxLinks is how many symbolic links lead to a file at most.
const maxLinks = 16

// Find returns the regular file that the generation has at a path, through links, and
// whether there is one. The error is of the disk.
func (p *Pinned) Find(name string) (generation.File, bool, error) {
	for range maxLinks {
		f, ok, err := p.manifest.Find(name)
		if err != nil || ok && !f.IsLink() {
			return f, ok, err
		}
		if ok {
			name = path.Join(path.Dir(name), f.Link)
			continue
		}
		if name, ok, err = p.throughFolder(name); err != nil || !ok {
			return f, false, err
		}
	}
	return generation.File{}, false, nil
}

// throughFolder replaces the first folder of a path that is a link by what it leads to.
func (p *Pinned) throughFolder(name string) (string, bool, error) {
	for i := range len(name) {
		if name[i] != '/' {
			continue
		}
		f, ok, err := p.manifest.Find(name[:i])
		if err != nil {
			return "", false, err
		}
		if ok && f.IsLink() {
			return path.Join(path.Dir(name[:i]), f.Link, name[i:]), true, nil
		}
	}
	return "", false, nil
}

// Read implements [Source]. What the manifest says is more than a validator tells: a file is
// always read.
func (p *Pinned) Read(ctx context.Context, name string, limit int64, v Validator) (File, error) {
	f, ok, err := p.Find(name)
	switch {
	case err != nil:
		return File{}, err
	case !ok && slices.Contains(p.head.Stamps, name):
		return p.tree.Read(ctx, name, limit, v)
	case !ok:
		return File{}, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	case f.Size > limit:
		return File{}, fmt.Errorf("%s of %s has more than %d bytes", name, p.tree.url, limit)
	}
	got, err := p.tree.Read(ctx, name, limit, Validator{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return File{}, fmt.Errorf("%w: the manifest names %s, which the mirror does not have: %v", closure.ErrInconsistent, name, err) //nolint:errorlint // not one that is rightly absent
	case err != nil:
		return File{}, err
	case int64(len(got.Data)) != f.Size || sha256.Sum256(got.Data) != f.SHA256:
		return File{}, fmt.Errorf("%w: %s is another file than the mirror's manifest says", closure.ErrInconsistent, name)
	}
	got.Validator.ModTime = f.ModTime
	return got, nil
}

// List implements [Source]: nobody is asked.
func (p *Pinned) List(ctx context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for f, err := range p.manifest.Files() {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil && !isBelow(f.Path, folder) {
				continue
			}
			e := Entry{Path: f.Path, Type: 'f', Size: f.Size, ModTime: f.ModTime, Sum: sumOf(f)}
			if f.IsLink() {
				e = Entry{Path: f.Path, Type: 'l', Size: -1, Target: f.Link}
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

var errNotInManifest = errors.New("the mirror's manifest has no such file")

// Fetch implements [Source]. What the manifest does not have is not asked for.
func (p *Pinned) Fetch(ctx context.Context, o Order, report func(Result)) error {
	type pair struct {
		want Want
		file generation.File
	}
	pairs := make(map[string]pair, len(o.Wants))
	wants := make([]Want, 0, len(o.Wants))
	for _, w := range o.Wants {
		r := Result{Want: w, From: p.tree.url}
		f, ok, err := p.Find(w.Path)
		switch {
		case err != nil:
			r.Outcome, r.Err = Failed, err
		case !ok:
			r.Outcome, r.Err = Absent, fmt.Errorf("%s: %w", w.Path, errNotInManifest)
		case !agrees(w, f):
			r.Outcome, r.Err = Wrong, fmt.Errorf("%s: %w: the mirror's manifest says so", w.Path, errWrong)
		default:
			pairs[w.Path] = pair{w, f}
			w.Size, w.ModTime = f.Size, f.ModTime
			if w.Sum.Value == "" {
				w.Sum = sumOf(f)
			}
			wants = append(wants, w)
			continue
		}
		report(r)
	}
	if len(wants) == 0 {
		return ctx.Err()
	}
	o.Wants = wants
	return p.tree.Fetch(ctx, o, func(r Result) {
		of := pairs[r.Want.Path]
		if r.Outcome == Fetched && r.SHA256 != of.file.SHA256 {
			r.Outcome, r.Err = Wrong, fmt.Errorf("%s: %w: its SHA-256 is not that of the mirror's manifest", r.Want.Path, errWrong)
		}
		r.Want = of.want
		report(r)
	})
}

func sumOf(f generation.File) closure.Sum {
	return closure.Sum{Hash: crypto.SHA256, Value: string(f.SHA256[:])}
}

// agrees reports whether a file can be the one that is wanted, as far as is told.
func agrees(w Want, f generation.File) bool {
	sum, told := w.Sum.SHA256()
	return (w.Size < 0 || w.Size == f.Size) && (!told || sum == f.SHA256)
}

var (
	_ Source    = (*Pinned)(nil)
	_ io.Closer = (*Pinned)(nil)
)
