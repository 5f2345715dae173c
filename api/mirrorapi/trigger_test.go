package mirrorapi_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"freshet/api/mirrorapi"
)

// A trigger is what its signer wrote, and nothing that was changed on the way.
func TestTrigger(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := mirrorapi.ParseTriggerKey(mirrorapi.TriggerKey{Name: "master", Public: public}.String())
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)
	signed, err := mirrorapi.Trigger{Project: "epel", Key: "somebody", Sent: sent}.Sign(private)
	if err != nil {
		t.Fatal(err)
	}
	got, err := signed.Open([]mirrorapi.TriggerKey{key})
	if err != nil || got.Project != "epel" || !got.Sent.Equal(sent) || got.Key != "master" {
		t.Errorf("%+v, %v", got, err)
	}
	changed := signed
	changed.Text += " "
	cut := signed
	cut.Signature = cut.Signature[:10]
	bare := mirrorapi.SignedTrigger{Text: signed.Text, Signature: ed25519.Sign(private, []byte(signed.Text))}
	for name, s := range map[string]mirrorapi.SignedTrigger{"changed": changed, "cut": cut, "signed for something else": bare, "empty": {}} {
		if got, err := s.Open([]mirrorapi.TriggerKey{key}); !errors.Is(err, mirrorapi.ErrTriggerSignature) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := signed.Open(nil); !errors.Is(err, mirrorapi.ErrTriggerSignature) {
		t.Errorf("without keys: %v", err)
	}
	for _, text := range []string{"", "master", "ed25519:AAAA", "master ed25519:AAAA", "a b ed25519:" + key.String()[len("master ed25519:"):], "-x " + key.String()[len("master "):]} {
		if got, err := mirrorapi.ParseTriggerKey(text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func TestReadTriggerKeyRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	for _, text := range []string{"", "key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := mirrorapi.ReadTriggerKey(file); err == nil {
			t.Errorf("%q is read", text)
		}
	}
	if _, err := mirrorapi.ReadTriggerKey(file + ".absent"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// FuzzOpen shows that nothing that a stranger sends is more than refused.
func FuzzOpen(f *testing.F) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	good, err := mirrorapi.Trigger{Project: "epel"}.Sign(private)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Text, good.Signature)
	f.Add("{}", []byte{})
	keys := []mirrorapi.TriggerKey{{Name: "master", Public: public}}
	f.Fuzz(func(t *testing.T, text string, signature []byte) {
		got, err := mirrorapi.SignedTrigger{Text: text, Signature: signature}.Open(keys)
		if err == nil && text != good.Text {
			t.Errorf("%q is taken for %+v", text, got)
		}
	})
}
