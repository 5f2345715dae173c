package ostree_test

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"

	"freshet/internal/ostree"
)

// fuzzFormat is the promise of every parser here: bytes are refused as
// malformed, or they are what encoding the result gives.
func fuzzFormat[T any](f *testing.F, suffix string, parse func([]byte) (T, error), encode func(T) []byte) {
	f.Helper()
	for _, seed := range goldenFiles(f, suffix) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := parse(data)
		if err != nil {
			if !errors.Is(err, ostree.ErrMalformed) && !errors.Is(err, ostree.ErrTooLarge) {
				t.Fatal(err)
			}
			return
		}
		if again := encode(v); !bytes.Equal(again, data) {
			t.Fatalf("%x\nbecame\n%x", data, again)
		}
	})
}

func FuzzCommit(f *testing.F) {
	fuzzFormat(f, ".commit", ostree.ParseCommit, (*ostree.Commit).Encode)
}

func FuzzDirTree(f *testing.F) {
	fuzzFormat(f, ".dirtree", ostree.ParseDirTree, (*ostree.DirTree).Encode)
}

func FuzzDirMeta(f *testing.F) {
	fuzzFormat(f, ".dirmeta", ostree.ParseDirMeta, (*ostree.DirMeta).Encode)
}

func FuzzDetached(f *testing.F) {
	fuzzFormat(f, ".commitmeta", ostree.ParseDetached, ostree.EncodeDetached)
}

func FuzzSummary(f *testing.F) {
	fuzzFormat(f, "/summary", ostree.ParseSummary, (*ostree.Summary).Encode)
}

func FuzzSummaryIndex(f *testing.F) {
	fuzzFormat(f, "/summary.idx", ostree.ParseSummaryIndex, (*ostree.SummaryIndex).Encode)
}

func FuzzSuperblock(f *testing.F) {
	fuzzFormat(f, "/superblock", ostree.ParseSuperblock, (*ostree.Superblock).Encode)
}

func FuzzDeltaIndex(f *testing.F) {
	for _, seed := range goldenFiles(f, ".index") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ostree.ParseDeltaIndex(data)
		if err != nil {
			return
		}
		again, err := ostree.ParseDeltaIndex(x.Encode())
		if err != nil || len(again.Deltas) != len(x.Deltas) {
			t.Fatalf("%v became %v, %v", x, again, err)
		}
	})
}

func FuzzVerifyFile(f *testing.F) {
	for _, seed := range goldenFiles(f, ".filez") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := ostree.ObjectName{Type: ostree.TypeFile}
		_, err := ostree.VerifyObject(name, bytes.NewReader(data))
		var mismatch *ostree.MismatchError
		if !errors.As(err, &mismatch) {
			if !errors.Is(err, ostree.ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		name.Checksum = mismatch.Actual
		info, err := ostree.VerifyObject(name, bytes.NewReader(data))
		if err != nil || info.Stored != int64(len(data)) {
			t.Fatalf("%+v, %v", info, err)
		}
		header := info.Header.EncodeArchiveHeader(info.Size)
		if !bytes.HasPrefix(data, header) {
			t.Fatalf("header became %x", header)
		}
	})
}

func FuzzNames(f *testing.F) {
	for _, seed := range []string{
		hexA + ".commit", b64A + "-" + b64B + ".0.delta", "objects/00/" + hexA[2:] + ".filez",
		"deltas/AB/" + b64A[2:] + "/superblock", "delta-indexes/AB/" + b64A[2:] + ".index", "app/a.b/x86_64/stable",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := ostree.ParseUploadName(s); err == nil {
			safe(t, n.Path())
		}
		if n, err := ostree.ParseObjectPath(s); err == nil && n.Path() != s {
			t.Fatalf("%q became %q", s, n.Path())
		}
		if n, err := ostree.ParseDeltaPath(s); err == nil && n.Path() != s {
			t.Fatalf("%q became %q", s, n.Path())
		}
		if c, err := ostree.ParseDeltaIndexPath(s); err == nil && ostree.DeltaIndexPath(c) != s {
			t.Fatalf("%q became %q", s, ostree.DeltaIndexPath(c))
		}
		if ostree.ValidateRef(s) == nil {
			safe(t, ostree.RefPath(s))
		}
		if ostree.ValidateCollectionID(s) == nil {
			safe(t, ostree.MirrorRefPath(s, "a"))
		}
	})
}

func safe(t *testing.T, path string) {
	t.Helper()
	if !fs.ValidPath(path) {
		t.Fatalf("path %q leaves the repository", path)
	}
}
