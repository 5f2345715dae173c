package kind

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"freshet/internal/checksums"
	"freshet/internal/closure"
	"freshet/internal/glob"
	"freshet/internal/layout"
	"freshet/internal/roots"
)

// maxSumList is the longest list of checksums that is read.
const maxSumList = 64 << 20

// isSumList tells whether a name is that of a list of checksums.
func isSumList(base string) bool {
	_, _, ok := checksums.IsList(base)
	return ok
}

// isSumSignature tells whether a path is that of a signature beside a list of checksums.
func isSumSignature(name string) bool {
	list, found := strings.CutSuffix(name, path.Ext(name))
	ends := sumSignatures()
	return found && isSumList(path.Base(list)) && slices.Contains(ends[:], path.Ext(name))
}

// sumSignatures are the ends of the names of signatures beside a list.
func sumSignatures() [4]string { return [...]string{".asc", ".gpg", ".sig", ".sign"} }

// images are the files that a list of checksums names.
func (k *Kind) images(ctx context.Context, tree Tree, r Repository, left *Left) iter.Seq2[File, error] {
	return func(yield func(File, error) bool) {
		pointer, err := k.imageFiles(ctx, tree, r, func(f File) bool {
			if !k.wantsImage(f.Path) {
				left.add(f.Size)
				return true
			}
			return yield(f, nil)
		})
		if errors.Is(err, errStopped) {
			return
		}
		if err != nil {
			yield(File{}, err)
			return
		}
		for _, name := range r.besidePointer() {
			f, ok, err := companion(ctx, tree.Open, name)
			if ok && slices.Contains(r.OtherLists, name) {
				err = wholeOf(ctx, tree.Open, name)
			}
			if err != nil {
				yield(File{}, err)
				return
			}
			if ok && !yield(f, nil) {
				return
			}
		}
		yield(pointer, nil)
	}
}

// wholeOf is an error if a file is not all there: see [Whole].
func wholeOf(ctx context.Context, open Open, name string) error {
	f, err := open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // opened for reading
	err = Whole(name, f)
	if errors.Is(err, ErrWrong) {
		err = closure.Disagree(name, "%v", err) // what is wrong with it is that it comes with the others
	}
	return err
}

// besidePointer are the files that may lie beside a list of checksums and change with it.
func (r *Repository) besidePointer() []string {
	names := slices.Clone(r.OtherLists)
	for _, end := range sumSignatures() {
		names = append(names, r.Pointer+end)
	}
	return names
}

// errStopped ends a walk for whose files nobody waits any more.
var errStopped = errors.New("stopped")

// imageFiles passes on the files of a list, and returns the list itself.
func (k *Kind) imageFiles(ctx context.Context, tree Tree, r Repository, found func(File) bool) (File, error) {
	c, err := openContent(ctx, tree.Open, r.Pointer, maxSumList)
	if err != nil {
		return File{}, err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	stem, _, _ := checksums.IsList(path.Base(r.Pointer))
	sum := sha256.New()
	for e, err := range checksums.Read(io.TeeReader(c.reader(), sum)) {
		if err != nil {
			return File{}, fmt.Errorf("%s: %w", r.Pointer, err)
		}
		if e.Name == "" {
			e.Name = stem
		}
		// Some lists have themselves in it, of which they can say nothing true.
		name := path.Join(r.Root, e.Name)
		if e.Name == "" || name == r.Pointer {
			continue
		}
		f := File{File: closure.File{Path: name, Size: e.Size, Sum: closure.Sum{Hash: e.Hash, Value: e.Sum}, Class: layout.Payload}}
		if layout.PolicyOf("/"+name).Class == layout.Pointer {
			f.Class = layout.Index // "latest.iso"
		}
		if !found(f) {
			return File{}, errStopped
		}
	}
	if err := ctx.Err(); err != nil {
		return File{}, err
	}
	return pointerFile(r.Pointer, c.size, sum.Sum(nil)), nil
}

func pointerFile(name string, size int64, sum []byte) File {
	return File{File: closure.File{
		Path: name, Size: size, Sum: closure.Sum{Hash: crypto.SHA256, Value: string(sum)}, Class: layout.Pointer,
	}}
}

// companion is a file beside the pointer that changes with it; ok is false if there is
// none.
func companion(ctx context.Context, open Open, name string) (f File, ok bool, err error) {
	c, err := openContent(ctx, open, name, roots.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return f, false, nil
	}
	if err != nil {
		return f, false, err
	}
	defer c.Close() //nolint:errcheck // nothing was written
	sum := sha256.New()
	if _, err := io.Copy(sum, c.reader()); err != nil {
		return f, false, fmt.Errorf("%s: %w", name, err)
	}
	f = pointerFile(name, c.size, sum.Sum(nil))
	f.Optional = true
	return f, true, nil
}

// wantsImage tells whether a file of a list is wanted.
func (k *Kind) wantsImage(name string) bool {
	if glob.MatchAny(k.config.Exclude, name) || len(k.config.Include) > 0 && !glob.MatchAny(k.config.Include, name) {
		return false
	}
	return k.arches.hasNamed(path.Base(name))
}

// sums checks the signature of a list: one beside it, or around it.
func (p *pointer) sums(main *content) (roots.Proof, error) {
	for _, err := range checksums.Read(main.reader()) {
		if err != nil {
			return roots.Unproven, fmt.Errorf("%s: %w", p.repository.Pointer, err)
		}
	}
	keys := p.kind.config.Keys.OpenPGP
	var failed error
	for _, end := range sumSignatures() {
		sig, err := p.get(p.repository.Pointer+end, true)
		if err != nil {
			return roots.Unproven, err
		}
		if sig == nil {
			continue
		}
		proof, err := roots.CheckFile(main, sig, keys)
		if err == nil {
			return proof, nil
		}
		failed = fmt.Errorf("%s: %w", p.repository.Pointer+end, err)
	}
	if failed != nil {
		return roots.Unproven, failed
	}
	proof, err := roots.CheckFile(main, nil, keys)
	if err != nil {
		return proof, fmt.Errorf("%s: %w", p.repository.Pointer, err)
	}
	return proof, nil
}

// bestLists leaves one list of those that differ in the hash alone: of SHA-256 if there is
// one. The others come with it, and their signatures.
func bestLists(found map[string]Repository, signatures map[string]bool) {
	rank := func(name string) int {
		_, hash, _ := checksums.IsList(path.Base(name))
		return slices.Index([]crypto.Hash{crypto.SHA256, crypto.SHA512, crypto.SHA384, crypto.SHA1, crypto.MD5}, hash)
	}
	same := make(map[string][]string) // by folder and stem
	for name := range found {
		if stem, hash, _ := checksums.IsList(path.Base(name)); hash != 0 {
			key := path.Join(path.Dir(name), stem)
			same[key] = append(same[key], name)
		}
	}
	for _, lists := range same {
		slices.SortFunc(lists, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
		best := found[lists[0]]
		for _, name := range lists[1:] {
			delete(found, name)
			best.OtherLists = append(best.OtherLists, name)
			for _, end := range sumSignatures() {
				if signatures[name+end] {
					best.OtherLists = append(best.OtherLists, name+end)
				}
			}
		}
		found[lists[0]] = best
	}
}
