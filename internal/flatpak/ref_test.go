package flatpak

import (
	"errors"
	"strings"
	"testing"
)

func TestParseRef(t *testing.T) {
	good := map[string]Ref{
		"app/org.example.App/x86_64/stable":         {App, "org.example.App", "x86_64", "stable"},
		"runtime/org.example.Sdk.Debug/arm/1.0-b_2": {Runtime, "org.example.Sdk.Debug", "arm", "1.0-b_2"},
		"app/org._7zip.App-Dev/i386/-x":             {App, "org._7zip.App-Dev", "i386", "-x"},
	}
	for text, want := range good {
		got, err := ParseRef(text)
		if err != nil || got != want {
			t.Errorf("ParseRef(%q) = %+v, %v", text, got, err)
		}
		if got.String() != text {
			t.Errorf("%q prints as %q", text, got)
		}
	}
	bad := []string{
		"", "app", "app/org.example.App", "app/org.example.App/x86_64", "app/org.example.App/x86_64/stable/more",
		"app/org.example/x86_64/stable", "app/.org.example.App/x86_64/stable", "app/org..App/x86_64/stable",
		"app/org.example./x86_64/stable", "app/org.1example.App/x86_64/stable", "app/org-x.example.App/x86_64/stable",
		"app/org.example.Äpp/x86_64/stable", "app/" + strings.Repeat("a", 250) + ".b.cde/x86_64/stable",
		"app/org.example.App//stable", "app/org.example.App/x86-64/stable", "app/org.example.App/x86_64/",
		"app/org.example.App/x86_64/.stable", "app/org.example.App/x86_64/a b", "screenshots/x86_64",
		"appstream2/x86_64", "app/../../x/x86_64/stable", "remote:app/org.example.App/x86_64/stable",
		"app/org.example.App/x86_64/stable\n", "app/org.example.App/x86_64/" + strings.Repeat("b", 70000),
	}
	for _, text := range bad {
		if got, err := ParseRef(text); !errors.Is(err, ErrRef) {
			t.Errorf("ParseRef(%.60q) = %+v, %v", text, got, err)
		}
	}
}

func TestParseUploadRef(t *testing.T) {
	r, err := ParseUploadRef("screenshots/aarch64")
	if err != nil || r != (Ref{Kind: Screenshots, Arch: "aarch64"}) || r.String() != "screenshots/aarch64" {
		t.Errorf("screenshots/aarch64 = %+v, %v", r, err)
	}
	if r, err := ParseUploadRef("runtime/a.b.c/x86_64/1"); err != nil || r.Kind != Runtime {
		t.Errorf("runtime = %+v, %v", r, err)
	}
	for _, text := range []string{"screenshots/", "screenshots/x86_64/more", "screenshots", "appstream/x86_64", "ostree-metadata"} {
		if _, err := ParseUploadRef(text); !errors.Is(err, ErrRef) {
			t.Errorf("ParseUploadRef(%q): %v", text, err)
		}
	}
}

func TestRefArch(t *testing.T) {
	for ref, want := range map[string]string{
		"app/org.example.App/x86_64/stable": "x86_64",
		"appstream/aarch64":                 "aarch64",
		"appstream2/floss-x86_64":           "x86_64",
		"appstream2/two-words-x86_64":       "x86_64",
		"screenshots/x86_64":                "",
		"ostree-metadata":                   "",
	} {
		if got := refArch(ref); got != want {
			t.Errorf("refArch(%q) = %q, want %q", ref, got, want)
		}
	}
	if s, ok := appstreamSubset("appstream2/two-words-x86_64"); !ok || s != "two-words" {
		t.Errorf("subset %q %v", s, ok)
	}
	if _, ok := appstreamSubset("appstream2/x86_64"); ok {
		t.Error("appstream2/x86_64 has a subset")
	}
}

func TestHasIDPrefix(t *testing.T) {
	for id, want := range map[string]bool{
		"org.example.App": true, "org.example.App.Locale": true, "org.example.App-Dev": true,
		"org.example.Apple": false, "org.example.App_2": false, "org.example": false,
	} {
		if hasIDPrefix(id, "org.example.App") != want {
			t.Errorf("%s: %v", id, !want)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	f.Add("app/org.example.App/x86_64/stable")
	f.Add("screenshots/x86_64")
	f.Add("runtime/a.b.c-d/_/0.")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseUploadRef(text)
		if err == nil && r.String() != text {
			t.Errorf("%q prints as %q", text, r)
		}
		if subset, ok := appstreamSubset(text); ok && Appstream2Ref(subset, refArch(text)) != text && subset != "" {
			t.Errorf("%q is not %q", text, Appstream2Ref(subset, refArch(text)))
		}
	})
}
