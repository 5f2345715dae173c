package sign

import (
	"bytes"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"freshet/internal/peertest"
)

// A key that openssl made signs for us, and openssl accepts signatures of keys
// that we made.
func TestEd25519OpenSSL(t *testing.T) {
	peertest.Require(t, "openssl")
	path := filepath.Join(t.TempDir(), "key")
	public, err := GenerateEd25519(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", info, err)
	}
	if _, err := GenerateEd25519(path); err == nil {
		t.Error("a key was replaced")
	}
	// A pair as the manual of ostree-sign makes it: the last 32 bytes of the DER
	// forms.
	pem := filepath.Join(t.TempDir(), "pem")
	peertest.Run(t, "", nil, "openssl", "genpkey", "-algorithm", "ed25519", "-out", pem)
	seed := peertest.Run(t, "", nil, "openssl", "pkey", "-in", pem, "-outform", "DER")
	theirs := peertest.Run(t, "", nil, "openssl", "pkey", "-in", pem, "-pubout", "-outform", "DER")
	raw := append(bytes.Clone(seed[len(seed)-32:]), theirs[len(theirs)-32:]...)
	other := write(t, "other", []byte(base64.StdEncoding.EncodeToString(raw)+"\n"))

	keys, err := OpenEd25519(path, other)
	if err != nil {
		t.Fatal(err)
	}
	if got := keys.PublicKeys(); len(got) != 2 || got[0] != public {
		t.Errorf("public keys %q, made %q", got, public)
	}
	data := []byte("data\n")
	prefix := theirs[:len(theirs)-32] // of SubjectPublicKeyInfo
	for i, signature := range keys.Sign(data) {
		point, err := base64.StdEncoding.DecodeString(keys.PublicKeys()[i])
		if err != nil {
			t.Fatal(err)
		}
		der := write(t, "public.der", append(bytes.Clone(prefix), point...))
		peertest.Run(t, "", nil, "openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", der, "-rawin",
			"-in", write(t, "data", data), "-sigfile", write(t, "sig", signature))
	}
}

func TestEd25519Merge(t *testing.T) {
	var keys [2]*Ed25519
	for i := range keys {
		path := filepath.Join(t.TempDir(), "key")
		if _, err := GenerateEd25519(path); err != nil {
			t.Fatal(err)
		}
		var err error
		if keys[i], err = OpenEd25519(path); err != nil {
			t.Fatal(err)
		}
	}
	data := []byte("data")
	first, complete := keys[0].Merge(data, nil)
	if complete || len(first) != 1 {
		t.Errorf("%d signatures, complete %v", len(first), complete)
	}
	both, complete := keys[1].Merge(data, first)
	if complete || len(both) != 2 || !bytes.Equal(both[1], first[0]) {
		t.Errorf("%d signatures, complete %v", len(both), complete)
	}
	if again, complete := keys[1].Merge(data, both); !complete || len(again) != 2 {
		t.Errorf("%d signatures, complete %v", len(again), complete)
	}
	var none *Ed25519
	if kept, complete := none.Merge(data, both); !complete || len(kept) != 2 || none.PublicKeys() != nil {
		t.Errorf("%d signatures, complete %v", len(kept), complete)
	}
}

func TestBadEd25519(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "\n", "no base64": "!", "a seed alone": base64.StdEncoding.EncodeToString(make([]byte, 32)),
		"halves of two keys": base64.StdEncoding.EncodeToString(make([]byte, 64)),
	} {
		if _, err := OpenEd25519(write(t, "key", []byte(text))); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
