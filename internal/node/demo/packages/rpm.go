package packages

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"text/template"

	"github.com/google/rpmpack"
)

// DNF makes dir a repository for dnf and other readers of rpm-md. The packages in
// it are signed, too.
func (p *Package) DNF(dir string, signer *Signer) error {
	packed, err := p.rpm(signer)
	if err != nil {
		return fmt.Errorf("make an .rpm: %w", err)
	}
	begin, end, err := headerRange(packed)
	if err != nil {
		return fmt.Errorf("make an .rpm: %w", err)
	}
	file := fmt.Sprintf("packages/%s-%s-1.noarch.rpm", p.Name, p.Version)
	facts := map[string]any{
		"P": p, "File": file, "Digest": digest(packed), "Size": len(packed), "Time": p.Time.Unix(), "Installed": len(p.Program), "Path": "/" + p.path(),
		"Packager": maintainer, "Home": homepage, "License": license, "Begin": begin, "End": end,
	}
	files := map[string][]byte{file: packed}
	var data []map[string]any
	for _, one := range []struct{ kind, text string }{{"primary", primaryXML}, {"filelists", filelistsXML}, {"other", otherXML}} {
		plain, err := fill(one.text, facts)
		if err != nil {
			return err
		}
		compressed, err := zipped(bytesTo(plain))
		if err != nil {
			return fmt.Errorf("make %s: %w", one.kind, err)
		}
		name := "repodata/" + digest(compressed) + "-" + one.kind + ".xml.gz"
		files[name] = compressed
		data = append(data, map[string]any{
			"Kind": one.kind, "Name": name, "Digest": digest(compressed), "Size": len(compressed), "OpenDigest": digest(plain), "OpenSize": len(plain),
		})
	}
	repomd, err := fill(repomdXML, map[string]any{"Time": p.Time.Unix(), "Data": data})
	if err != nil {
		return err
	}
	files["repodata/repomd.xml"] = repomd
	if files["repodata/repomd.xml.asc"], err = signer.armored(repomd); err != nil {
		return err
	}
	if _, files["repodata/repomd.xml.key"], err = signer.Public(); err != nil {
		return err
	}
	return write(dir, files)
}

func (p *Package) rpm(signer *Signer) ([]byte, error) {
	rpm, err := rpmpack.NewRPM(rpmpack.RPMMetaData{
		Name: p.Name, Version: p.Version, Release: "1", Arch: "noarch", Summary: p.Summary, Description: p.Summary, Packager: maintainer, URL: homepage,
		Licence: license, BuildHost: "localhost", BuildTime: p.Time,
	})
	if err != nil {
		return nil, err
	}
	rpm.AddFile(rpmpack.RPMFile{Name: "/" + p.path(), Body: p.Program, Mode: 0o100755, Owner: "root", Group: "root", MTime: uint32(p.Time.Unix())})
	rpm.SetPGPSigner(signer.detached)
	var b bytes.Buffer
	if err := rpm.Write(&b); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// headerRange finds where the main header of a package begins and ends: behind the
// lead of 96 bytes and the header with the signatures, which is padded to 8 bytes.
// Each has 16 bytes with its number of entries, of 16 bytes, and the length of what
// they point into.
func headerRange(rpm []byte) (begin, end int, err error) {
	at := 96
	for range 2 {
		begin = (at + 7) &^ 7
		if len(rpm) < begin+16 {
			return 0, 0, errors.New("it ends within its header")
		}
		at = begin + 16 + 16*int(binary.BigEndian.Uint32(rpm[begin+8:])) + int(binary.BigEndian.Uint32(rpm[begin+12:]))
	}
	return begin, at, nil
}

func fill(text string, facts any) ([]byte, error) {
	t, err := template.New("").Parse(text)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, facts); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return b.Bytes(), nil
}

// The metadata as createrepo_c writes them. The names and versions in them are
// ours, and need no escape.
const (
	primaryXML = `<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="1">
<package type="rpm">
  <name>{{.P.Name}}</name>
  <arch>noarch</arch>
  <version epoch="0" ver="{{.P.Version}}" rel="1"/>
  <checksum type="sha256" pkgid="YES">{{.Digest}}</checksum>
  <summary>{{.P.Summary}}</summary>
  <description>{{.P.Summary}}</description>
  <packager>{{html .Packager}}</packager>
  <url>{{.Home}}</url>
  <time file="{{.Time}}" build="{{.Time}}"/>
  <size package="{{.Size}}" installed="{{.Installed}}" archive="{{.Installed}}"/>
  <location href="{{.File}}"/>
  <format>
    <rpm:license>{{.License}}</rpm:license>
    <rpm:vendor/>
    <rpm:group>Unspecified</rpm:group>
    <rpm:buildhost>localhost</rpm:buildhost>
    <rpm:sourcerpm/>
    <rpm:header-range start="{{.Begin}}" end="{{.End}}"/>
    <rpm:provides>
      <rpm:entry name="{{.P.Name}}" flags="EQ" epoch="0" ver="{{.P.Version}}" rel="1"/>
    </rpm:provides>
    <file>{{.Path}}</file>
  </format>
</package>
</metadata>
`
	filelistsXML = `<?xml version="1.0" encoding="UTF-8"?>
<filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="1">
<package pkgid="{{.Digest}}" name="{{.P.Name}}" arch="noarch">
  <version epoch="0" ver="{{.P.Version}}" rel="1"/>
  <file>{{.Path}}</file>
</package>
</filelists>
`
	otherXML = `<?xml version="1.0" encoding="UTF-8"?>
<otherdata xmlns="http://linux.duke.edu/metadata/other" packages="1">
<package pkgid="{{.Digest}}" name="{{.P.Name}}" arch="noarch">
  <version epoch="0" ver="{{.P.Version}}" rel="1"/>
</package>
</otherdata>
`
	repomdXML = `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>{{.Time}}</revision>
{{$time := .Time}}{{range .Data}}  <data type="{{.Kind}}">
    <checksum type="sha256">{{.Digest}}</checksum>
    <open-checksum type="sha256">{{.OpenDigest}}</open-checksum>
    <location href="{{.Name}}"/>
    <timestamp>{{$time}}</timestamp>
    <size>{{.Size}}</size>
    <open-size>{{.OpenSize}}</open-size>
  </data>
{{end}}</repomd>
`
)
