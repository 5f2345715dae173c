package packages

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Apt makes dir a repository for apt with the suite "stable" and its component
// "main", for amd64 and arm64.
func (p *Package) Apt(dir string, signer *Signer) error {
	deb, err := p.deb()
	if err != nil {
		return fmt.Errorf("make a .deb: %w", err)
	}
	name := fmt.Sprintf("pool/main/%s_%s_all.deb", p.Name, p.Version)
	index := fmt.Appendf(p.control(), "Filename: %s\nSize: %d\nSHA256: %s\n\n", name, len(deb), digest(deb))
	zippedIndex, err := zipped(bytesTo(index))
	if err != nil {
		return fmt.Errorf("make Packages.gz: %w", err)
	}
	files := map[string][]byte{name: deb}
	var sums []string
	for _, arch := range []string{"amd64", "arm64"} {
		for name, content := range map[string][]byte{"Packages": index, "Packages.gz": zippedIndex} {
			name = "main/binary-" + arch + "/" + name
			files["dists/stable/"+name] = content
			sums = append(sums, fmt.Sprintf(" %s %d %s\n", digest(content), len(content), name))
		}
	}
	slices.Sort(sums)
	release := fmt.Appendf(nil, "Origin: Freshet\nLabel: Freshet\nSuite: stable\nCodename: stable\nDate: %s\nArchitectures: amd64 arm64\n"+
		"No-Support-for-Architecture-all: Packages\nComponents: main\nDescription: Freshet demonstration\nSHA256:\n%s",
		p.Time.UTC().Format(time.RFC1123), strings.Join(sums, ""))
	files["dists/stable/Release"] = release
	if files["dists/stable/Release.gpg"], err = signer.armored(release); err != nil {
		return err
	}
	if files["dists/stable/InRelease"], err = signer.clear(release); err != nil {
		return err
	}
	return write(dir, files)
}

// control are the fields of the package (Debian policy 5.3).
func (p *Package) control() []byte {
	return fmt.Appendf(nil, "Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: %s\nInstalled-Size: %d\nSection: misc\nPriority: optional\n"+
		"Homepage: %s\nDescription: %s\n", p.Name, p.Version, maintainer, max(1, len(p.Program)/1024), homepage, p.Summary)
}

// deb is the package as deb(5) has it: an ar archive of two tarballs.
func (p *Package) deb() ([]byte, error) {
	control, err := zipped(func(w io.Writer) error {
		return tarball(w, p.Time, []entry{{"./", nil, 0o755}, {"./control", p.control(), 0o644}})
	})
	if err != nil {
		return nil, err
	}
	data, err := zipped(func(w io.Writer) error {
		return tarball(w, p.Time, append([]entry{{"./", nil, 0o755}}, p.program("./")...))
	})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("!<arch>\n")
	for _, member := range []struct {
		name    string
		content []byte
	}{{"debian-binary", []byte("2.0\n")}, {"control.tar.gz", control}, {"data.tar.gz", data}} {
		fmt.Fprintf(&b, "%-16s%-12d%-6d%-6d%-8o%-10d`\n", member.name, p.Time.Unix(), 0, 0, 0o100644, len(member.content))
		b.Write(member.content)
		if len(member.content)%2 == 1 {
			b.WriteByte('\n') // members begin at even places
		}
	}
	return b.Bytes(), nil
}
