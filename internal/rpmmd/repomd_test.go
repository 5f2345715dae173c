package rpmmd_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/peertest"
	"freshet/internal/rpmmd"
)

const sample = `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>1700000000</revision>
  <tags><repo>x</repo></tags>
  <data type="primary">
    <checksum type="sha256">ABCD</checksum>
    <open-checksum type="sha256">ffff</open-checksum>
    <location xml:base="http://elsewhere/" href="repodata/abcd-primary.xml.gz"/>
    <timestamp>1700000000</timestamp>
    <size>134</size>
    <open-size>99</open-size>
  </data>
  <data type="updateinfo"><location href="repodata/u.xml"/></data>
</repomd>
`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := rpmmd.ParseRepomd(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	want := &rpmmd.Repomd{Revision: "1700000000", Data: []rpmmd.Data{
		{
			Type: "primary", Base: "http://elsewhere/", Href: "repodata/abcd-primary.xml.gz",
			Checksum: rpmmd.Checksum{Type: "sha256", Value: "abcd"}, Size: 134, Timestamp: 1700000000,
		},
		{Type: "updateinfo", Href: "repodata/u.xml", Size: -1},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"empty":          "",
		"text":           "not found",
		"html":           "<html><body>404</body></html>",
		"cut":            sample[:300],
		"two roots":      "<repomd/><repomd/>",
		"no location":    `<repomd><data type="primary"></data></repomd>`,
		"bad size":       `<repomd><data><location href="x"/><size>many</size></data></repomd>`,
		"negative size":  `<repomd><data><location href="x"/><size>-1</size></data></repomd>`,
		"crossed":        `<repomd><data></repomd></data>`,
		"deep":           "<repomd>" + strings.Repeat("<a>", 100) + strings.Repeat("</a>", 100) + "</repomd>",
		"many":           "<repomd>" + strings.Repeat(`<data><location href="x"/></data>`, 2000) + "</repomd>",
		"large":          "<repomd>" + strings.Repeat(" ", rpmmd.MaxRepomdSize) + "</repomd>",
		"unknown entity": `<!DOCTYPE x [<!ENTITY a "b">]><repomd><revision>&a;</revision></repomd>`,
	} {
		if got, err := rpmmd.ParseRepomd(strings.NewReader(in)); !errors.Is(err, rpmmd.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := rpmmd.ParseRepomd(iotest.ErrReader(os.ErrClosed)); !errors.Is(err, os.ErrClosed) || errors.Is(err, rpmmd.ErrMalformed) {
		t.Errorf("reader's error: %v", err)
	}
}

func TestCreaterepo(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "createrepo_c")
	dir := t.TempDir()
	peertest.Run(t, dir, nil, "createrepo_c", "--quiet", ".")
	data, err := os.ReadFile(filepath.Join(dir, "repodata/repomd.xml"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := rpmmd.ParseRepomd(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]bool)
	for _, d := range got.Data {
		types[d.Type] = true
		info, err := os.Stat(filepath.Join(dir, d.Href))
		if err != nil || info.Size() != d.Size || d.Checksum.Type != "sha256" || !strings.Contains(d.Href, d.Checksum.Value) {
			t.Errorf("%+v: %v", d, err)
		}
	}
	if !types["primary"] || !types["filelists"] || !types["other"] {
		t.Errorf("types %v", types)
	}
}

func FuzzParseRepomd(f *testing.F) {
	f.Add(sample)
	f.Add("<repomd/>")
	f.Add(`<repomd><data type="x"><location href="&#x2F;"/><size>1</size></data></repomd>`)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := rpmmd.ParseRepomd(strings.NewReader(in))
		if err != nil {
			return
		}
		for _, d := range got.Data {
			if d.Href == "" || d.Size < -1 {
				t.Errorf("%+v", d)
			}
		}
	})
}
