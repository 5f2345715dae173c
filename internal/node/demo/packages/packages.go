// Package packages makes a small package and, for each kind of package manager, a
// signed repository with it, by nothing but Go: for samples.
package packages

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Package is a package for every architecture, with one program.
type Package struct {
	// Name is that of the package and of its program in /usr/bin.
	Name string
	// Version is a number or the like, without what only one kind of package allows.
	Version string
	// Summary is one line about it.
	Summary string
	// Program is the program's content: a script, since no architecture is named.
	Program []byte
	// Time is when it was made.
	Time time.Time
}

const (
	maintainer = "Freshet demonstration <demo@freshet.invalid>"
	homepage   = "https://freshet.invalid/"
	license    = "Apache-2.0"
)

// path is where the program is, without a slash at the beginning.
func (p *Package) path() string { return "usr/bin/" + p.Name }

// entry is a file or, with a slash at the end of its name, a folder in an archive.
type entry struct {
	name    string
	content []byte
	mode    int64
}

// program are the entries of what is installed, with all of its folders, whose
// names begin with prefix.
func (p *Package) program(prefix string) []entry {
	return []entry{{prefix + "usr/", nil, 0o755}, {prefix + "usr/bin/", nil, 0o755}, {prefix + p.path(), p.Program, 0o755}}
}

// tarball writes an archive of files that root owns.
func tarball(w io.Writer, at time.Time, entries []entry) error {
	tw := tar.NewWriter(w)
	for _, e := range entries {
		header := &tar.Header{
			Name: e.name, Mode: e.mode, Size: int64(len(e.content)), ModTime: at.Truncate(time.Second),
			Uname: "root", Gname: "root", Typeflag: tar.TypeReg, Format: tar.FormatGNU,
		}
		if e.name[len(e.name)-1] == '/' {
			header.Typeflag = tar.TypeDir
		}
		if err := tw.WriteHeader(header); err != nil {
			return err
		}
		if _, err := tw.Write(e.content); err != nil {
			return err
		}
	}
	return tw.Close()
}

// zipped is what write writes, compressed by gzip.
func zipped(write func(io.Writer) error) ([]byte, error) {
	var b bytes.Buffer
	zw := gzip.NewWriter(&b)
	if err := write(zw); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// bytesTo writes b.
func bytesTo(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// digest is the SHA-256 in hexadecimal.
func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// write makes dir hold these files and no others, by names with slashes.
func write(dir string, files map[string][]byte) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	for name, content := range files {
		target := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("write repository: %w", err)
		}
		if err := os.WriteFile(target, content, 0o644); err != nil {
			return fmt.Errorf("write repository: %w", err)
		}
	}
	return nil
}
