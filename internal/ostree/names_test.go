package ostree_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"freshet/internal/ostree"
)

const (
	hexA = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	hexB = "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe"
	b64A = "ABEiM0RVZneImaq7zN3u_wARIjNEVWZ3iJmqu8zd7v8"
	b64B = "__________________________________________4"
)

func checksum(tb testing.TB, hex string) ostree.Checksum {
	tb.Helper()
	c, err := ostree.ParseChecksum(hex)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestChecksum(t *testing.T) {
	a, b := checksum(t, hexA), checksum(t, hexB)
	if a.String() != hexA || a.Base64() != b64A || b.Base64() != b64B {
		t.Errorf("%s %s %s", a, a.Base64(), b.Base64())
	}
	if got, err := ostree.ParseChecksumBase64(b64B); err != nil || got != b {
		t.Errorf("%s, %v", got, err)
	}
	if a.Compare(b) >= 0 || a.IsZero() || !(ostree.Checksum{}).IsZero() {
		t.Error("order or zero")
	}
	for _, s := range []string{"", hexA[1:], hexA + "0", strings.ToUpper(hexA), "g" + hexA[1:], strings.Repeat("é", 32)} {
		if _, err := ostree.ParseChecksum(s); !errors.Is(err, ostree.ErrName) {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", b64A[1:], b64A + "A", b64A[:42] + "9", b64A[:42] + "/", b64A[:42] + "\n"} {
		if _, err := ostree.ParseChecksumBase64(s); !errors.Is(err, ostree.ErrName) {
			t.Errorf("%q: %v", s, err)
		}
	}
	type message struct{ From, To ostree.Checksum }
	text, err := json.Marshal(message{To: a})
	if err != nil || string(text) != `{"From":"","To":"`+hexA+`"}` {
		t.Errorf("%s, %v", text, err)
	}
	var m message
	if err := json.Unmarshal(text, &m); err != nil || m.To != a || !m.From.IsZero() {
		t.Errorf("%v, %v", m, err)
	}
}

func TestUploadNames(t *testing.T) {
	for name, want := range map[string]string{
		hexA + ".commit":                                  "objects/00/" + hexA[2:] + ".commit",
		hexA + ".dirtree":                                 "objects/00/" + hexA[2:] + ".dirtree",
		hexA + ".dirmeta":                                 "objects/00/" + hexA[2:] + ".dirmeta",
		hexA + ".filez":                                   "objects/00/" + hexA[2:] + ".filez",
		b64A + ".superblock.delta":                        "deltas/AB/" + b64A[2:] + "/superblock",
		b64A + ".0.delta":                                 "deltas/AB/" + b64A[2:] + "/0",
		b64B + "-" + b64A + ".12.delta":                   "deltas/__/" + b64B[2:] + "-" + b64A + "/12",
		b64A + "-" + b64B + ".65535.delta":                "deltas/AB/" + b64A[2:] + "-" + b64B + "/65535",
		b64A + "-" + b64B + "..delta":                     "",
		b64A + ".00.delta":                                "",
		b64A + ".-1.delta":                                "",
		b64A + ".65536.delta":                             "",
		b64A + ".x.delta":                                 "",
		b64A + ".delta":                                   "",
		b64A + "_" + b64B + ".0.delta":                    "",
		b64A + "-" + b64B[1:] + ".0.delta":                "",
		strings.Repeat("A", 43) + "-" + b64A + ".0.delta": "", // from nothing, said twice
		hexA + ".commitmeta":                              "",
		hexA + ".commit-tombstone":                        "",
		hexA + ".file":                                    "",
		hexA + ".":                                        "",
		hexA:                                              "",
		"a":                                               "",
		"":                                                "",
		"../" + hexA[3:] + ".commit":                      "",
		strings.ToUpper(hexA) + ".commit":                 "",
		hexA + ".commit/../../../etc/passwd":              "",
		hexA[:2] + "/" + hexA[3:] + ".dirtree":            "",
	} {
		got, err := ostree.ParseUploadName(name)
		switch {
		case want == "" && !errors.Is(err, ostree.ErrName):
			t.Errorf("%q is accepted as %s, %v", name, got.Path(), err)
		case want != "" && (err != nil || got.Path() != want):
			t.Errorf("%q gives %s, %v", name, got.Path(), err)
		}
	}
}

func TestPaths(t *testing.T) {
	a, b := checksum(t, hexA), checksum(t, hexB)
	d := ostree.DeltaName{From: a, To: b}
	if d.Hex() != hexA+"-"+hexB || d.FromScratch() {
		t.Error(d.Hex())
	}
	for _, name := range []ostree.DeltaName{d, {To: a}} {
		if got, err := ostree.ParseDeltaHex(name.Hex()); err != nil || got != name {
			t.Errorf("%s: %v, %v", name.Hex(), got, err)
		}
		if got, err := ostree.ParseDeltaName(name.String()); err != nil || got != name {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if d.Compare(ostree.DeltaName{To: b}) <= 0 || d.Compare(ostree.DeltaName{To: a}) <= 0 || d.Compare(d) != 0 {
		t.Error("order of delta names")
	}
	if p := ostree.DeltaIndexPath(a); p != "delta-indexes/AB/"+b64A[2:]+".index" {
		t.Error(p)
	}
	for _, p := range []string{"", "objects", "objects/", "objects/00/", "objects/00" + hexA[2:] + ".commit", "objects/0/0" + hexA[2:] + ".commit"} {
		if _, err := ostree.ParseObjectPath(p); !errors.Is(err, ostree.ErrName) {
			t.Errorf("object %q: %v", p, err)
		}
	}
	for _, p := range []string{"", "deltas", "deltas/AB/" + b64A[2:], "deltas/AB/" + b64A[2:] + "/0/1", "deltas/A/B" + b64A[2:] + "/0", "x/AB/" + b64A[2:] + "/0"} {
		if _, err := ostree.ParseDeltaPath(p); !errors.Is(err, ostree.ErrName) {
			t.Errorf("delta %q: %v", p, err)
		}
	}
	for _, p := range []string{"", "delta-indexes/", "delta-indexes/AB/.index", "delta-indexes/A/B" + b64A[2:] + ".index", "delta-indexes/AB/" + b64A[2:]} {
		if _, err := ostree.ParseDeltaIndexPath(p); !errors.Is(err, ostree.ErrName) {
			t.Errorf("delta index %q: %v", p, err)
		}
	}
}

func TestRefs(t *testing.T) {
	for _, ref := range []string{"app/org.example.App/x86_64/stable", "master", "a-b/c_d/1.2-x", "-x"} {
		if err := ostree.ValidateRef(ref); err != nil {
			t.Error(err)
		}
	}
	for _, ref := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/./b", ".hidden", "a b", "a\\b", "a:b", "ä", "a\x00b", "a\n",
		strings.Repeat("x", 256), strings.Repeat("x/", 600) + "x",
	} {
		if err := ostree.ValidateRef(ref); !errors.Is(err, ostree.ErrName) {
			t.Errorf("%.20q: %v", ref, err)
		}
	}
	for _, id := range []string{"org.example", "org.example.Repo_1", "_a.b"} {
		if err := ostree.ValidateCollectionID(id); err != nil {
			t.Error(err)
		}
	}
	for _, id := range []string{"", "org", "org.", ".org", "org..a", "org.1a", "org.a-b", "org/a", "../..", "a." + strings.Repeat("x", 256)} {
		if err := ostree.ValidateCollectionID(id); !errors.Is(err, ostree.ErrName) {
			t.Errorf("%.20q: %v", id, err)
		}
	}
	c := checksum(t, hexA)
	for _, text := range []string{hexA, hexA + "\n", hexA + " \r\n"} {
		if got, err := ostree.ParseRefFile([]byte(text)); err != nil || got != c {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"", "\n", hexA + "\n" + hexA, "ref: main\n"} {
		if _, err := ostree.ParseRefFile([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
