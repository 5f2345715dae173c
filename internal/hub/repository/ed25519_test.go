package repository

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freshet/internal/ostree"
	"freshet/internal/peertest"
	"freshet/internal/sign"
)

func newEd25519(t *testing.T) (*sign.Ed25519, ed25519.PublicKey) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ed25519")
	text, err := sign.GenerateEd25519(path)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sign.OpenEd25519(path)
	if err != nil {
		t.Fatal(err)
	}
	public, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys, public
}

// Commits, summary and index have ed25519 signatures beside those of OpenPGP,
// where ostree looks for them; a key that comes later signs what is there.
func TestEd25519(t *testing.T) {
	t.Parallel()
	peertest.Require(t, "ostree")
	signer, key := newSigner(t)
	keys, public := newEd25519(t)
	h := newHub(t, func(o *Options) { o.Signer, o.Ed25519 = signer, keys })
	h.publishApp("org.test.Hello", "v1")
	signed := func(by ed25519.PublicKey, files ...string) {
		t.Helper()
		for i := 0; i < len(files); i += 2 {
			data, err := os.ReadFile(filepath.Join(h.opt.Dir, files[i]))
			if err != nil {
				t.Fatal(err)
			}
			meta, err := os.ReadFile(filepath.Join(h.opt.Dir, files[i+1]))
			if err != nil {
				t.Fatal(err)
			}
			dict, err := ostree.ParseDetached(meta)
			if err != nil {
				t.Fatal(err)
			}
			good := false
			for _, signature := range ostree.Ed25519Signatures(dict) {
				good = good || ed25519.Verify(by, data, signature)
			}
			if !good || len(ostree.GPGSignatures(dict)) == 0 {
				t.Errorf("%s: good ed25519 signature: %v, %d of OpenPGP", files[i], good, len(ostree.GPGSignatures(dict)))
			}
		}
	}
	head := checksum(t, h.headSum(appRef("org.test.Hello")))
	catalogue := checksum(t, h.headSum("appstream2/x86_64"))
	files := []string{
		commitName(head).Path(), commitMetaName(head).Path(), commitName(catalogue).Path(), commitMetaName(catalogue).Path(),
		"summary", "summary.sig", "summary.idx", "summary.idx.sig",
	}
	signed(public, files...)
	// ostree sees them, and the others too.
	out := peertest.Run(t, "", nil, "ostree", "--repo="+h.opt.Dir, "show", "--print-detached-metadata-key="+ostree.KeyEd25519Signatures, head.String())
	// One signature in sixteen ends with a zero, which GVariant shows as text.
	if asText := bytes.HasPrefix(out, []byte("[b")); !asText && bytes.Count(out, []byte("0x")) != ed25519.SignatureSize {
		t.Errorf("ostree shows %s", out)
	}
	h.check()
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}

	other, otherPublic := newEd25519(t)
	h.opt.Ed25519 = other
	if pending := h.reopen(); len(pending) != 1 {
		t.Errorf("pending: %+v", pending)
	}
	signed(otherPublic, files...)
	signed(public, files[:4]...) // commits keep the signatures of former keys
	if pending := h.reopen(); len(pending) != 0 {
		t.Errorf("pending: %+v", pending)
	}
	url := h.serve()
	user := t.TempDir()
	peertest.Run(t, "", nil, "ostree", "init", "--repo="+user, "--mode=archive")
	peertest.Run(t, "", nil, "ostree", "--repo="+user, "remote", "add", "--gpg-import="+key, "--set=gpg-verify-summary=true", "hub", url)
	peertest.Run(t, "", nil, "ostree", "--repo="+user, "pull", "hub", appRef("org.test.Hello"))

	// Only where ostree is built with it.
	if features := peertest.Run(t, "", nil, "ostree", "--version"); !strings.Contains(string(features), "ed25519") && !strings.Contains(string(features), "libsodium") {
		t.Log("this ostree does not know ed25519")
		return
	}
	verified := t.TempDir()
	peertest.Run(t, "", nil, "ostree", "init", "--repo="+verified, "--mode=archive")
	peertest.Run(t, "", nil, "ostree", "--repo="+verified, "remote", "add", "--no-gpg-verify", "--set=sign-verify=ed25519", "--set=sign-verify-summary=ed25519",
		"--set=verification-ed25519-key="+base64.StdEncoding.EncodeToString(otherPublic), "hub", url)
	peertest.Run(t, "", nil, "ostree", "--repo="+verified, "pull", "hub", appRef("org.test.Hello"))
}
