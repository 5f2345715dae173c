package roots

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/peertest"
)

// Of what gpg writes, every beginning is found not to be all of it.
func TestWhole(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "gpg", "gpgconf")
	dir := t.TempDir()
	env := []string{"GNUPGHOME=" + dir, "HOME=" + dir}
	run := func(program string, args ...string) []byte { return peertest.Run(t, dir, env, program, args...) }
	defer run("gpgconf", "--kill", "all")
	run("gpg", "--batch", "--passphrase", "", "--quick-generate-key", "test@example.org", "ed25519", "sign", "never")
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("Origin: x\n-----BEGIN of a line\n-----END of it\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	key := run("gpg", "--armor", "--export")
	for name, data := range map[string][]byte{
		"armored signature": run("gpg", "--batch", "--armor", "-o", "-", "--detach-sign", text),
		"binary signature":  run("gpg", "--batch", "-o", "-", "--detach-sign", text),
		"signed text":       run("gpg", "--batch", "-o", "-", "--clearsign", text),
		"armored key":       key,
		"binary key":        run("gpg", "--export"),
		"signify":           []byte("untrusted comment: verify with x.pub\nRWQ="),
		"another armor":     []byte("-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ\n-----END SSH SIGNATURE-----\n"),
		"DER":               {0x30, 0x82, 1},
	} {
		if err := Whole(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "signify" || name == "DER" {
			continue // of which nothing is known
		}
		all := len(bytes.TrimRight(data, "\n"))
		if data[0] >= 0x80 {
			all = len(data)
		}
		for n := range all {
			if n > 0 && name == "binary key" && Whole(data[:n]) == nil && isBoundary(data, n) {
				continue // a key without a signature is one
			}
			if err := Whole(data[:n]); !errors.Is(err, ErrMismatch) {
				t.Errorf("%d of %d bytes of %s: %v", n, len(data), name, err)
			}
		}
	}
	for name, data := range map[string][]byte{
		"two keys, the second cut":  append(bytes.Clone(key), key[:len(key)/2]...),
		"the first cut":             append(bytes.Clone(key[:len(key)/2]), key...),
		"the end of another":        append(bytes.Clone(key[:len(key)/2]), "-----END PGP SIGNATURE-----\n"...),
		"nothing between the marks": []byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n"),
		"something else":            []byte("-----BEGIN PGP SIGNATURE-----\n\n<html>\n-----END PGP SIGNATURE-----\n"),
		"blanks":                    []byte("\n \n"),
	} {
		if err := Whole(data); !errors.Is(err, ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Whole(append(bytes.Clone(key), key...)); err != nil {
		t.Errorf("two keys: %v", err)
	}
}

// isBoundary reports whether a packet ends after n bytes, and another begins.
func isBoundary(data []byte, n int) bool {
	return wholePackets(data[:n]) == nil && wholePackets(data[n:]) == nil
}

func FuzzWhole(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP SIGNATURE-----\n\nwgEA\n-----END PGP SIGNATURE-----\n"))
	f.Add([]byte{0xC2, 1, 0})
	f.Add([]byte{0x89, 0, 1, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := Whole(data); err != nil && !errors.Is(err, ErrMismatch) {
			t.Error(err)
		}
	})
}
