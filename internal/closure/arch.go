package closure

import (
	"crypto"
	"crypto/sha256"
	"io"
	"path"
	"strings"

	"freshet/internal/alpm"
	"freshet/internal/apkindex"
	"freshet/internal/layout"
	"freshet/internal/unpack"
)

// arch is for a database of pacman, whose packages lie beside it.
func (w *walker) arch(name string) error {
	dir := path.Dir(name)
	pointer, err := w.walkPointer(name, func(r io.Reader) error {
		return unpacked(r, func(r io.Reader) error {
			for p, err := range alpm.Packages(r) {
				if err != nil {
					return err
				}
				if err := w.archPackage(path.Join(dir, p.File), p); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if err := w.companion(name + ".sig"); err != nil {
		return err
	}
	// Larger, and changed with the database: lists of files, and what the names of
	// both are links to.
	base := path.Base(name)
	if i := strings.LastIndex(base, ".db"); i > 0 {
		if err := w.besideDatabase(name, strings.TrimSuffix(name, base[i:])); err != nil {
			return err
		}
	}
	return w.emit(pointer)
}

func (w *walker) besideDatabase(pointer, stem string) error {
	for _, kind := range [...]string{".db", ".files"} {
		for _, form := range [...]string{"", ".tar.gz", ".tar.zst", ".tar.xz"} {
			name := stem + kind + form
			for _, f := range [...]string{name, name + ".sig"} {
				if strings.HasPrefix(f, pointer) && len(f) <= len(pointer)+len(".sig") {
					continue // the pointer and its signature
				}
				if err := w.emit(File{Path: f, Size: -1, Class: layout.Pointer, Optional: true}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (w *walker) archPackage(name string, p alpm.Package) error {
	sum, err := sumOf("sha256", p.SHA256)
	if err != nil {
		return err
	}
	if err := w.emit(File{Path: name, Size: p.Size, Sum: sum}); err != nil {
		return err
	}
	signature := File{Path: name + ".sig", Size: -1, Optional: true}
	if p.Signature != nil {
		sum := sha256.Sum256(p.Signature)
		signature.Size, signature.Sum = int64(len(p.Signature)), Sum{Hash: crypto.SHA256, Value: string(sum[:])}
	}
	return w.emit(signature)
}

// alpine is for an index of apk, whose packages lie beside it.
func (w *walker) alpine(name string) error {
	dir := path.Dir(name)
	pointer, err := w.walkPointer(name, func(r io.Reader) error {
		for p, err := range apkindex.Packages(unpack.Limit(r)) {
			if err != nil {
				return err
			}
			f := File{Path: path.Join(dir, p.File()), Size: p.Size}
			if p.Hash != 0 {
				f.Sum = Sum{Hash: p.Hash, Control: true, Value: string(p.Sum)}
			}
			if err := w.emit(f); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return w.emit(pointer)
}
