package deltas

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"

	"freshet/internal/ostree"
	"freshet/internal/ostree/delta"
)

// superblockFile is the head of a delta in its folder; its parts are numbers.
const superblockFile = "superblock"

// Accept verifies a delta that somebody else has made and laid down in a folder: it
// is carried out as a client would, and every object is hashed, with bounded
// memory. What is no part of the delta is removed from the folder, and the head is
// written anew: with the signatures that repo has, and nothing in it that clients
// do not need. A delta that is not what it should be gives an error that
// [Refused] recognises.
//
// The repository has both commits, complete.
func Accept(ctx context.Context, repo *ostree.Repo, name ostree.DeltaName, dir string) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, err
	}
	defer func() { _ = root.Close() }()
	block, err := readHead(root)
	if err != nil {
		return Report{}, err
	}
	if block.Name != name {
		return Report{}, fmt.Errorf("%w: it is delta %s, not %s", ostree.ErrMalformed, block.Name.Hex(), name.Hex())
	}
	if err := sizeSingly(repo, block); err != nil {
		return Report{}, err
	}
	err = delta.Verify(ctx, repo, block, func(part int) (io.ReadCloser, error) {
		return root.Open(strconv.Itoa(part))
	}, dir)
	if err != nil {
		return Report{}, err
	}
	if err := clean(root, block); err != nil {
		return Report{}, err
	}
	if err := rewriteHead(repo, block); err != nil {
		return Report{}, err
	}
	if err := replaceFile(root, superblockFile, block.Encode()); err != nil {
		return Report{}, err
	}
	return Measure(repo, block)
}

// Measure tells what a delta costs those who fetch it. The repository has what it
// makes.
func Measure(repo *ostree.Repo, block *ostree.Superblock) (Report, error) {
	report := reportOf(block, len(block.Encode()))
	var err error
	report.Instead, err = instead(repo, block)
	return report, err
}

// sizeSingly gives objects that are fetched singly the stored size that they have in
// the repository, which is not that of the repository the delta was made of.
func sizeSingly(repo *ostree.Repo, block *ostree.Superblock) error {
	for i := range block.Fallbacks {
		size, err := repo.StoredSize(block.Fallbacks[i].Object)
		if err != nil {
			return err
		}
		block.Fallbacks[i].Size = uint64(size)
	}
	return nil
}

// Refused tells whether an error of [Accept] is about the bytes of the delta.
func Refused(err error) bool {
	_, mismatch := errors.AsType[*ostree.MismatchError](err)
	return mismatch || errors.Is(err, ostree.ErrMalformed) || errors.Is(err, ostree.ErrTooLarge) ||
		errors.Is(err, ostree.ErrUnsupported) || errors.Is(err, ostree.ErrName) || errors.Is(err, fs.ErrNotExist)
}

func readHead(root *os.Root) (*ostree.Superblock, error) {
	f, err := root.Open(superblockFile)
	if err != nil {
		return nil, fmt.Errorf("the delta is not complete: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, ostree.MaxMetadataSize+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(data) > ostree.MaxMetadataSize {
		return nil, fmt.Errorf("%s: %w", superblockFile, ostree.ErrTooLarge)
	}
	return ostree.ParseSuperblock(data)
}

// clean removes files that the head does not name.
func clean(root *os.Root, block *ostree.Superblock) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		part, notNumber := strconv.Atoi(e.Name())
		if e.Name() == superblockFile || notNumber == nil && part < len(block.Parts) && !block.Metadata.Has(block.Name.PartPath(part)) {
			continue
		}
		err = errors.Join(err, root.RemoveAll(e.Name()))
	}
	return err
}

// rewriteHead leaves in the metadata of a head what is verified: the parts that are
// in it, and how its numbers are written. The signatures are those of the
// repository.
func rewriteHead(repo *ostree.Repo, block *ostree.Superblock) error {
	fresh := ostree.NewSuperblock(block.Name.From, block.Commit, block.Timestamp)
	for part := range block.Parts {
		key := block.Name.PartPath(part)
		if inline, ok := block.Metadata.Get(key); ok {
			fresh.Metadata.Set(key, inline)
		}
	}
	detached, err := repo.DetachedMeta(block.Name.To)
	if err != nil {
		return err
	}
	if detached.Len() > 0 {
		fresh.Metadata.Set(block.Name.Dir()+"/commitmeta", detached.Value())
	}
	block.Metadata = fresh.Metadata
	return nil
}

// instead is what the objects of a delta take when they are fetched one by one.
func instead(repo *ostree.Repo, block *ostree.Superblock) (n uint64, err error) {
	for _, part := range block.Parts {
		for _, object := range part.Objects {
			size, err := repo.StoredSize(object)
			if err != nil {
				return 0, err
			}
			n += uint64(size)
		}
	}
	for _, f := range block.Fallbacks {
		n += f.Size
	}
	return n, nil
}

// replaceFile writes a file anew, as a whole.
func replaceFile(root *os.Root, name string, data []byte) error {
	temp := name + ".new"
	err := root.WriteFile(temp, data, 0o644)
	if err == nil {
		err = root.Rename(temp, name)
	}
	return err
}

// reportOf is what a delta costs with a head of so many bytes.
func reportOf(block *ostree.Superblock, head int) Report {
	r := Report{Size: uint64(head), Parts: len(block.Parts)}
	for i, p := range block.Parts {
		if !block.Metadata.Has(block.Name.PartPath(i)) {
			r.Size += p.Size
		}
		r.Objects += len(p.Objects)
	}
	for _, f := range block.Fallbacks {
		r.Size += f.Size
		r.Singly++
	}
	return r
}
