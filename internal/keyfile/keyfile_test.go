package keyfile_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"freshet/internal/keyfile"
	"freshet/internal/peertest"
)

const metadata = `# written by hand
[Application]
name=org.example.App
runtime=org.example.Platform/x86_64/stable
tags=one;two\;halves;

[Context]
shared=network;ipc;
empty=
 padded =  value with space 

# about the extension
[Extension org.example.App.Locale]
directory=share/runtime/locale
autodelete=true
Name[de]=Name\nzweite Zeile\s
count=7
`

func parse(t *testing.T, text string) *keyfile.File {
	t.Helper()
	f, err := keyfile.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestRead(t *testing.T) {
	f := parse(t, metadata)
	if diff := cmp.Diff([]string{"Application", "Context", "Extension org.example.App.Locale"}, f.Groups()); diff != "" {
		t.Error("groups:", diff)
	}
	if diff := cmp.Diff([]string{"shared", "empty", "padded"}, f.Keys("Context")); diff != "" {
		t.Error("keys:", diff)
	}
	if diff := cmp.Diff([]string{"one", "two;halves"}, f.List("Application", "tags")); diff != "" {
		t.Error("list:", diff)
	}
	locale := "Extension org.example.App.Locale"
	for _, tt := range []struct{ group, key, want string }{
		{"Application", "name", "org.example.App"},
		{"Context", "empty", ""},
		{"Context", "padded", "value with space "},
		{locale, "Name[de]", "Name\nzweite Zeile "},
	} {
		if got, ok := f.Get(tt.group, tt.key); !ok || got != tt.want {
			t.Errorf("[%s] %s = %q, %v, want %q", tt.group, tt.key, got, ok, tt.want)
		}
	}
	if _, ok := f.Get("Application", "Name"); ok {
		t.Error("a key is found in spite of its case")
	}
	if b, err := f.Bool(locale, "autodelete", false); !b || err != nil {
		t.Errorf("autodelete = %v, %v", b, err)
	}
	if b, err := f.Bool(locale, "absent", true); !b || err != nil {
		t.Errorf("absent = %v, %v", b, err)
	}
	if _, err := f.Bool(locale, "count", true); err == nil {
		t.Error("7 is taken for a truth value")
	}
	if n, err := f.Int(locale, "count", 0); n != 7 || err != nil {
		t.Errorf("count = %v, %v", n, err)
	}
}

func TestChangeTouchesOneLine(t *testing.T) {
	f := parse(t, metadata)
	before := f.Clone()
	set := func(group, key, value string) {
		t.Helper()
		if err := f.Set(group, key, value); err != nil {
			t.Fatal(err)
		}
	}
	set("Application", "name", "org.example.Other")
	set("Application", "command", " run\\it\n")
	set("New", "key", "value")
	f.Delete("Application", "runtime")
	f.Delete("Application", "nothing")
	f.DeleteGroup("Context")
	want := `# written by hand
[Application]
name=org.example.Other
tags=one;two\;halves;
command=\srun\\it\n

[Extension org.example.App.Locale]
directory=share/runtime/locale
autodelete=true
Name[de]=Name\nzweite Zeile\s
count=7

[New]
key=value
`
	if diff := cmp.Diff(want, string(f.Bytes())); diff != "" {
		t.Error(diff)
	}
	if got, _ := f.Get("Application", "command"); got != " run\\it\n" {
		t.Errorf("command = %q", got)
	}
	wantBefore := bytes.Replace([]byte(metadata), []byte(" padded =  value"), []byte("padded=value"), 1)
	if diff := cmp.Diff(string(wantBefore), string(before.Bytes())); diff != "" {
		t.Error("the clone changed too:", diff)
	}
}

func TestRefusals(t *testing.T) {
	for _, text := range []string{
		"key=before any group\n", "[open\n", "[a]b\n", "[]\n", "[a]\nnovalue\n", "[a]\n=x\n",
		"[a]\nk[=x\n", "[a]\nk[]=x\n", "[a\x01]\n", "[a[b]\n",
	} {
		if _, err := keyfile.Parse([]byte(text)); !errors.Is(err, keyfile.ErrSyntax) {
			t.Errorf("%q: error = %v", text, err)
		}
	}
	var f keyfile.File
	if f.Set("a]", "k", "v") == nil || f.Set("a", "k=", "v") == nil || f.SetRaw("a", "k", "1\n2") == nil {
		t.Error("what cannot stand in a key file was set")
	}
	if len(f.Groups()) != 0 {
		t.Error("a refused change left a trace")
	}
}

func TestDuplicatesAreJoined(t *testing.T) {
	f := parse(t, "[a]\nk=1\n[b]\n[a]\nk=2\nl=3\r\n")
	if v, _ := f.Get("a", "k"); v != "2" {
		t.Errorf("k = %q, want the last one", v)
	}
	if got := string(f.Bytes()); got != "[a]\nk=2\nl=3\n\n[b]\n" {
		t.Errorf("written: %q", got)
	}
}

// TestGLibAgrees has the reference implementation read what we write.
func TestGLibAgrees(t *testing.T) {
	python := peertest.GLib(t)
	var f keyfile.File
	list := []string{"a;b", " c", "d\\e", "", "f\tg"}
	value := "  two blanks; a\\b\tand\nlines  "
	if err := errors.Join(f.SetList("g h", "list", list), f.Set("g h", "text", value), f.SetBool("i", "yes", true)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keyfile")
	if err := os.WriteFile(path, f.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out := peertest.Run(t, "", nil, python, "-c", `
import sys
from gi.repository import GLib
k = GLib.KeyFile(); k.load_from_file(sys.argv[1], GLib.KeyFileFlags.NONE)
list_, text = k.get_string_list("g h", "list"), k.get_string("g h", "text")
n = GLib.KeyFile(); n.set_string_list("g h", "list", list_); n.set_string("g h", "text", text); n.set_boolean("i", "yes", k.get_boolean("i", "yes"))
sys.stdout.write(n.to_data()[0])`, path)
	if diff := cmp.Diff(string(out), string(f.Bytes())); diff != "" {
		t.Error(diff)
	}
}

func TestSetGet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.StringOf(rapid.RuneFrom([]rune("ab;\\ \t\n\rsn=[]#é"))).Draw(t, "value")
		list := rapid.SliceOf(rapid.StringOf(rapid.RuneFrom([]rune("a;\\ \t\n")))).Draw(t, "list")
		var f keyfile.File
		if err := errors.Join(f.Set("g", "value", value), f.SetList("g", "list", list)); err != nil {
			t.Fatal(err)
		}
		r, err := keyfile.Parse(f.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := r.Get("g", "value"); got != value {
			t.Errorf("value %q became %q", value, got)
		}
		got := r.List("g", "list")
		if len(got) != len(list) {
			t.Fatalf("list %q became %q", list, got)
		}
		for i := range got {
			if got[i] != list[i] {
				t.Fatalf("list %q became %q", list, got)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(metadata))
	f.Add([]byte("[core]\nrepo_version=1\nmode=archive-z2\nindexed-deltas=true\n\n[remote \"a\"]\nurl=http://a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := keyfile.Parse(data)
		if err != nil {
			return
		}
		text := k.Bytes()
		again, err := keyfile.Parse(text)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%q", err, text)
		}
		if !bytes.Equal(again.Bytes(), text) {
			t.Fatalf("%q\nbecame\n%q", text, again.Bytes())
		}
	})
}
