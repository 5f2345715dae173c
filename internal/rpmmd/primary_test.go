package rpmmd_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/rpmmd"
)

const primary = `<?xml version="1.0" encoding="UTF-8"?>
<!-- a comment with <package> and > -->
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm" packages="3">
<package type="rpm">
  <name>hello</name>
  <checksum type="sha256" pkgid="YES">
    ABCD
  </checksum>
  <description>a &lt; b &unknown; <![CDATA[</package> ]] ]>]]></description>
  <size package="5493" installed="0" archive="124"/>
  <location href='Packages/h/hello-1.rpm'/>
  <format>
    <rpm:provides><rpm:entry name="a &gt; b"/><rpm:entry name="(x >= 1)"/></rpm:provides>
    <location href="not this one"/><size package="7"/><checksum type="md5">no</checksum>
  </format>
</package>
<package type="rpm">
  <location xml:base="http://elsewhere/x/" href = "b&amp;c &#x41;&#66;&quot;&apos;.rpm" />
  <checksum type="sha"><![CDATA[ef]]>01</checksum>
</package>
<other><location href="x"/></other>
<package type="rpm"><location href="c"/><size/></package>
</metadata>
`

var packages = []rpmmd.Package{
	{Href: "Packages/h/hello-1.rpm", Checksum: rpmmd.Checksum{Type: "sha256", Value: "abcd"}, Size: 5493},
	{Base: "http://elsewhere/x/", Href: `b&c AB"'.rpm`, Checksum: rpmmd.Checksum{Type: "sha", Value: "ef01"}, Size: -1},
	{Href: "c", Size: -1},
}

// collect reads all packages up to the first error, after which there must be
// nothing.
func collect(r io.Reader) (all []rpmmd.Package, err error) {
	for p, e := range rpmmd.Packages(r) {
		if err != nil {
			return all, fmt.Errorf("%+v, %w after the error %w", p, e, err)
		}
		if err = e; err == nil {
			all = append(all, p)
		}
	}
	return all, err
}

func TestPackages(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]io.Reader{
		"whole":       strings.NewReader(primary),
		"byte by one": iotest.OneByteReader(strings.NewReader(primary)),
		"late EOF":    iotest.DataErrReader(strings.NewReader(primary)),
		"CRLF":        strings.NewReader(strings.ReplaceAll(primary, "\n", "\r\n")),
		"no package":  strings.NewReader(`<metadata packages="0"/>`),
		"long text":   strings.NewReader(strings.Replace(primary, "a &lt; b", strings.Repeat("long ", 1<<20), 1)),
		"long tag":    iotest.OneByteReader(strings.NewReader(strings.Replace(primary, "a &gt; b", strings.Repeat("long ", 1<<15), 1))),
	} {
		want := packages
		if name == "no package" {
			want = nil
		}
		got, err := collect(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for p, err := range rpmmd.Packages(strings.NewReader(primary)) {
		if err != nil || p != packages[0] {
			t.Errorf("%+v, %v", p, err)
		}
		break
	}
}

func TestPackagesMalformed(t *testing.T) {
	t.Parallel()
	inside := func(s string) string { return `<metadata><package>` + s + `</package></metadata>` }
	for name, in := range map[string]string{
		"empty":          "",
		"text":           "404 not found",
		"html":           "<html><body>404</body></html>",
		"two roots":      "<metadata/><metadata/>",
		"no location":    inside(`<name>x</name>`),
		"empty package":  `<metadata><package/></metadata>`,
		"empty location": inside(`<location href=""/>`),
		"bad size":       inside(`<location href="x"/><size package="many"/>`),
		"negative size":  inside(`<location href="x"/><size package="-1"/>`),
		"crossed":        `<metadata><package></metadata></package>`,
		"closed twice":   `<metadata></metadata></metadata>`,
		"document type":  `<!DOCTYPE x [<!ENTITY a "b">]><metadata/>`,
		"unknown entity": inside(`<location href="&a;"/>`),
		"no character":   inside(`<location href="&#xD800;"/>`),
		"open entity":    inside(`<location href="&amp"/>`),
		"no quote":       inside(`<location href=x/>`),
		"no value":       inside(`<location href/>`),
		"tag in a tag":   inside(`<location href="<a>"/>`),
		"no name":        inside(`< location href="x"/>`),
		"deep":           strings.Repeat("<metadata>", 100),
		"large tag":      inside(`<location href="` + strings.Repeat("x", 1<<19) + `"/>`),
		"large checksum": inside(`<checksum>` + strings.Repeat("x", 1<<13) + `</checksum>`),
		"large CDATA":    inside(`<checksum><![CDATA[` + strings.Repeat("x", 1<<13) + `]]></checksum>`),
		"open comment":   `<metadata><!-- `,
		"half a tag":     `<metadata`,
		"half a name":    `<`,
	} {
		if got, err := collect(strings.NewReader(in)); !errors.Is(err, rpmmd.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	// Wherever the file is cut, it is noticed.
	text := strings.TrimSpace(primary)
	for i := range len(text) {
		if got, err := collect(strings.NewReader(text[:i])); !errors.Is(err, rpmmd.ErrMalformed) || len(got) > len(packages) {
			t.Errorf("cut at %d: %+v, %v", i, got, err)
		}
		r := io.MultiReader(strings.NewReader(text[:i]), iotest.ErrReader(os.ErrClosed))
		if _, err := collect(r); !errors.Is(err, os.ErrClosed) || errors.Is(err, rpmmd.ErrMalformed) {
			t.Errorf("reader's error at %d: %v", i, err)
		}
	}
}

// byEncodingXML reads a primary.xml by the standard library.
func byEncodingXML(in string) (all []rpmmd.Package, err error) {
	var path []string
	var pkg rpmmd.Package
	var text strings.Builder
	dec := xml.NewDecoder(strings.NewReader(in))
	attr := func(e xml.StartElement, name string) string {
		for _, a := range e.Attr {
			if a.Name.Local == name {
				return a.Value
			}
		}
		return ""
	}
	for {
		token, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		switch e := token.(type) {
		case xml.StartElement:
			path = append(path, e.Name.Local)
			switch strings.Join(path, "/") {
			case "metadata/package":
				pkg = rpmmd.Package{Size: -1}
			case "metadata/package/location":
				pkg.Base, pkg.Href = attr(e, "base"), attr(e, "href")
			case "metadata/package/checksum":
				pkg.Checksum.Type = attr(e, "type")
				text.Reset()
			case "metadata/package/size":
				pkg.Size = -1
				if s := attr(e, "package"); s != "" {
					if pkg.Size, err = strconv.ParseInt(s, 10, 64); err != nil {
						return all, err
					}
				}
			}
		case xml.CharData:
			text.Write(e)
		case xml.EndElement:
			switch strings.Join(path, "/") {
			case "metadata/package":
				all = append(all, pkg)
			case "metadata/package/checksum":
				pkg.Checksum.Value = strings.ToLower(strings.TrimSpace(text.String()))
			}
			path = path[:len(path)-1]
		}
	}
}

// FuzzPackages compares with encoding/xml: what both take means the same.
func FuzzPackages(f *testing.F) {
	f.Add(primary)
	f.Add(`<metadata/>`)
	f.Add(`<metadata><package><location href="a"/><size package="1"/></package></metadata>`)
	f.Add(`<a:metadata><b:package><c:location d:href='a'></c:location><checksum>x<!-- - -->y<?z?></checksum></b:package></a:metadata>`)
	f.Add(`<metadata><package><location :href="a" href="b"/></package></metadata>`)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := collect(strings.NewReader(in))
		if err != nil {
			if !errors.Is(err, rpmmd.ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, p := range got {
			if p.Href == "" || p.Size < -1 {
				t.Errorf("%+v", p)
			}
		}
		want, err := byEncodingXML(in)
		if err != nil {
			return // it looks closer
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// BenchmarkPackages reads what a distribution of 60,000 packages has, of which
// most is of no interest.
func BenchmarkPackages(b *testing.B) {
	var text bytes.Buffer
	text.WriteString("<metadata>\n")
	for i := range 60_000 {
		fmt.Fprintf(&text, "<package type=\"rpm\">\n  <name>n</name>\n  <checksum type=\"sha256\" pkgid=\"YES\">%064x</checksum>\n"+
			"  <description>%s</description>\n  <size package=\"%d\"/>\n  <location href=\"Packages/p/package-%d.rpm\"/>\n  <format>\n",
			i, strings.Repeat("What it is good for. ", 20), i, i)
		for range 15 {
			text.WriteString("      <rpm:entry name=\"libsomething.so.1()(64bit)\" flags=\"EQ\" epoch=\"0\" ver=\"1\" rel=\"1\"/>\n")
		}
		text.WriteString("  </format>\n</package>\n")
	}
	text.WriteString("</metadata>\n")
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		for _, err := range rpmmd.Packages(bytes.NewReader(text.Bytes())) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != 60_000 {
			b.Fatal(n)
		}
	}
}
