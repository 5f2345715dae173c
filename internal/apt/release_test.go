package apt_test

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/apt"
)

var (
	md5    = strings.Repeat("0a", 16)
	sha256 = strings.Repeat("1b", 32)
)

var sample = `Origin: Example
Label: Example Label
Suite: stable
Codename: trixie
Date: Sat, 01 Aug 2026 10:00:00 UTC
Valid-Until: Sat, 08 Aug 2026 10:00:00 UTC
Acquire-By-Hash: yes
Architectures: amd64
Description: several
 lines of text
MD5Sum:
 ` + md5 + `     1234 main/binary-amd64/Packages
SHA256:
 ` + strings.ToUpper(sha256) + ` 1234 main/binary-amd64/Packages
 ` + sha256 + ` 55 main/binary-amd64/Packages.gz
`

var want = &apt.Release{
	Origin: "Example", Label: "Example Label", Suite: "stable", Codename: "trixie",
	Date: "Sat, 01 Aug 2026 10:00:00 UTC", ValidUntil: "Sat, 08 Aug 2026 10:00:00 UTC", ByHash: true,
	Files: []apt.File{
		{Path: "main/binary-amd64/Packages", Size: 1234, MD5: md5, SHA256: sha256},
		{Path: "main/binary-amd64/Packages.gz", Size: 55, SHA256: sha256},
	},
}

func signed(text string) string {
	return "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n" + text +
		"-----BEGIN PGP SIGNATURE-----\n\nabcd=\n-----END PGP SIGNATURE-----\n"
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"Release":          sample,
		"CRLF":             strings.ReplaceAll(sample, "\n", "\r\n"),
		"InRelease":        signed(sample),
		"second paragraph": sample + "\nnot: ours\n",
		"dash escape":      signed(strings.ReplaceAll(sample, "Architectures", "- -Architectures")),
	} {
		got, err := apt.ParseRelease(strings.NewReader(in))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"empty":           "",
		"html":            "<html>404 not found</html>",
		"continuation":    " x\n",
		"two columns":     "SHA256:\n " + sha256 + " 5\n",
		"short checksum":  "SHA256:\n abcd 5 x\n",
		"wrong checksum":  "SHA256:\n " + strings.Repeat("zz", 32) + " 5 x\n",
		"size":            "SHA256:\n " + sha256 + " five x\n",
		"negative size":   "SHA256:\n " + sha256 + " -5 x\n",
		"traversal":       "SHA256:\n " + sha256 + " 5 ../x\n",
		"absolute":        "SHA256:\n " + sha256 + " 5 /etc/passwd\n",
		"two sizes":       "MD5Sum:\n " + md5 + " 5 x\nSHA256:\n " + sha256 + " 6 x\n",
		"no signature":    strings.SplitN(signed(sample), "-----BEGIN PGP SIGNATURE", 2)[0],
		"only the armour": "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n",
		"long line":       "A: " + strings.Repeat("x", 1<<17),
		"large":           "A: " + strings.Repeat("\n x", apt.MaxReleaseSize/3),
	} {
		if got, err := apt.ParseRelease(strings.NewReader(in)); !errors.Is(err, apt.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := apt.ParseRelease(iotest.ErrReader(os.ErrClosed)); !errors.Is(err, os.ErrClosed) || errors.Is(err, apt.ErrMalformed) {
		t.Errorf("reader's error: %v", err)
	}
}

func FuzzParseRelease(f *testing.F) {
	f.Add(sample)
	f.Add(signed(sample))
	f.Fuzz(func(t *testing.T, in string) {
		got, err := apt.ParseRelease(strings.NewReader(in))
		if err != nil {
			return
		}
		seen := make(map[string]bool)
		for _, file := range got.Files {
			if !fs.ValidPath(file.Path) || file.Size < 0 || seen[file.Path] {
				t.Errorf("%+v", file)
			}
			seen[file.Path] = true
		}
	})
}
