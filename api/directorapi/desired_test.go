package directorapi_test

import (
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"freshet/api/directorapi"
)

// A claim survives being copied as a word, and not being mistyped.
func TestClaim(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	claim := directorapi.Claim{URL: "https://director.example:9600", Mirror: "box7", Secret: "fk_ABC", Key: directorapi.FormatKey(public)}
	word := claim.String()
	if strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
		t.Errorf("%s is not one word", word)
	}
	if got, err := directorapi.ParseClaim(" " + word + "\n"); err != nil || got != claim {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range word {
		other := byte('A')
		if word[i] == other {
			other = 'B'
		}
		for _, wrong := range []string{word[:i] + string(other) + word[i+1:], word[:i], word[:i] + word[i+1:]} {
			if got, err := directorapi.ParseClaim(wrong); err == nil {
				t.Fatalf("%s is taken for %+v", wrong, got)
			} else if strings.Contains(err.Error(), "fk_ABC") {
				t.Fatal("an error tells the secret")
			}
		}
	}
	for _, bad := range []directorapi.Claim{{}, {URL: claim.URL, Mirror: "a\n[mirror.control.clients.evil]\ntoken = \"sha256:00\"", Secret: "b", Key: claim.Key}, {URL: "ftp://x", Mirror: "a", Secret: "b", Key: claim.Key}, {URL: claim.URL, Mirror: "a", Secret: "b", Key: "ed25519:AA=="}} {
		if got, err := directorapi.ParseClaim(bad.String()); err == nil {
			t.Errorf("%+v", got)
		}
	}
}

func FuzzParseClaim(f *testing.F) {
	f.Add(directorapi.Claim{URL: "https://x", Mirror: "a", Secret: "b"}.String())
	f.Add("fc1_")
	f.Fuzz(func(t *testing.T, word string) {
		c, err := directorapi.ParseClaim(word)
		if err != nil {
			return
		}
		if again, err := directorapi.ParseClaim(c.String()); err != nil || again != c {
			t.Errorf("%+v: %+v, %v", c, again, err)
		}
	})
}

// What is desired is taken from the one key, for the one mirror, as it was signed.
func TestSignedDesired(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	otherPublic, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	d := directorapi.Desired{Mirror: "box7", Version: 3, Settings: "[mirror.limits]\n"}
	signed, err := d.Sign(private)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := signed.Open(public, "box7"); err != nil || got.Settings != d.Settings || got.Version != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := signed.Open(otherPublic, "box7"); !errors.Is(err, directorapi.ErrDesiredSignature) {
		t.Error(err)
	}
	if _, err := signed.Open(nil, "box7"); !errors.Is(err, directorapi.ErrDesiredSignature) {
		t.Error(err)
	}
	if _, err := signed.Open(public, "box8"); !errors.Is(err, directorapi.ErrDesiredMirror) {
		t.Error(err)
	}
	changed := signed
	changed.Text = strings.Replace(signed.Text, `"version":3`, `"version":4`, 1)
	if _, err := changed.Open(public, "box7"); !errors.Is(err, directorapi.ErrDesiredSignature) {
		t.Error(err)
	}
}
