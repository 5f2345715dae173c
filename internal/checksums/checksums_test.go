package checksums_test

import (
	_ "crypto/md5"
	_ "crypto/sha1"
	_ "crypto/sha512"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"freshet/internal/checksums"
)

const (
	one = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c"
	two = "7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730"
)

func read(t *testing.T, text string) ([]string, error) {
	t.Helper()
	var got []string
	for e, err := range checksums.Read(strings.NewReader(text)) {
		if err != nil {
			return got, err
		}
		line := e.Name + " " + e.Hash.String() + " " + hex.EncodeToString([]byte(e.Sum))[:4]
		if e.Size >= 0 {
			line += " sized"
		}
		got = append(got, line)
	}
	return got, nil
}

func TestRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ text, want string }{
		"sha256sum": {one + "  a.iso\n" + two + " *sub/b c.iso\n", "a.iso SHA-256 b5bb|sub/b c.iso SHA-256 7d86"},
		"escaped":   {`\` + one + `  a\\b\nc` + "\n", "a\\b\nc SHA-256 b5bb"},
		"here":      {one + "  ./a.iso\n", "a.iso SHA-256 b5bb"},
		"bare":      {one + "\n", " SHA-256 b5bb"},
		"bsd":       {"SHA256 (a (1).iso) = " + one + "\nBLAKE2 (a) = 00\n", "a (1).iso SHA-256 b5bb"},
		"md5":       {strings.Repeat("0", 32) + "  a\n", "a MD5 0000"},
		"fedora": {
			"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n# a.iso: 5 bytes\nSHA256 (a.iso) = " + one + "\n# b.iso: 7 bytes\nSHA256 (c.iso) = " + two +
				"\n-----BEGIN PGP SIGNATURE-----\n\nxxxx\n-----END PGP SIGNATURE-----\n",
			"a.iso SHA-256 b5bb sized|c.iso SHA-256 7d86",
		},
		"empty": {"", ""},
	} {
		got, err := read(t, c.text)
		if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"html":         "<html><body>404</body></html>\n",
		"comments":     "# nothing\n",
		"outside":      one + "  ../a\n",
		"absolute":     one + "  /a\n",
		"short":        one[:60] + "  a\n",
		"not hex":      strings.Repeat("x", 64) + "  a\n",
		"cut":          "-----BEGIN PGP SIGNED MESSAGE-----\n\n" + one + "  a\n",
		"no equal":     "SHA256 (a) " + one + "\n",
		"long":         strings.Repeat("a", 1<<20),
		"wrong length": "SHA256 (a) = 00\n",
	} {
		if got, err := read(t, text); !errors.Is(err, checksums.ErrMalformed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, err := range checksums.Read(iotest.ErrReader(os.ErrClosed)) {
		if !errors.Is(err, os.ErrClosed) || errors.Is(err, checksums.ErrMalformed) {
			t.Errorf("the reader's error: %v", err)
		}
	}
}

func TestIsList(t *testing.T) {
	t.Parallel()
	for base, want := range map[string]string{
		"SHA256SUMS": "|SHA-256", "sha512sum.txt": "|SHA-512", "MD5SUMS": "|MD5", "kali.iso.sha256": "kali.iso|SHA-256", "x.sha256sum": "x|SHA-256",
		"Fedora-40-CHECKSUM": "Fedora-40-CHECKSUM|unknown hash value 0", "CHECKSUM": "CHECKSUM|unknown hash value 0",
		"SHA256SUMS.gpg": "no", "b2sums.txt": "no", "kali.iso": "no", "sha256": "|SHA-256", "md5": "|MD5", "": "no",
	} {
		got := "no"
		if stem, hash, ok := checksums.IsList(base); ok {
			got = stem + "|" + hash.String()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", base, got, want)
		}
	}
}

// Whatever a server sends, names stay inside and sums have their length.
func FuzzRead(f *testing.F) {
	f.Add(one + "  a.iso\n" + two + " *b\n")
	f.Add("# a: 5 bytes\nSHA256 (a) = " + one + "\n")
	f.Add("-----BEGIN PGP SIGNED MESSAGE-----\nHash: x\n\n- " + one + "  a\n-----BEGIN PGP SIGNATURE-----\n")
	f.Add(`\` + one + `  a\n/../..\\`)
	f.Fuzz(func(t *testing.T, text string) {
		for e, err := range checksums.Read(strings.NewReader(text)) {
			if err != nil {
				if !errors.Is(err, checksums.ErrMalformed) {
					t.Fatal(err)
				}
				return
			}
			if e.Name != "" && (!fs.ValidPath(e.Name) || e.Name == ".") || !e.Hash.Available() || len(e.Sum) != e.Hash.Size() || e.Size < -1 {
				t.Errorf("%+v", e)
			}
		}
	})
}
