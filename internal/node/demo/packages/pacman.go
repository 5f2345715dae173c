package packages

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// Pacman makes dir a repository for pacman whose name is that of its database.
func (p *Package) Pacman(dir, repository string, signer *Signer) error {
	version := p.Version + "-1"
	packed, err := p.pkg(version)
	if err != nil {
		return fmt.Errorf("make a package for pacman: %w", err)
	}
	file := fmt.Sprintf("%s-%s-any.pkg.tar.zst", p.Name, version)
	folder := p.Name + "-" + version + "/"
	var desc bytes.Buffer
	for _, field := range [][2]any{
		{"FILENAME", file},
		{"NAME", p.Name},
		{"BASE", p.Name},
		{"VERSION", version},
		{"DESC", p.Summary},
		{"CSIZE", len(packed)},
		{"ISIZE", len(p.Program)},
		{"SHA256SUM", digest(packed)},
		{"URL", homepage},
		{"LICENSE", license},
		{"ARCH", "any"},
		{"BUILDDATE", p.Time.Unix()},
		{"PACKAGER", maintainer},
	} {
		fmt.Fprintf(&desc, "%%%v%%\n%v\n\n", field[0], field[1])
	}
	database, err := zipped(func(w io.Writer) error {
		return tarball(w, p.Time, []entry{{folder, nil, 0o755}, {folder + "desc", desc.Bytes(), 0o644}})
	})
	if err != nil {
		return fmt.Errorf("make a database of pacman: %w", err)
	}
	signature, err := signer.detached(database)
	if err != nil {
		return err
	}
	return write(dir, map[string][]byte{file: packed, repository + ".db": database, repository + ".db.sig": signature})
}

// pkg is the package: a tarball that begins with what pacman has to know.
func (p *Package) pkg(version string) ([]byte, error) {
	info := fmt.Appendf(nil, "pkgname = %s\npkgbase = %s\npkgver = %s\npkgdesc = %s\nurl = %s\nbuilddate = %d\npackager = %s\nsize = %d\narch = any\nlicense = %s\n",
		p.Name, p.Name, version, p.Summary, homepage, p.Time.Unix(), maintainer, len(p.Program), license)
	var b bytes.Buffer
	zw, err := zstd.NewWriter(&b)
	if err != nil {
		return nil, err
	}
	if err := tarball(zw, p.Time, append([]entry{{".PKGINFO", info, 0o644}}, p.program("")...)); err != nil {
		return nil, err
	}
	if err := zw.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
