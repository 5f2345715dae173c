package rsync

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func at(text string) time.Time {
	t, err := time.Parse(time.DateTime, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestParseEntry(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]Entry{
		"drwxr-xr-x        4096 2026/11/21 21:07:29 .": {
			Type: Folder, Perm: 0o755, Size: 4096, ModTime: at("2026-11-21 21:07:29"), Name: ".",
		},
		"-rw-r--r--     1234567 2026/11/21 21:07:29 sub/big": {
			Type: File, Perm: 0o644, Size: 1234567, ModTime: at("2026-11-21 21:07:29"), Name: "sub/big",
		},
		"-rw-r-----      1,234,567 2040/12/01 00:00:00  two spaces ": {
			Type: File, Perm: 0o640, Size: 1234567, ModTime: at("2040-12-01 00:00:00"), Name: " two spaces ",
		},
		"drwxrwsr-t+       4096 1969/12/01 00:00:00 x": {
			Type: Folder, Perm: 0o775, Size: 4096, ModTime: at("1969-12-01 00:00:00"), Name: "x",
		},
		`-rw-r--r--           1 2026/11/21 21:07:29 new\#012line`: {
			Type: File, Perm: 0o644, Size: 1, ModTime: at("2026-11-21 21:07:29"), Name: "new\nline",
		},
		`-rw-r--r--           1 2026/11/21 21:07:29 lit\#134#012x\#99\#`: {
			Type: File, Perm: 0o644, Size: 1, ModTime: at("2026-11-21 21:07:29"), Name: `lit\#012x\#99\#`,
		},
		`-rw-r--r--           1 2026/11/21 21:07:29 \#303\#274`: {
			Type: File, Perm: 0o644, Size: 1, ModTime: at("2026-11-21 21:07:29"), Name: "ü",
		},
		"lrwxrwxrwx           7 2026/11/21 21:07:29 lnk -> a b.txt": {
			Type: Link, Perm: 0o777, Size: 7, ModTime: at("2026-11-21 21:07:29"), Name: "lnk", Target: "a b.txt",
		},
		"lrwxrwxrwx           1 2026/11/21 21:07:29 c -> d -> x": {
			Type: Link, Perm: 0o777, Size: 1, ModTime: at("2026-11-21 21:07:29"), Name: "c -> d", Target: "x",
		},
		"lrwxrwxrwx           6 2026/11/21 21:07:29 c -> d -> x": {
			Type: Link, Perm: 0o777, Size: 6, ModTime: at("2026-11-21 21:07:29"), Name: "c", Target: "d -> x",
		},
		"lrwxrwxrwx           5 2026/11/21 21:07:29 without its target": {
			Type: Link, Perm: 0o777, Size: 5, ModTime: at("2026-11-21 21:07:29"), Name: "without its target",
		},
		"prw-r--r--           0 2026/11/21 21:07:29 fifo": {
			Type: Other, Perm: 0o644, ModTime: at("2026-11-21 21:07:29"), Name: "fifo",
		},
	} {
		got, err := parseEntry([]byte(line))
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", line, diff)
		}
	}
}

func TestParseEntryRefuses(t *testing.T) {
	t.Parallel()
	for _, line := range []string{
		"", "-", "Welcome to our mirror!", "-rw-r--r--", "-rw-r--r-- ", "-rw-r--r--  12",
		"-rw-r--r--           x 2026/11/21 21:07:29 a",
		"-rw-r--r--          -1 2026/11/21 21:07:29 a",
		"-rw-r--r--           , 2026/11/21 21:07:29 a",
		"-rw-r--r-- 99999999999999999999 2026/11/21 21:07:29 a",
		"-rw-r--r--           1 2026-11-21 21:07:29 a",
		"-rw-r--r--           1 2026/13/21 21:07:29 a",
		"-rw-r--r--           1 2026/11/21 21:07:29",
		"-rw-r--r--           1 2026/11/21 21:07:29 ",
		"-rw-r--r--           1 2026/11/21 21:07:29a",
		"xrw-r--r--           1 2026/11/21 21:07:29 a",
		"-rq-r--r--           1 2026/11/21 21:07:29 a",
	} {
		if e, err := parseEntry([]byte(line)); err == nil {
			t.Errorf("%q: got %+v, want an error", line, e)
		}
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		typ  Type
		perm uint16
		want bool
	}{{File, 0o644, true}, {File, 0o640, false}, {Folder, 0o755, true}, {Folder, 0o754, false}, {Folder, 0o751, false}, {Folder, 0o700, false}} {
		if e := (Entry{Type: tt.typ, Perm: tt.perm}); e.Public() != tt.want {
			t.Errorf("%c %o: %v, want %v", tt.typ, tt.perm, e.Public(), tt.want)
		}
	}
}

func TestReadEntriesIsBounded(t *testing.T) {
	t.Parallel()
	const line = "-rw-r--r--           1 2026/11/21 21:07:29 a\n"
	for name, tt := range map[string]struct {
		text string
		want error
		n    int
	}{
		"all":         {text: strings.Repeat(line, 3), n: 3},
		"remarks":     {text: line + "\nskipping non-regular file \"x\"\n" + line, n: 2},
		"too many":    {text: strings.Repeat(line, 6), n: 5, want: ErrTooMany},
		"a long line": {text: line + strings.Repeat("x", 2*maxLine), n: 1, want: errLongLine},
		"cut":         {text: line + line[:20], n: 1, want: errCut},
		"no listing":  {text: line + "Welcome\n", n: 1, want: errNoEntry},
	} {
		n, err := readEntries(strings.NewReader(tt.text), 5, func(Entry, error) bool { return true })
		if n != tt.n || !errors.Is(err, tt.want) {
			t.Errorf("%s: %d entries, %v, want %d, %v", name, n, err, tt.n, tt.want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Version{
		"rsync  version 3.5.0  protocol version 32\nCopyright": {3, 5, 0},
		"rsync  version v3.4.3  protocol version 32":           {3, 4, 3},
		"rsync  version 3.4.0pre1  protocol version 32":        {3, 4, 0},
		"openrsync: protocol version 29":                       {},
		"":                                                     {},
	} {
		got, err := parseVersion(text)
		if got != want || (err != nil) != (want == Version{}) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	if v := (Version{3, 4, 3}); v.Before(Floor()) || !(Version{3, 2, 7}).Before(v) || (Version{4, 0, 0}).Before(v) {
		t.Error("versions are not compared number by number")
	}
}

func TestCheckURL(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"rsync://mirror.example/debian/":      true,
		"rsync://mirror.example:8873/a/b c/":  true,
		"rsync://[2001:db8::1]/fedora/":       true,
		"rsync://mirror.example/":             false,
		"rsync:///debian/":                    false,
		"rsync://user:secret@mirror.example/": false,
		"rsync://mirror.example/a?x":          false,
		"mirror.example::debian":              false,
		"--rsh=touch /tmp/x":                  false,
		"/etc/":                               false,
		"https://mirror.example/debian/":      false,
		"rsync://mirror.example/a\nb/":        false,
		"":                                    false,
	} {
		if err := CheckURL(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzParseEntry: no line breaks it, what it makes of a name can be written again, and
// the line is left as it was.
func FuzzParseEntry(f *testing.F) {
	for _, seed := range []string{
		"drwxr-xr-x        4096 2026/11/21 21:07:29 .",
		`-rw-r--r--   1,234,567 2026/11/21 21:07:29 a\#012b\#134#012`,
		"lrwxrwxrwx           1 2026/11/21 21:07:29 c -> d -> x",
		"lrwxrwxrwx 9007199254740991 2026/02/31 23:59:60  -> ",
		"-rw-r--r--+ 1 0000/01/01 00:00:00 a",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		before := bytes.Clone(line)
		e, err := parseEntry(line)
		if !bytes.Equal(before, line) {
			t.Fatal("the line was changed")
		}
		if err != nil {
			return
		}
		if e.Name == "" || e.Size < 0 || len(e.Name)+len(e.Target) > len(line) {
			t.Fatalf("%q: %+v", line, e)
		}
		if again := unescape([]byte(escape(e.Name))); again != e.Name {
			t.Fatalf("%q becomes %q", e.Name, again)
		}
	})
}

// escape writes a name as rsync does in the C locale.
func escape(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		isEscape := c == '\\' && i+4 < len(name) && name[i+1] == '#' && strings.Trim(name[i+2:i+5], "0123456789") == ""
		if c < ' ' || c > '~' || isEscape {
			b.WriteString(`\#`)
			b.WriteByte('0' + c>>6)
			b.WriteByte('0' + c>>3&7)
			b.WriteByte('0' + c&7)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

func BenchmarkParseEntry(b *testing.B) {
	line := []byte("-rw-r--r--     1234567 2026/11/21 21:07:29 pool/main/libr/libreoffice/libreoffice-core_7.4.7-1+deb12u8_amd64.deb")
	for b.Loop() {
		if _, err := parseEntry(line); err != nil {
			b.Fatal(err)
		}
	}
}
