package token

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	const text = "pkcs11:token=My%20Token;object=stable;id=%01%FF;slot-id=7;type=private?module-path=/usr/lib/p11.so"
	want := &URI{Module: "/usr/lib/p11.so", Token: "My Token", Object: "stable", ID: []byte{1, 0xff}, Slot: new(uint(7))}
	if got, err := ParseURI(text); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for bad, reason := range map[string]string{
		"":                                     "want",
		"pkcs11:object=a":                      "module-path is missing",
		"pkcs11:object=a?module-path=p11.so":   "not absolute",
		"pkcs11:token=a?module-path=/p11.so":   "names the key",
		"pkcs11:object=a;object=b?module-path": "two attributes object",
		"pkcs11:object=a?module-path=/p11.so&pin-value=1234":     "passphrase-file",
		"pkcs11:object=a?module-path=/p11.so&pin-source=/p":      "passphrase-file",
		"pkcs11:object=a;x-vendor=1?module-path=/p11.so":         "not known",
		"pkcs11:object=a;type=public?module-path=/p11.so":        "private key is needed",
		"pkcs11:object=a;slot-id=x?module-path=/p11.so":          "no number",
		"pkcs11:object=%zz?module-path=/p11.so":                  "no attribute",
		"pkcs11:object=a?module-path=/p11.so&library-version=%3": "no attribute",
	} {
		if got, err := ParseURI(bad); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%q: %+v, %v, want %q", bad, got, err, reason)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	f.Add("pkcs11:token=My%20Token;object=stable;id=%01%FF;slot-id=7?module-path=/usr/lib/p11.so")
	f.Add("pkcs11:?module-path=/&module-path=/")
	f.Fuzz(func(t *testing.T, text string) {
		uri, err := ParseURI(text)
		if err != nil {
			return
		}
		again, err := ParseURI(uri.String())
		if err != nil || !reflect.DeepEqual(uri, again) {
			t.Errorf("%q becomes %q: %+v, %v", text, uri, again, err)
		}
	})
}
