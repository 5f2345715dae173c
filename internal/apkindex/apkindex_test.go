package apkindex_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"iter"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/apkindex"
)

// segment is a gzip stream of a piece of a tar archive.
func segment(files ...string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for i := 0; i < len(files); i += 2 {
		_ = w.WriteHeader(&tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1]))})
		_, _ = w.Write([]byte(files[i+1]))
	}
	_, _ = w.Flush(), z.Close()
	return b.String()
}

func collect(seq iter.Seq2[apkindex.Package, error]) (all []apkindex.Package, err error) {
	for p, failed := range seq {
		if failed != nil {
			return all, failed
		}
		all = append(all, p)
	}
	return all, nil
}

var (
	id      = sha1.Sum([]byte("control"))
	entries = "C:Q1" + base64.StdEncoding.EncodeToString(id[:]) + "\nP:hello\nV:1.0-r0\nS:123\nT:a: b\n\nP:x\nV:2\n"
	whole   = segment(".SIGN.RSA.k", "signature") + segment("DESCRIPTION", "x", "APKINDEX", entries)
)

func TestPackages(t *testing.T) {
	got, err := collect(apkindex.Packages(iotest.OneByteReader(strings.NewReader(whole))))
	want := []apkindex.Package{{Name: "hello", Version: "1.0-r0", Size: 123, Sum: id[:], Hash: crypto.SHA1}, {Name: "x", Version: "2", Size: -1}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if got[0].File() != "hello-1.0-r0.apk" {
		t.Errorf("file %q", got[0].File())
	}
	for range apkindex.Packages(strings.NewReader(whole)) {
		break // and nothing more is yielded
	}
	broken := errors.New("broken disk")
	if _, err := collect(apkindex.Packages(io.MultiReader(strings.NewReader(whole[:60]), iotest.ErrReader(broken)))); !errors.Is(err, broken) {
		t.Errorf("error of the reader: %v", err)
	}
}

func TestMalformed(t *testing.T) {
	index := func(text string) string { return segment("APKINDEX", text) }
	for name, bad := range map[string]string{
		"empty": "", "text": "404 not found", "cut": whole[:len(whole)-9], "no index": segment("x", "y"), "after": whole + "x",
		"no field": index("hello"), "no version": index("P:a\n"), "folder": index("P:a/b\nV:1\n"), "hidden": index("P:..\nV:1\n"),
		"size": index("P:a\nV:1\nS:-1\n"), "checksum": index("P:a\nV:1\nC:Q1abc\n"), "long": index("P:" + strings.Repeat("x", 2<<20)),
	} {
		if _, err := collect(apkindex.Packages(strings.NewReader(bad))); !errors.Is(err, apkindex.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The checksum is over the control stream, wherever reads of the file end.
func TestControl(t *testing.T) {
	control := segment(".PKGINFO", strings.Repeat("pkgname = hello\n", 5000))
	want := sha1.Sum([]byte(control))
	for name, file := range map[string]string{
		"signed":   segment(".SIGN.RSA.k", "x") + control + segment("usr", "y"),
		"unsigned": control + segment("usr", "y"),
		"alone":    control,
	} {
		for _, r := range []io.Reader{strings.NewReader(file), iotest.OneByteReader(strings.NewReader(file))} {
			if got, _, err := apkindex.Control(r); err != nil || !bytes.Equal(got, want[:]) {
				t.Errorf("%s: %x, %v", name, got, err)
			}
		}
	}
	for name, file := range map[string]string{
		"empty": "", "cut": control[:50], "no gzip": "x", "two signatures": segment(".SIGN.RSA.k", "x") + segment(".SIGN.RSA.l", "x"), "signature only": segment(".SIGN.RSA.k", "x"),
	} {
		if _, _, err := apkindex.Control(strings.NewReader(file)); !errors.Is(err, apkindex.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := apkindex.Control(strings.NewReader("ADB.x")); !errors.Is(err, apkindex.ErrUnsupported) {
		t.Errorf("apk-tools 3: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(segment(".PKGINFO", "x")))
	f.Add([]byte("ADB"))
	f.Fuzz(func(t *testing.T, data []byte) {
		all, err := collect(apkindex.Packages(bytes.NewReader(data)))
		if err != nil && !errors.Is(err, apkindex.ErrMalformed) {
			t.Errorf("%v", err)
		}
		for _, p := range all {
			if strings.Contains(p.File(), "/") || p.File()[0] == '.' || p.Size < -1 || p.Hash != 0 && len(p.Sum) != p.Hash.Size() {
				t.Errorf("%+v", p)
			}
		}
		_, _, _ = apkindex.Control(bytes.NewReader(data))
		if _, _, err := (apkindex.Keys{}).Verify(bytes.NewReader(data)); err == nil {
			t.Error("signed by nobody")
		}
	})
}

// FuzzEntries reaches the text of an index without its compression.
func FuzzEntries(f *testing.F) {
	f.Add(entries)
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := collect(apkindex.Packages(strings.NewReader(segment("APKINDEX", text)))); err != nil && !errors.Is(err, apkindex.ErrMalformed) {
			t.Errorf("%v", err)
		}
	})
}
