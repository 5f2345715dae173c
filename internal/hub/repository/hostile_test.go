package repository

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

// dirMeta stores the metadata of folders.
func (u uploader) dirMeta(t testing.TB) ostree.Checksum {
	t.Helper()
	meta := ostree.CanonicalDirMeta()
	return u.object(t, ostree.TypeDirMeta, meta.Encode())
}

// object stores a metadata object.
func (u uploader) object(t testing.TB, typ ostree.ObjectType, data []byte) ostree.Checksum {
	t.Helper()
	sum := ostree.ChecksumOf(data)
	u[ostree.ObjectName{Checksum: sum, Type: typ}] = data
	return sum
}

// commitTree makes a commit of a root folder.
func (u uploader) commitTree(t testing.TB, ref, metadata string, root ostree.DirTree) string {
	t.Helper()
	sum, err := ostree.WriteCommit(u, &ostree.Commit{
		Metadata: gvariant.NewDict(
			gvariant.Entry{Key: "ostree.ref-binding", Value: gvariant.Strings([]string{ref})},
			gvariant.Entry{Key: "xa.metadata", Value: gvariant.String(metadata)},
		),
		Timestamp: 1_700_000_000,
		Tree:      u.object(t, ostree.TypeDirTree, root.Encode()),
		TreeMeta:  u.dirMeta(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum.String()
}

// doubled is a folder with two names for a folder with two names, and so on: with
// each level twice as many paths, for one object more.
func (u uploader) doubled(t testing.TB, levels int) ostree.TreeDir {
	t.Helper()
	meta := u.dirMeta(t)
	var tree ostree.DirTree
	sum := u.object(t, ostree.TypeDirTree, tree.Encode())
	for range levels {
		tree = ostree.DirTree{Dirs: []ostree.TreeDir{
			{Name: "a", Tree: sum, Meta: meta}, {Name: "b", Tree: sum, Meta: meta},
		}}
		sum = u.object(t, ostree.TypeDirTree, tree.Encode())
	}
	return ostree.TreeDir{Name: "org.test.Hello", Tree: sum, Meta: meta}
}

// TestTreesWithoutEnd commits trees that describe more files than atoms.
func TestTreesWithoutEnd(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	const metadata = "[Application]\nname=org.test.Hello\nruntime=org.test.Platform/x86_64/stable\n"
	for _, ref := range []string{"screenshots/x86_64", appRef("org.test.Hello")} {
		u := uploader{}
		file, err := ostree.WriteBytes(u, []byte(metadata), false)
		if err != nil {
			t.Fatal(err)
		}
		sum := u.commitTree(t, ref, metadata, ostree.DirTree{
			Files: []ostree.TreeFile{{Name: "metadata", File: file}},
			Dirs:  []ostree.TreeDir{u.doubled(t, 64)},
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		b := h.upload(u)
		_, err = b.Commit(ctx, CommitRequest{Refs: map[string]string{ref: sum}}, nil)
		if !errors.Is(err, ostree.ErrTooLarge) || !strings.Contains(err.Error(), ref) {
			t.Errorf("%s: %v", ref, err)
		}
		// Nor can the publisher be made to walk it.
		_, err = h.repo.Publish(ctx, []PublishRequest{{Key: "k", Build: b, Refs: map[string]string{ref: sum}}}, nil, h.cache.save)
		if !errors.Is(err, ostree.ErrTooLarge) {
			t.Errorf("publish %s: %v", ref, err)
		}
	}
}

// TestMediaAreBounded counts folders, empty ones too.
func TestMediaAreBounded(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	for levels, want := range map[int]error{10: nil, 16: ostree.ErrTooLarge} {
		u := uploader{}
		sum := u.commitTree(t, "screenshots/x86_64", "", ostree.DirTree{Dirs: []ostree.TreeDir{u.doubled(t, levels)}})
		b := h.upload(u)
		_, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{"screenshots/x86_64": sum}}, nil)
		if !errors.Is(err, want) {
			t.Errorf("%d levels: %v", levels, err)
		}
	}
}

// TestDeepTreesAreRefused has each part of a long chain of folders be reached on
// a short way first.
func TestDeepTreesAreRefused(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	u := uploader{}
	meta := u.dirMeta(t)
	var root, tree ostree.DirTree
	sum := u.object(t, ostree.TypeDirTree, tree.Encode())
	for depth := 1; depth <= 3*maxTreeDepth/2; depth++ {
		tree = ostree.DirTree{Dirs: []ostree.TreeDir{{Name: "d", Tree: sum, Meta: meta}}}
		sum = u.object(t, ostree.TypeDirTree, tree.Encode())
		if depth%(maxTreeDepth/2) == 0 {
			root.Dirs = append(root.Dirs, ostree.TreeDir{Name: fmt.Sprintf("org.test.%05d", depth), Tree: sum, Meta: meta})
		}
	}
	made := u.commitTree(t, "screenshots/x86_64", "", root)
	b := h.upload(u)
	_, err := b.Commit(t.Context(), CommitRequest{Refs: map[string]string{"screenshots/x86_64": made}}, nil)
	if !errors.Is(err, ostree.ErrTooLarge) {
		t.Error(err)
	}
}
