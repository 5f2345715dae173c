package ostree_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/flate"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

func filez(tb testing.TB, h ostree.FileHeader, content string) (ostree.ObjectName, []byte) {
	tb.Helper()
	var b bytes.Buffer
	w, err := ostree.WriteFilez(&b, h, uint64(len(content)), strings.NewReader(content), ostree.DefaultCompression)
	if err != nil {
		tb.Fatal(err)
	}
	return ostree.ObjectName{Checksum: w.Checksum, Type: ostree.TypeFile}, b.Bytes()
}

func deflated(tb testing.TB, content string) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := flate.NewWriter(&b, 6)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := z.Write([]byte(content)); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func concat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestVerifyRefuses(t *testing.T) {
	content := strings.Repeat("content ", 1000)
	regular, link := ostree.RegularFile(false), ostree.SymlinkTo("target")
	name, good := filez(t, regular, content)
	linkName, goodLink := filez(t, link, "")
	size := uint64(len(content))
	fifo := ostree.FileHeader{Mode: 0o010644}
	treeName := func(data []byte) ostree.ObjectName {
		return ostree.ObjectName{Checksum: ostree.ChecksumOf(data), Type: ostree.TypeDirTree}
	}
	tree := func(names ...string) []byte {
		var d ostree.DirTree
		for _, n := range names {
			if n, ok := strings.CutSuffix(n, "/"); ok {
				d.Dirs = append(d.Dirs, ostree.TreeDir{Name: n})
			} else {
				d.Files = append(d.Files, ostree.TreeFile{Name: n})
			}
		}
		return d.Encode()
	}
	shortSum := gvariant.Tuple(
		gvariant.Array("(say)", gvariant.Tuple(gvariant.String("a"), gvariant.Bytes([]byte("short")))),
		gvariant.Array("(sayay)"),
	).Data()
	commit := (&ostree.Commit{Subject: "s"}).Encode()
	badMode := (&ostree.DirMeta{Mode: 0o100755}).Encode()

	type test struct {
		what string
		name ostree.ObjectName
		data []byte
	}
	malformed := []test{
		{"empty", name, nil},
		{"only a frame", name, good[:8]},
		{"half a header", name, good[:20]},
		{"no content", name, good[:len(regular.EncodeArchiveHeader(size))]},
		{"half the content", name, good[:len(good)-5]},
		{"a byte too much", name, concat(good, []byte{0})},
		{"two streams", name, concat(good, deflated(t, "more"))},
		{"longer than its header says", name, concat(regular.EncodeArchiveHeader(size-1), deflated(t, content))},
		{"shorter than its header says", name, concat(regular.EncodeArchiveHeader(size+1), deflated(t, content))},
		{"not deflated", name, concat(regular.EncodeArchiveHeader(size), []byte(content))},
		{"huge header", name, concat([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, good[8:])},
		{"padding", name, concat(good[:4], []byte{1}, good[5:])},
		{"symlink with content", linkName, concat(goodLink, deflated(t, "x"))},
		{"symlink with a size", linkName, link.EncodeArchiveHeader(1)},
		{"symlink without target", linkName, (&ostree.FileHeader{Mode: link.Mode}).EncodeArchiveHeader(0)},
		{"file with target", linkName, (&ostree.FileHeader{Mode: regular.Mode, Symlink: "x"}).EncodeArchiveHeader(0)},
		{"named pipe", linkName, fifo.EncodeArchiveHeader(0)},
		{"mode with unknown bits", linkName, (&ostree.FileHeader{Mode: regular.Mode | 1<<20}).EncodeArchiveHeader(0)},
		{"mode of a file", ostree.ObjectName{Checksum: ostree.ChecksumOf(badMode), Type: ostree.TypeDirMeta}, badMode},
		{"commit cut short", ostree.ObjectName{Checksum: ostree.ChecksumOf(commit[:50]), Type: ostree.TypeCommit}, commit[:50]},
	}
	for _, data := range [][]byte{
		tree("b", "a"), tree("a", "a"), tree("a", "a/"), tree("b/", "a/"), tree(".."), tree("."), tree(""), tree("x/y"),
		tree("../"), tree(strings.Repeat("x", 256)), shortSum, []byte("no tree"),
		{},
	} {
		malformed = append(malformed, test{"dirtree " + string(data), treeName(data), data})
	}
	for _, tt := range malformed {
		_, err := ostree.VerifyObject(tt.name, bytes.NewReader(tt.data))
		var bad *ostree.ObjectError
		if !errors.As(err, &bad) || bad.Name != tt.name || !errors.Is(err, ostree.ErrMalformed) {
			t.Errorf("%.60q: error = %v, want malformed", tt.what, err)
		}
	}

	otherOwner := regular
	otherOwner.UID = 1
	for _, tt := range []test{
		{"other content", name, concat(regular.EncodeArchiveHeader(size), deflated(t, strings.Replace(content, "c", "C", 1)))},
		{"other owner", name, concat(otherOwner.EncodeArchiveHeader(size), deflated(t, content))},
		{"other target", linkName, (&ostree.FileHeader{Mode: link.Mode, Symlink: "elsewhere"}).EncodeArchiveHeader(0)},
		{"other tree", treeName(tree("a")), tree("b")},
		{"garbage", treeName(tree("a")), []byte("garbage")},
	} {
		_, err := ostree.VerifyObject(tt.name, bytes.NewReader(tt.data))
		var mismatch *ostree.MismatchError
		if !errors.As(err, &mismatch) || mismatch.Name != tt.name || mismatch.Actual == tt.name.Checksum {
			t.Errorf("%s: error = %v, want a mismatch", tt.what, err)
		}
	}

	if _, err := ostree.VerifyObject(name, iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(good)))); !errors.Is(err, iotest.ErrTimeout) || errors.Is(err, ostree.ErrMalformed) {
		t.Errorf("error of the reader: %v", err)
	}
	if info, err := ostree.VerifyObject(name, iotest.OneByteReader(bytes.NewReader(good))); err != nil || info.Size != size || info.Stored != int64(len(good)) {
		t.Errorf("good object, byte by byte: %+v, %v", info, err)
	}
	if _, err := ostree.VerifyObject(ostree.ObjectName{Type: ostree.TypeTombstone}, bytes.NewReader(nil)); !errors.Is(err, ostree.ErrUnsupported) {
		t.Errorf("tombstone: %v", err)
	}
}

// TestVerifyIsBounded feeds endless metadata, and a file that inflates a
// thousandfold.
func TestVerifyIsBounded(t *testing.T) {
	const size = 1 << 23
	var bomb bytes.Buffer
	h := ostree.RegularFile(false)
	w, err := ostree.WriteFilez(&bomb, h, size, io.LimitReader(zeros{}, size), ostree.DefaultCompression)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	info, err := ostree.VerifyObject(ostree.ObjectName{Checksum: w.Checksum, Type: ostree.TypeFile}, &bomb)
	if err != nil || info.Size != size {
		t.Errorf("%+v, %v", info, err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes were allocated for a file of %d", used, size)
	}
	_, err = ostree.VerifyObject(ostree.ObjectName{Type: ostree.TypeDirTree}, zeros{})
	if !errors.Is(err, ostree.ErrTooLarge) {
		t.Errorf("endless dirtree: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestWriteFilezDemandsTheSize(t *testing.T) {
	for _, content := range []string{"short", "much too long"} {
		if _, err := ostree.WriteFilez(io.Discard, ostree.RegularFile(false), 7, strings.NewReader(content), 6); err == nil {
			t.Errorf("%q is taken for 7 bytes", content)
		}
	}
	if _, err := ostree.WriteFilez(io.Discard, ostree.SymlinkTo("x"), 7, nil, 6); err == nil {
		t.Error("a symlink has content")
	}
	if _, err := ostree.WriteFilez(io.Discard, ostree.FileHeader{}, 0, nil, 6); err == nil {
		t.Error("an empty header is accepted")
	}
}

// TestSplicedStreams writes a file of pieces that were deflated one by one.
func TestSplicedStreams(t *testing.T) {
	var pieces bytes.Buffer
	content := ""
	for _, piece := range []string{"one piece, ", "another piece, ", "the last"} {
		z, err := flate.NewWriter(&pieces, 6)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := z.Write([]byte(piece)); err != nil {
			t.Fatal(err)
		}
		if err := z.Flush(); err != nil { // ends on a byte, without the end of the stream
			t.Fatal(err)
		}
		content += piece
	}
	pieces.Write([]byte{0x03, 0x00}) // an empty last block
	h := ostree.RegularFile(true)
	sum, size, err := ostree.HashFile(h, strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var stored bytes.Buffer
	n, err := ostree.WriteFilezDeflated(&stored, h, size, &pieces)
	if err != nil || n != int64(stored.Len()) {
		t.Fatalf("%d bytes of %d, %v", n, stored.Len(), err)
	}
	info, err := ostree.VerifyObject(ostree.ObjectName{Checksum: sum, Type: ostree.TypeFile}, &stored)
	if err != nil || info.Size != uint64(len(content)) {
		t.Errorf("%+v, %v", info, err)
	}
}
