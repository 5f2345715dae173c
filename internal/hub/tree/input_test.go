package tree

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"

	"freshet/api/hubapi"
)

func TestBadFiles(t *testing.T) {
	t.Parallel()
	file := func(p string) hubapi.TreeFile { return hubapi.TreeFile{Path: p, Size: 1, SHA256: sum("x")} }
	link := func(p, target string) hubapi.TreeFile { return hubapi.TreeFile{Path: p, Link: target} }
	long := strings.Repeat("n", 256)
	deep := strings.Repeat("deep/", 500) + "x"
	for name, files := range map[string][]hubapi.TreeFile{
		"no files":                  {},
		"empty path":                {file("")},
		"dot":                       {file(".")},
		"dot dot":                   {file("..")},
		"parent":                    {file("../x")},
		"parent inside":             {file("a/../x")},
		"parent at the end":         {file("a/..")},
		"absolute":                  {file("/etc/passwd")},
		"slash at the end":          {file("a/")},
		"two slashes":               {file("a//b")},
		"dot element":               {file("a/./b")},
		"NUL":                       {file("a\x00b")},
		"newline":                   {file("a\nb")},
		"carriage return":           {file("a\r\nSet-Cookie: x")},
		"escape":                    {file("a\x1b[2J")},
		"delete":                    {file("a\x7f")},
		"C1 control":                {file("a\u0085b")},
		"not UTF-8":                 {file("a\xff")},
		"long element":              {file("a/" + long)},
		"long path":                 {file(deep)},
		"twice":                     {file("a"), file("b"), file("a")},
		"twice as link":             {file("a"), link("a", "b")},
		"file and folder":           {file("a"), file("a/b")},
		"file and folder, far":      {file("a"), file("a-b"), file("a.c"), file("a/b/c/d")},
		"file and folder, later":    {file("p/a/b/c"), file("p/a/b/d"), file("p/a")},
		"link and folder":           {link("a", "b"), file("a/x")},
		"negative size":             {{Path: "a", Size: -1, SHA256: sum("x")}},
		"no hash":                   {{Path: "a", Size: 1}},
		"upper-case hash":           {{Path: "a", Size: 1, SHA256: strings.ToUpper(sum("x"))}},
		"short hash":                {{Path: "a", Size: 1, SHA256: "abcd"}},
		"path as hash":              {{Path: "a", Size: 1, SHA256: "../../" + strings.Repeat("a", 58)}},
		"two sizes of one content":  {{Path: "a", Size: 1, SHA256: sum("x")}, {Path: "b", Size: 2, SHA256: sum("x")}},
		"time before 1970":          {{Path: "a", Size: 1, SHA256: sum("x"), ModTime: -1}},
		"time out of range":         {{Path: "a", Size: 1, SHA256: sum("x"), ModTime: 1 << 60}},
		"link out":                  {link("a", "../x")},
		"link out of a folder":      {link("a/b", "../../x")},
		"link to the folder above":  {link("a", "..")},
		"absolute link":             {link("a", "/etc/passwd")},
		"link through another":      {file("d/x"), link("a", "d"), link("b", "a/../../x")},
		"unclean link":              {link("a", "b/../c")},
		"link with slash at end":    {link("a", "b/")},
		"link with size":            {{Path: "a", Link: "b", Size: 1}},
		"link with hash":            {{Path: "a", Link: "b", SHA256: sum("x")}},
		"link with newline":         {link("a", "b\nc")},
		"link with NUL":             {link("a", "b\x00")},
		"link with a long element":  {link("a", long)},
		"link that is not UTF-8":    {link("a", "b\xff")},
		"link with the empty parts": {link("a", "b//c")},
	} {
		_, err := checkFiles(files)
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if strings.ContainsAny(err.Error(), "\n\r\x00\x1b") {
			t.Errorf("%s: the message has control characters: %q", name, err)
		}
	}
}

func TestGoodFiles(t *testing.T) {
	t.Parallel()
	c := contents{
		"README": "upper case", "readme": "lower case", "a": "x", "a-b": "x", "a.b/c": "x", "aa/b": "x",
		"pool/main/libé/ünï_1%3a2+dfsg~1.deb": "UTF-8", "日本/語": "UTF-8", "with space": "x", "back\\slash": "x",
		"..hidden": "x", "...": "x", ".durable-x": "x", "-rf": "x", "CON": "x",
		strings.Repeat("n", 255): "x",
		"self":                   "@.", "up/link": "@..", "up/x": "@../a", "dangling": "@nowhere", "loop": "@loop",
	}
	dir := quickDir(t)
	trees := begin(t, dir, Options{})
	publish(t, trees, "x", 1, c, new(ledger))
	equal(t, current(t, dir, "x"), c)
	for name, want := range map[string]string{
		"README": "upper case", "readme": "lower case", "日本/語": "UTF-8", "up/x": "x", "up/link/readme": "lower case",
		"self/self/a": "x", "dangling": "(none)",
	} {
		if got := read(t, trees, "x", name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"loop", "loop/x", "a/x", strings.Repeat("n", 300), strings.Repeat("n/", 3000) + "n"} {
		if got := read(t, trees, "x", name); got != "(none)" {
			t.Errorf("%.20s: %q", name, got)
		}
	}
}

func TestBadTreeNames(t *testing.T) {
	t.Parallel()
	trees := begin(t, quickDir(t), Options{})
	for _, name := range []string{"", ".", "..", "a/b", "../x", "UPPER", ".hidden", "-x", "_x", "a b", "a\n", "é", strings.Repeat("x", 65)} {
		if _, err := trees.Begin(t.Context(), name, first.files(1)); !errors.Is(err, ErrRefused) {
			t.Errorf("begin %q: %v", name, err)
		}
		if _, err := trees.Lookup(name, "latest"); !errors.Is(err, ErrNotFound) {
			t.Errorf("lookup in %q: %v", name, err)
		}
	}
	for _, name := range []string{"x", "rpm-9.x86_64", "0", strings.Repeat("x", 64)} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestChanged(t *testing.T) {
	t.Parallel()
	h := strings.Repeat("0a", 32)
	for _, c := range []struct {
		name   string
		before contents
		after  contents
		want   []string
	}{
		{"nothing", first, first, []string{}},
		{"first push", nil, contents{"x.db": "1", "a.rpm": "1", "README": "1"}, []string{"x.db"}},
		{
			"each class",
			contents{
				"repodata/repomd.xml": "1", "repodata/" + h + "-primary.xml.gz": "1", "repodata/primary.xml.gz": "1",
				"a-1.rpm": "1", "b-1.rpm": "1", "resigned.rpm": "1", "index.html": "1", "same.html": "1",
			},
			contents{
				"repodata/repomd.xml": "2", "repodata/primary.xml.gz": "2",
				"a-1.rpm": "1", "c-1.rpm": "1", "resigned.rpm": "2", "same.html": "1", "new.html": "1", "repodata/repomd.xml.asc": "1",
			},
			[]string{"index.html", "repodata/primary.xml.gz", "repodata/repomd.xml", "repodata/repomd.xml.asc", "resigned.rpm"},
		},
		{
			"through a link to a folder",
			contents{"dists/trixie/InRelease": "1", "dists/trixie/main/x": "1", "dists/stable": "@trixie"},
			contents{"dists/trixie/InRelease": "2", "dists/trixie/main/x": "1", "dists/stable": "@trixie"},
			[]string{"dists/stable/InRelease", "dists/trixie/InRelease"},
		},
		{
			"a link that moves",
			contents{"dists/a/InRelease": "1", "dists/b/InRelease": "2", "dists/a/same": "x", "dists/b/same": "x", "dists/stable": "@a"},
			contents{"dists/a/InRelease": "1", "dists/b/InRelease": "2", "dists/a/same": "x", "dists/b/same": "x", "dists/stable": "@b"},
			[]string{"dists/stable/InRelease"},
		},
		{
			"links through links",
			contents{"a/b/f": "1", "l": "@a", "m": "@l/b", "n": "@m/f"},
			contents{"a/b/f": "2", "l": "@a", "m": "@l/b", "n": "@m/f"},
			[]string{"a/b/f", "l/b/f", "m/f", "n"},
		},
		{
			"a link in a circle",
			contents{"a/f": "1", "a/up": "@..", "b": "@."},
			contents{"a/f": "2", "a/up": "@..", "b": "@."},
			[]string{"a/f", "a/up/a/f", "a/up/b/a/f", "b/a/f", "b/a/up/a/f"},
		},
		{"a file becomes a folder", contents{"a": "1"}, contents{"a/b": "1"}, []string{"a"}},
	} {
		before, after := c.before.files(1), c.after.files(1)
		byPath := func(a, b hubapi.TreeFile) int { return strings.Compare(a.Path, b.Path) }
		slices.SortFunc(before, byPath)
		slices.SortFunc(after, byPath)
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			equal(t, changed(before, after), c.want)
		})
	}
}

// TestManyLinks makes sure that links which lead to one another end.
func TestManyLinks(t *testing.T) {
	t.Parallel()
	c := contents{"file": "x"}
	for name := range strings.SplitSeq("abcdefghijklmnop", "") {
		c[name] = "@."
	}
	files, err := checkFiles(c.files(1))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(mutableSums(files)); n < 100 || n > 200_000 {
		t.Errorf("%d paths", n)
	}
}

func FuzzCheckFiles(f *testing.F) {
	f.Add("a", "b", "c")
	f.Add("a/b", "../x", "a")
	f.Add("d/e/f", "../../x", "d/e")
	f.Fuzz(func(t *testing.T, p, link, q string) {
		files, err := checkFiles([]hubapi.TreeFile{{Path: p, Link: link}, {Path: q, Size: 1, SHA256: sum("x")}})
		if err != nil || link == "" {
			return
		}
		if p == q || strings.HasPrefix(q, p+"/") || strings.HasPrefix(p, q+"/") {
			t.Errorf("%q beside %q", p, q)
		}
		for _, name := range []string{p, q, path.Join(path.Dir(p), link)} {
			if path.IsAbs(name) || name == ".." || strings.HasPrefix(name, "../") {
				t.Errorf("%q -> %q leads out", p, link)
			}
		}
		mutableSums(files)
	})
}
