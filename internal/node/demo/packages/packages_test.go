package packages_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/alpm"
	"freshet/internal/apt"
	"freshet/internal/node/demo/packages"
	"freshet/internal/peertest"
	"freshet/internal/rpmmd"
	"freshet/internal/sign"
)

// made is a repository with a package whose contents have an odd length and one that
// has not, and what verifies it.
type made struct {
	t        *testing.T
	dir      string
	p        packages.Package
	signer   *packages.Signer
	verifier *sign.Verifier
}

func prepare(t *testing.T, program string) *made {
	t.Helper()
	key := filepath.Join(t.TempDir(), "key.asc")
	if _, err := sign.Generate(key, "Test <test@example.org>"); err != nil {
		t.Fatal(err)
	}
	signer, err := packages.OpenSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	public, armored, err := signer.Public()
	if err != nil || !strings.HasPrefix(string(armored), "-----BEGIN PGP PUBLIC KEY BLOCK-----\n") {
		t.Fatalf("%s %v", armored, err)
	}
	verifier, err := sign.NewVerifier(public)
	if err != nil {
		t.Fatal(err)
	}
	p := packages.Package{Name: "freshet-hello", Version: "7", Summary: "Says hello", Program: []byte(program), Time: time.Unix(1_700_000_000, 5)}
	return &made{t, filepath.Join(t.TempDir(), "repo"), p, signer, verifier}
}

func (m *made) read(name string) []byte {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join(m.dir, name))
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

// is checks the size and the digest of a file.
func (m *made) is(name string, size int64, digest string) {
	m.t.Helper()
	b := m.read(name)
	sum := sha256.Sum256(b)
	if int64(len(b)) != size || hex.EncodeToString(sum[:]) != digest {
		m.t.Errorf("%s: %d bytes, %x, want %d, %s", name, len(b), sum, size, digest)
	}
}

func (m *made) signed(name, signature string) {
	m.t.Helper()
	if _, err := m.verifier.VerifyFile(bytes.NewReader(m.read(name)), m.read(signature)); err != nil {
		m.t.Errorf("%s: %v", signature, err)
	}
}

func (m *made) unzip(name string) io.Reader {
	m.t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(m.read(name)))
	if err != nil {
		m.t.Fatal(err)
	}
	return zr
}

// programs have contents of odd and of even length.
func programs() []string { return []string{"#!/bin/sh\necho 7\n", "#!/bin/sh\necho 7 7\n#\n"} }

// What a client reads first is signed, names indexes that are as it says, and these
// name packages that are as they say.
func TestApt(t *testing.T) {
	t.Parallel()
	for _, program := range programs() {
		m := prepare(t, program)
		if err := m.p.Apt(m.dir, m.signer); err != nil {
			t.Fatal(err)
		}
		text, _, err := m.verifier.VerifyClear(m.read("dists/stable/InRelease"))
		if err != nil {
			t.Fatal(err)
		}
		if plain := m.read("dists/stable/Release"); strings.TrimSpace(string(text)) != strings.TrimSpace(string(plain)) {
			t.Errorf("InRelease says\n%s, Release\n%s", text, plain)
		}
		m.signed("dists/stable/Release", "dists/stable/Release.gpg")
		release, err := apt.ParseRelease(bytes.NewReader(m.read("dists/stable/InRelease")))
		if err != nil || len(release.Files) != 4 {
			t.Fatalf("%+v %v", release, err)
		}
		for _, file := range release.Files {
			m.is("dists/stable/"+file.Path, file.Size, file.SHA256)
		}
		found := 0
		for entry, err := range apt.Packages(m.unzip("dists/stable/main/binary-arm64/Packages.gz")) {
			if err != nil {
				t.Fatal(err)
			}
			m.is(entry.Path, entry.Size, entry.SHA256)
			found++
		}
		if found != 1 {
			t.Errorf("%d packages", found)
		}
	}
}

func TestDNF(t *testing.T) {
	t.Parallel()
	for _, program := range programs() {
		m := prepare(t, program)
		if err := m.p.DNF(m.dir, m.signer); err != nil {
			t.Fatal(err)
		}
		m.signed("repodata/repomd.xml", "repodata/repomd.xml.asc")
		repomd, err := rpmmd.ParseRepomd(bytes.NewReader(m.read("repodata/repomd.xml")))
		if err != nil || len(repomd.Data) != 3 {
			t.Fatalf("%+v %v", repomd, err)
		}
		found := 0
		for _, data := range repomd.Data {
			m.is(data.Href, data.Size, data.Checksum.Value)
			if data.Type != "primary" {
				continue
			}
			for p, err := range rpmmd.Packages(m.unzip(data.Href)) {
				if err != nil {
					t.Fatal(err)
				}
				m.is(p.Href, p.Size, p.Checksum.Value)
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d packages", found)
		}
	}
}

func TestPacman(t *testing.T) {
	t.Parallel()
	for _, program := range programs() {
		m := prepare(t, program)
		if err := m.p.Pacman(m.dir, "mine", m.signer); err != nil {
			t.Fatal(err)
		}
		m.signed("mine.db", "mine.db.sig")
		found := 0
		for p, err := range alpm.Packages(m.unzip("mine.db")) {
			if err != nil {
				t.Fatal(err)
			}
			m.is(p.File, p.Size, p.SHA256)
			found++
		}
		if found != 1 {
			t.Errorf("%d packages", found)
		}
	}
}

// The tools of each kind find the program in the package, and its fields.
func TestTools(t *testing.T) {
	peertest.Require(t, "dpkg-deb", "rpm", "bsdtar", "createrepo_c")
	for _, program := range programs() {
		m := prepare(t, program)
		tool := func(name string, args ...string) string {
			return string(peertest.Run(t, m.dir, nil, name, args...))
		}
		if err := m.p.Apt(m.dir, m.signer); err != nil {
			t.Fatal(err)
		}
		deb := "pool/main/freshet-hello_7_all.deb"
		if got := tool("dpkg-deb", "--field", deb, "Package", "Version", "Architecture"); got != "Package: freshet-hello\nVersion: 7\nArchitecture: all\n" {
			t.Errorf("dpkg-deb says %q", got)
		}
		archive := tar.NewReader(strings.NewReader(tool("dpkg-deb", "--fsys-tarfile", deb)))
		content := ""
		for header, err := archive.Next(); err == nil; header, err = archive.Next() {
			if b, _ := io.ReadAll(archive); header.Name == "./usr/bin/freshet-hello" && header.Mode == 0o755 {
				content = string(b)
			}
		}
		if content != program {
			t.Errorf("the .deb has %q, want %q", content, program)
		}

		if err := m.p.DNF(m.dir, m.signer); err != nil {
			t.Fatal(err)
		}
		rpm := "packages/freshet-hello-7-1.noarch.rpm"
		if got := tool("rpm", "--dbpath", t.TempDir(), "-qp", "--qf", "%{NEVRA} %{SIZE}\n[%{FILENAMES} %{FILEMODES:perms}\n]", rpm); !strings.HasPrefix(got, "freshet-hello-0:7-1.noarch ") || !strings.HasSuffix(got, "\n/usr/bin/freshet-hello -rwxr-xr-x\n") {
			t.Errorf("rpm says %q", got)
		}
		if got := tool("bsdtar", "-xOf", rpm); got != program {
			t.Errorf("the .rpm has %q, want %q", got, program)
		}
		// Our description of it says what the usual program's does.
		ours := primary(m)
		tool("createrepo_c", "--quiet", "--general-compress-type=gz", ".")
		theirs := primary(m)
		for _, part := range []string{"<rpm:header-range", "<checksum", "<version", "<rpm:entry name=\"freshet-hello\"", "<size"} {
			if a, b := lineWith(ours, part), lineWith(theirs, part); a != b {
				t.Errorf("we write %s, createrepo_c %s", a, b)
			}
		}

		if err := m.p.Pacman(m.dir, "mine", m.signer); err != nil {
			t.Fatal(err)
		}
		if got := tool("bsdtar", "-xOf", "freshet-hello-7-1-any.pkg.tar.zst", "usr/bin/freshet-hello"); got != program {
			t.Errorf("pacman's package has %q, want %q", got, program)
		}
	}
}

// primary is the list of packages of an rpm-md repository.
func primary(m *made) string {
	m.t.Helper()
	repomd, err := rpmmd.ParseRepomd(bytes.NewReader(m.read("repodata/repomd.xml")))
	if err != nil {
		m.t.Fatal(err)
	}
	for _, data := range repomd.Data {
		if data.Type == "primary" {
			b, err := io.ReadAll(m.unzip(data.Href))
			if err != nil {
				m.t.Fatal(err)
			}
			return string(b)
		}
	}
	m.t.Fatal("no primary")
	return ""
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}
