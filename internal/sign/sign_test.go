package sign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/peertest"
)

func generateKey(tb testing.TB, userID string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "key.asc")
	if _, err := Generate(path, userID); err != nil {
		tb.Fatal(err)
	}
	return path
}

func openKeys(tb testing.TB, files ...KeyFile) *Keyring {
	tb.Helper()
	ring, err := Open(files...)
	if err != nil {
		tb.Fatal(err)
	}
	return ring
}

func publicKeys(tb testing.TB, s Signer) []byte {
	tb.Helper()
	keys, err := s.PublicKeys()
	if err != nil {
		tb.Fatal(err)
	}
	return keys
}

func write(tb testing.TB, name string, data []byte) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestGenerate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.asc")
	key, err := Generate(path, "Test Repository <repo@example.org>")
	if err != nil {
		t.Fatal(err)
	}
	if len(key.ID) != 16 || len(key.Fingerprint) != 40 || !strings.HasSuffix(key.Fingerprint, key.ID) ||
		key.UserID != "Test Repository <repo@example.org>" || key.Algorithm != "ed25519" {
		t.Errorf("%+v", key)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	ring := openKeys(t, KeyFile{Path: path})
	if got := ring.Keys(); len(got) != 1 || got[0] != key {
		t.Errorf("opened %+v, generated %+v", got, key)
	}
	// An existing key is never lost.
	if _, err := Generate(path, "Other"); !errors.Is(err, os.ErrExist) {
		t.Errorf("second key in the same place: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
	for _, userID := range []string{"", " ", "<>", "Name <open", "Na\x00me"} {
		if key, err := Generate(filepath.Join(dir, "bad"), userID); err == nil {
			t.Errorf("%q: made %+v", userID, key)
		}
	}
	for userID, want := range map[string]string{"Name": "Name", "<a@b>": "<a@b>", " Name  <a@b>": "Name <a@b>"} {
		key, err := Generate(filepath.Join(t.TempDir(), "key"), userID)
		if err != nil || key.UserID != want {
			t.Errorf("%q: %+v, %v", userID, key, err)
		}
	}
}

func TestSignAndVerify(t *testing.T) {
	ring := openKeys(t, KeyFile{Path: generateKey(t, "One")}, KeyFile{Path: generateKey(t, "Two")})
	data := []byte("data")
	signatures, err := ring.Sign(t.Context(), data)
	if err != nil || len(signatures) != 2 {
		t.Fatalf("%d signatures, %v", len(signatures), err)
	}
	armored, err := Armor(publicKeys(t, ring))
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]byte{publicKeys(t, ring), armored} {
		verifier, err := NewVerifier(keys)
		if err != nil {
			t.Fatal(err)
		}
		for i, signature := range signatures {
			if key, err := verifier.Verify(data, signature); err != nil || key != ring.Keys()[i] {
				t.Errorf("signature %d: %v, %v", i, key, err)
			}
		}
		if key, err := verifier.Verify(data, bytes.Join(signatures, nil)); err != nil || key != ring.Keys()[0] {
			t.Errorf("both signatures: %v, %v", key, err)
		}
		for name, test := range map[string][2][]byte{
			"other data":  {[]byte("Data"), signatures[0]},
			"truncated":   {data, signatures[0][:len(signatures[0])-1]},
			"none":        {data, nil},
			"not OpenPGP": {data, []byte("signature")},
		} {
			if _, err := verifier.Verify(test[0], test[1]); !errors.Is(err, ErrBadSignature) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	// A signature by a key that the verifier does not have is passed over.
	onlySecond, err := NewVerifier(publicKeys(t, &Keyring{members: ring.members[1:]}))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := onlySecond.Verify(data, bytes.Join(signatures, nil)); err != nil || key.UserID != "Two" {
		t.Errorf("with one key of two: %v, %v", key, err)
	}
	if _, err := onlySecond.Verify(data, signatures[0]); !errors.Is(err, ErrBadSignature) {
		t.Errorf("by an unknown key: %v", err)
	}

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ring.Sign(cancelled, data); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var none Keyring
	if signatures, err := none.Sign(t.Context(), data); err != nil || len(signatures) != 0 || len(none.Keys()) != 0 {
		t.Errorf("no keys: %v, %v", signatures, err)
	}
}

func TestAll(t *testing.T) {
	ring := openKeys(t, KeyFile{Path: generateKey(t, "One")})
	var messages [][]byte
	for i := range 100 {
		messages = append(messages, fmt.Append(nil, "message ", i))
	}
	signatures, err := All(t.Context(), ring, messages)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewVerifier(publicKeys(t, ring))
	if err != nil {
		t.Fatal(err)
	}
	for i, message := range messages {
		if _, err := verifier.Verify(message, signatures[i][0]); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	ring.now = func() time.Time { return time.Unix(1, 0) } // before the key was made
	_, err = All(t.Context(), ring, messages)
	if _, ok := errors.AsType[*KeyError](err); !ok {
		t.Errorf("with a key that can not sign: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	path := generateKey(t, "One")
	secret, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	armored, err := Armor(publicKeys(t, openKeys(t, KeyFile{Path: path})))
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string]KeyFile{
		"absent":        {Path: filepath.Join(t.TempDir(), "absent")},
		"empty":         {Path: write(t, "key", nil)},
		"garbage":       {Path: write(t, "key", []byte("not a key"))},
		"truncated":     {Path: write(t, "key", secret[:len(secret)/2])},
		"large":         {Path: write(t, "key", make([]byte, maxKeyFile+1))},
		"public":        {Path: write(t, "key", armored)},
		"a signature":   {Path: write(t, "key", []byte("-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n"))},
		"no passphrase": {Path: path, Passphrase: filepath.Join(t.TempDir(), "absent")},
	} {
		ring, err := Open(file)
		if err == nil || !strings.Contains(err.Error(), file.Path) {
			t.Errorf("%s: %v, %v", name, ring, err)
		}
	}
}

// gnupg is a GnuPG home folder of a test.
type gnupg struct {
	t    testing.TB
	home string
}

func newGnuPG(tb testing.TB) *gnupg {
	tb.Helper()
	peertest.Require(tb, "gpg", "gpgconf")
	// The agent's socket has a name of limited length.
	home, err := os.MkdirTemp("", "gpg-") //nolint:usetesting // tb.TempDir makes longer names
	if err != nil {
		tb.Fatal(err)
	}
	g := &gnupg{t: tb, home: home}
	tb.Cleanup(func() {
		// The context of the test is over by now.
		peertest.Run(withoutContext{tb}, "", []string{"GNUPGHOME=" + home}, "gpgconf", "--kill", "all")
		if err := os.RemoveAll(home); err != nil {
			tb.Error(err)
		}
	})
	return g
}

// withoutContext lets a program run while a test is cleaned up.
type withoutContext struct{ testing.TB }

func (withoutContext) Context() context.Context { return context.Background() }

func (g *gnupg) run(args ...string) []byte {
	g.t.Helper()
	out, err := g.try(args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

func (g *gnupg) try(args ...string) ([]byte, error) {
	g.t.Helper()
	args = append([]string{"--batch", "--no-tty", "--pinentry-mode", "loopback"}, args...)
	return peertest.Try(g.t, "", []string{"GNUPGHOME=" + g.home}, "gpg", args...)
}

// gpg imports our public keys and accepts our signatures.
func TestGPGVerifies(t *testing.T) {
	g := newGnuPG(t)
	ring := openKeys(t, KeyFile{Path: generateKey(t, "Test Repository <repo@example.org>")})
	armored, err := Armor(publicKeys(t, ring))
	if err != nil {
		t.Fatal(err)
	}
	g.run("--import", write(t, "key.asc", armored))
	key := ring.Keys()[0]
	listing := string(g.run("--with-colons", "--list-keys"))
	for _, want := range []string{key.Fingerprint, key.ID, "Test Repository <repo@example.org>", "ed25519"} {
		if !strings.Contains(listing, want) {
			t.Errorf("gpg does not show %q:\n%s", want, listing)
		}
	}
	if strings.Contains(listing, "\nsub:") {
		t.Errorf("the key has a subkey:\n%s", listing)
	}
	for _, data := range [][]byte{nil, []byte("data\n"), bytes.Repeat([]byte("\x00\xff\r\n"), 100_000)} {
		signatures, err := ring.Sign(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		signature := write(t, "data.sig", signatures[0])
		out := string(g.run("--status-fd", "1", "--verify", signature, write(t, "data", data)))
		// VALIDSIG fingerprint date … version type algorithm hash class:
		// EdDSA is 22, SHA-512 is 10, a binary signature 00.
		if !strings.Contains(out, "VALIDSIG "+key.Fingerprint) || !strings.Contains(out, " 4 0 22 10 00 ") {
			t.Errorf("gpg says:\n%s", out)
		}
		if out, err := g.try("--verify", signature, write(t, "data", append(data, 'x'))); err == nil {
			t.Errorf("gpg accepts other data:\n%s", out)
		}
	}
	// gpg also takes the secret key, so that an administrator can move it.
	g.run("--import", generateKey(t, "Another"))
}

// Keys that gpg made and exported sign for us, and gpg accepts it.
func TestGPGKeys(t *testing.T) {
	const passphrase = "correct horse"
	for _, test := range []struct {
		name, algorithm, usage, passphrase string
		subkey                             bool
		want                               string
	}{
		{name: "ed25519", algorithm: "ed25519", usage: "sign", want: "ed25519"},
		{name: "ed25519 with passphrase", algorithm: "ed25519", usage: "sign", passphrase: passphrase, want: "ed25519"},
		{name: "rsa with passphrase", algorithm: "rsa3072", usage: "sign", passphrase: passphrase, want: "rsa3072"},
		{name: "rsa signing subkey without the primary", algorithm: "rsa2048", usage: "cert", subkey: true, want: "rsa2048"},
		{name: "default key", algorithm: "default", usage: "default", want: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGnuPG(t)
			g.run("--passphrase", test.passphrase, "--quick-generate-key", "GPG Made <gpg@example.org>", test.algorithm, test.usage, "never")
			export := []string{"--passphrase", test.passphrase}
			if test.subkey {
				fields := strings.Split(string(g.run("--with-colons", "--list-keys")), "\nfpr:")
				fingerprint := strings.Trim(strings.SplitN(fields[1], "\n", 2)[0], ":")
				g.run("--passphrase", test.passphrase, "--quick-add-key", fingerprint, test.algorithm, "sign", "never")
				export = append(export, "--export-secret-subkeys")
			} else {
				export = append(export, "--export-secret-keys")
			}
			file := KeyFile{}
			if test.passphrase != "" {
				file.Passphrase = write(t, "passphrase", []byte(test.passphrase+"\n"))
			}
			for name, secret := range map[string][]byte{"binary": g.run(export...), "armored": g.run(append([]string{"--armor"}, export...)...)} {
				file.Path = write(t, name, secret)
				ring := openKeys(t, file)
				if key := ring.Keys()[0]; test.want != "" && key.Algorithm != test.want || key.UserID != "GPG Made <gpg@example.org>" {
					t.Errorf("%s: %+v", name, key)
				}
				signatures, err := ring.Sign(t.Context(), []byte("data"))
				if err != nil {
					t.Fatal(err)
				}
				g.run("--verify", write(t, "sig", signatures[0]), write(t, "data", []byte("data")))

				// And a gpg that has only what we export.
				other := newGnuPG(t)
				other.run("--import", write(t, "public", publicKeys(t, ring)))
				other.run("--verify", write(t, "sig", signatures[0]), write(t, "data", []byte("data")))
			}
			if test.passphrase == "" {
				return
			}
			for name, passphrase := range map[string]string{
				"without": "",
				"wrong":   write(t, "wrong", []byte("wrong")),
				"empty":   write(t, "empty", nil),
			} {
				_, err := Open(KeyFile{Path: file.Path, Passphrase: passphrase})
				if e, ok := errors.AsType[*KeyError](err); !ok || !strings.Contains(e.Error(), "passphrase") {
					t.Errorf("%s passphrase: %v", name, err)
				}
			}
		})
	}
}

// What gpg signs, Verify accepts.
func TestVerifyGPGSignatures(t *testing.T) {
	g := newGnuPG(t)
	g.run("--passphrase", "", "--quick-generate-key", "GPG Made <gpg@example.org>", "ed25519", "sign", "never")
	data := write(t, "data", []byte("data"))
	signature := g.run("--detach-sign", "--output", "-", data)
	verifier, err := NewVerifier(g.run("--export"))
	if err != nil {
		t.Fatal(err)
	}
	if key, err := verifier.Verify([]byte("data"), signature); err != nil || key.UserID != "GPG Made <gpg@example.org>" {
		t.Errorf("%v, %v", key, err)
	}
}

// Several keys in one file, also in several armored blocks, all sign; and a key
// that has expired says so.
func TestSeveralAndExpired(t *testing.T) {
	one, err := os.ReadFile(generateKey(t, "One"))
	if err != nil {
		t.Fatal(err)
	}
	two, err := os.ReadFile(generateKey(t, "Two"))
	if err != nil {
		t.Fatal(err)
	}
	ring := openKeys(t, KeyFile{Path: write(t, "both.asc", append(one, two...))})
	if keys := ring.Keys(); len(keys) != 2 || keys[0].UserID != "One" || keys[1].UserID != "Two" {
		t.Errorf("%v", keys)
	}

	g := newGnuPG(t)
	g.run("--passphrase", "", "--faked-system-time", "20260101T000000!", "--quick-generate-key", "Short <s@example.org>", "ed25519", "sign", "1d")
	secret := g.run("--export-secret-keys")
	_, err = Open(KeyFile{Path: write(t, "expired", secret)})
	if e, ok := errors.AsType[*KeyError](err); !ok || !strings.Contains(e.Error(), "expired") {
		t.Errorf("expired key: %v", err)
	}
}

func FuzzReadKeys(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key")
	if _, err := Generate(path, "Seed"); err != nil {
		f.Fatal(err)
	}
	armored, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(armored)
	ring := openKeys(f, KeyFile{Path: path})
	f.Add(publicKeys(f, ring))
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	signatures, err := ring.Sign(f.Context(), []byte("data"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signatures[0])
	verifier, err := NewVerifier(publicKeys(f, ring))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if keys, err := readKeys(data); err == nil && len(keys) == 0 {
			t.Error("no keys and no error")
		}
		if _, err := verifier.Verify([]byte("other"), data); err == nil {
			t.Error("accepted a signature of something else")
		}
	})
}

// BenchmarkAll signs batches of 1000 commits of 300 bytes.
func BenchmarkAll(b *testing.B) {
	benchmarkAll(b, openKeys(b, KeyFile{Path: generateKey(b, "Benchmark")}), 1000)
}

func benchmarkAll(b *testing.B, signer Signer, n int) {
	message := bytes.Repeat([]byte("x"), 300)
	messages := make([][]byte, n)
	for i := range messages {
		messages[i] = message
	}
	for b.Loop() {
		if _, err := All(b.Context(), signer, messages); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*len(messages))/b.Elapsed().Seconds(), "signatures/s")
}

// BenchmarkLarge signs a summary of 10 MB.
func BenchmarkLarge(b *testing.B) {
	data := make([]byte, 10_000_000)
	ring := openKeys(b, KeyFile{Path: generateKey(b, "Benchmark")})
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := ring.Sign(b.Context(), data); err != nil {
			b.Fatal(err)
		}
	}
}
