package ostree_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/keyfile"
	"freshet/internal/ostree"
)

// goldenRepo is what ostree and flatpak wrote; testdata/regenerate.sh made it.
func goldenRepo() fs.FS { return os.DirFS("testdata/repo") }

func TestGolden(t *testing.T) {
	counts := checkRepo(t, goldenRepo())
	for _, kind := range []string{
		"commit", "dirtree", "dirmeta", "filez", "symlink", "commitmeta", "superblock", "part", "fallback",
		"delta index", "ref", "mirror ref", "subsummary", "summary", "summary index", "signatures",
	} {
		if counts[kind] == 0 {
			t.Errorf("the golden repository has no %s", kind)
		}
	}
}

// checkRepo parses every file of a repository that other tools wrote, encodes
// it again, and demands the same bytes. It returns how many it saw of each kind.
func checkRepo(t *testing.T, fsys fs.FS) map[string]int {
	t.Helper()
	counts := map[string]int{}
	err := fs.WalkDir(fsys, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := fs.ReadFile(fsys, path)
		if err != nil {
			return err
		}
		kind, again, err := reencode(t, fsys, path, data, counts)
		switch {
		case err != nil:
			t.Errorf("%s: %v", path, err)
		case kind == "":
			t.Errorf("%s: no idea what this is", path)
		case again != nil && !bytes.Equal(again, data):
			t.Errorf("%s: %s of %d bytes became another one of %d bytes", path, kind, len(data), len(again))
		}
		counts[kind]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func reencode(t *testing.T, fsys fs.FS, path string, data []byte, counts map[string]int) (kind string, again []byte, err error) {
	t.Helper()
	dir, _, _ := strings.Cut(path, "/")
	switch {
	case path == "config":
		k, err := keyfile.Parse(data)
		if err != nil {
			return "config", nil, err
		}
		return "config", k.Bytes(), nil
	case path == "summary":
		again, err = reencodeSummary(data)
		return "summary", again, err
	case path == "summary.idx":
		x, err := ostree.ParseSummaryIndex(data)
		if err != nil {
			return "", nil, err
		}
		if _, err := fs.Stat(fsys, ostree.SummaryIndexSignaturePath(ostree.ChecksumOf(data))); err != nil {
			return "", nil, err
		}
		return "summary index", x.Encode(), nil
	case strings.HasSuffix(path, ".sig"):
		d, err := ostree.ParseDetached(data)
		if err == nil && len(ostree.GPGSignatures(d)) == 0 {
			err = fmt.Errorf("no signatures in %v", d)
		}
		return "signatures", ostree.EncodeDetached(d), err
	case dir == "summaries" && strings.HasSuffix(path, ".gz"):
		plain, err := gunzip(data)
		if err != nil {
			return "", nil, err
		}
		if want := ostree.SubsummaryPath(ostree.ChecksumOf(plain)); want != path {
			return "", nil, fmt.Errorf("content belongs to %s", want)
		}
		again, err := reencodeSummary(plain)
		if err == nil && !bytes.Equal(plain, again) {
			err = fmt.Errorf("became another one")
		}
		return "subsummary", nil, err
	case dir == "summaries": // deltas are checked with the index
		return "delta between subsummaries", nil, nil
	case dir == "refs":
		c, err := ostree.ParseRefFile(data)
		if strings.HasPrefix(path, "refs/mirrors") {
			return "mirror ref", ostree.RefFile(c), err
		}
		return "ref", ostree.RefFile(c), err
	case dir == "delta-indexes":
		to, err := ostree.ParseDeltaIndexPath(path)
		if err != nil {
			return "", nil, err
		}
		x, err := ostree.ParseDeltaIndex(data)
		if err != nil {
			return "", nil, err
		}
		for _, d := range x.Deltas {
			superblock, err := fs.ReadFile(fsys, d.Name.SuperblockPath())
			if err != nil {
				return "", nil, err
			}
			if d.Name.To != to || ostree.ChecksumOf(superblock) != d.Superblock {
				return "", nil, fmt.Errorf("wrong entry %s", d.Name)
			}
		}
		if ostree.DeltaIndexPath(to) != path {
			return "", nil, fmt.Errorf("its path became %s", ostree.DeltaIndexPath(to))
		}
		return "delta index", x.Encode(), nil
	case dir == "deltas":
		return reencodeDelta(fsys, path, data, counts)
	case dir == "objects":
		return reencodeObject(path, data, counts)
	}
	return "", nil, nil
}

func reencodeSummary(data []byte) ([]byte, error) {
	s, err := ostree.ParseSummary(data)
	if err != nil {
		return nil, err
	}
	return s.Encode(), nil
}

func reencodeDelta(fsys fs.FS, path string, data []byte, counts map[string]int) (string, []byte, error) {
	f, err := ostree.ParseDeltaPath(path)
	if err != nil {
		return "", nil, err
	}
	if f.Path() != path {
		return "", nil, fmt.Errorf("its path became %s", f.Path())
	}
	if f.Part >= 0 { // checked with the superblock
		return "part", nil, nil
	}
	s, err := ostree.ParseSuperblock(data)
	if err != nil {
		return "", nil, err
	}
	if s.Name != f.Delta {
		return "", nil, fmt.Errorf("superblock is of %s", s.Name)
	}
	for i := range s.Parts {
		part, err := fs.ReadFile(fsys, s.Name.PartPath(i))
		if err != nil {
			return "", nil, err
		}
		if err := s.VerifyPart(i, bytes.NewReader(part)); err != nil {
			return "", nil, err
		}
		part[len(part)/2] ^= 1
		if s.VerifyPart(i, bytes.NewReader(part)) == nil || s.VerifyPart(i, bytes.NewReader(part[1:])) == nil {
			return "", nil, fmt.Errorf("a broken part is not noticed")
		}
	}
	for _, fallback := range s.Fallbacks {
		info, err := fs.Stat(fsys, fallback.Object.Path())
		if err != nil {
			return "", nil, err
		}
		if uint64(info.Size()) != fallback.Size || fallback.USize <= fallback.Size {
			return "", nil, fmt.Errorf("fallback %v has %d bytes", fallback, info.Size())
		}
		counts["fallback"]++
	}
	return "superblock", s.Encode(), nil
}

func reencodeObject(path string, data []byte, counts map[string]int) (string, []byte, error) {
	name, err := ostree.ParseObjectPath(path)
	if err != nil {
		return "", nil, err
	}
	if name.Path() != path {
		return "", nil, fmt.Errorf("its path became %s", name.Path())
	}
	info, err := ostree.VerifyObject(name, bytes.NewReader(data))
	if err != nil {
		return "", nil, err
	}
	if info.Stored != int64(len(data)) {
		return "", nil, fmt.Errorf("stored size %d instead of %d", info.Stored, len(data))
	}
	var again []byte
	switch name.Type {
	case ostree.TypeCommit:
		again = info.Commit.Encode()
	case ostree.TypeDirTree:
		again = info.DirTree.Encode()
	case ostree.TypeDirMeta:
		again = info.DirMeta.Encode()
	case ostree.TypeCommitMeta:
		d, err := ostree.ParseDetached(data)
		if err != nil {
			return "", nil, err
		}
		again = ostree.EncodeDetached(d)
	case ostree.TypeFile:
		if info.Header.IsSymlink() {
			counts["symlink"]++
		}
		again, err = reencodeFile(name, info, data)
	default:
		err = fmt.Errorf("unexpected %s", name.Type)
	}
	return name.Type.String(), again, err
}

// reencodeFile writes a file anew around its deflated content, which must give
// the same bytes, and compresses it anew, which must give the same object.
func reencodeFile(name ostree.ObjectName, info ostree.Info, data []byte) ([]byte, error) {
	z, err := ostree.NewFilezReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(z)
	if err != nil {
		return nil, err
	}
	var fresh bytes.Buffer
	written, err := ostree.WriteFilez(&fresh, *info.Header, info.Size, bytes.NewReader(content), ostree.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if written.Checksum != name.Checksum || written.Stored != int64(fresh.Len()) {
		return nil, fmt.Errorf("compressed anew it is %s of %d bytes, not %d", written.Checksum, written.Stored, fresh.Len())
	}
	header := len(info.Header.EncodeArchiveHeader(info.Size))
	var again bytes.Buffer
	_, err = ostree.WriteFilezDeflated(&again, *info.Header, info.Size, bytes.NewReader(data[header:]))
	return again.Bytes(), err
}

func gunzip(data []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// goldenFiles returns the golden files whose name ends so, for seeds.
func goldenFiles(tb testing.TB, suffix string) [][]byte {
	tb.Helper()
	var files [][]byte
	err := filepath.WalkDir("testdata/repo", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, data)
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	if len(files) == 0 {
		tb.Fatalf("no golden file %s", suffix)
	}
	return files
}
