package autoindex

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parse(t *testing.T, text, kind, base string) ([]Entry, error) {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(strings.NewReader(text), kind, u)
}

// brief writes entries shortly: "name/", "name 12" or "name 1100-1300".
func brief(entries []Entry) []string {
	var all []string
	for _, e := range entries {
		switch {
		case e.Folder:
			all = append(all, e.Name+"/")
		case e.Exact():
			all = append(all, fmt.Sprint(e.Name, " ", e.Size))
		case e.Most >= 0:
			all = append(all, fmt.Sprint(e.Name, " ", e.Least, "-", e.Most))
		default:
			all = append(all, e.Name)
		}
	}
	return all
}

// The forms that servers give to their listings. Those of servers that can be had are
// tested with the servers themselves, in internal/director/scan.
func TestParse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind, text string
		want       []string
	}{
		"freshet": {
			kind: "application/json",
			text: `[{"name":"\ufffd.bin","type":"file","size":3,"mtime":"Sat, 21 Nov 2026 00:00:00 GMT","href":"./%FF.bin"},
				{"name":"a b","type":"directory","mtime":"Sat, 21 Nov 2026 00:00:00 GMT","href":"./a%20b/"},
				{"name":"else","type":"file","size":1,"href":"https://other.example/x"},
				{"name":"up","type":"file","size":1,"href":"./..%2fup"},
				{"name":"bad","type":"file","size":1,"href":"./%zz"}]`,
			want: []string{"\xff.bin 3", "a b/", "else 1", "bad 1"},
		},
		"nginx": {
			text: "<html><head><title>Index of /d/</title></head><body><h1>Index of /d/</h1><hr><pre><a href=\"../\">../</a>\n" +
				"<a href=\"pool/\">pool/</a>      02-Jan-2024 03:04       -\n<a href=\"a%20b.deb\">a b.deb</a>   02-Jan-2024 03:04    12345\n" +
				"<a href=\"c.iso\">c.iso</a>     02-Jan-2024 03:04      4G\n</pre><hr></body></html>",
			want: []string{"pool/", "a b.deb 12345", "c.iso 3000000000-5368709120"},
		},
		"Apache, preformatted": {
			text: `<pre><img src="/icons/blank.gif" alt="Icon "> <a href="?C=N;O=D">Name</a> <a href="?C=M;O=A">Last modified</a><hr>` +
				`<img src="/icons/back.gif" alt="[PARENTDIR]"> <a href="/">Parent Directory</a>                             -   ` + "\n" +
				`<img src="/icons/unknown.gif" alt="[   ]"> <a href="x.gz">x.gz</a>       2024-01-02 03:04  1.2M  GZIP compressed document 7` + "\n" +
				`<img src="/icons/folder.gif" alt="[DIR]"> <a href="sub/">sub/</a>       2024-01-02 03:04    -` + "\n" +
				`<a href="short">short</a>       2024-01-02 03:04  123   ` + "\n<hr></pre>",
			want: []string{"x.gz 1099999-1363148", "sub/", "short 123"},
		},
		"Apache, table": {
			text: `<table id="indexlist"><tr class="indexhead"><th><a href="?C=N;O=D">Name</a></th></tr>` +
				`<tr class="even"><td class="indexcolicon"><a href="f.iso"><img src="/i.gif" alt=""></a></td><td class="indexcolname"><a href="f.iso">f.iso</a></td>` +
				`<td class="indexcollastmod">2024-01-02 03:04  </td><td class="indexcolsize"> 23K</td><td class="indexcoldesc">Part 2</td></tr></table>`,
			want: []string{"f.iso 22000-24576"},
		},
		"lighttpd": {
			text: `<title>Index of /d/</title><tbody><tr class="d"><td class="n"><a href="../">..</a>/</td><td class="m">&nbsp;</td><td class="s">- &nbsp;</td></tr>` +
				`<tr><td class="n"><a href="a.txt">a.txt</a></td><td class="m">2024-Jan-02 03:04:05</td><td class="s">0.1K</td><td class="t">text/plain</td></tr></tbody>`,
			want: []string{"a.txt 0-204"},
		},
		"Caddy": {
			text: `<h1>Index of</h1><tr class="file"><td></td><td><a href="./a%3Fb.txt"><span class="name">a?b.txt</span></a></td>` +
				`<td class="size" data-size="1234567"><div class="sizebar">1.2 MiB</div></td><td class="timestamp"><time datetime="2024-01-02T03:04:05Z">01/02/2024 03:04:05 AM +00:00</time></td></tr>`,
			want: []string{"a?b.txt 1234567"},
		},
		"dressed up, with no sizes": {
			text: `<title>Index of /d</title><ul><li><a href="/d/a.txt">A</a></li><li><a href="https://m.example/d/sub/">Sub</a></li><li><a href="https://other.example/d/b">B</a></ul>`,
			want: []string{"a.txt", "sub/"},
		},
		"human sizes of their own": {
			text: `<title>Index of /d</title><table><tr><td><a href="a">a</a></td><td>1,234 bytes</td><td>2024-01-02 03:04</td></tr><tr><td><a href="b">b</a></td><td>1.5 KiB</td></tr></table>`,
			want: []string{"a 1234", "b 1400-1638"},
		},
		"what is elsewhere": {text: `<title>Index of /d</title><a href="/e/x">x</a><a href="sub/deep">y</a><a href="../z">z</a><a href="a?download">a</a><a href="mailto:x@y">m</a>` +
			`<a href="javascript:alert(1)">j</a><a href="//h/d/q">q</a><a href="%2e%2e/">up</a><a href="a%2Fb">slash</a><a href="%zz">bad</a><a href="">none</a><a href="."></a><a>no</a>`},
		"empty folder":   {text: `<h1>Index of /d/</h1><pre><a href="../">../</a></pre>`},
		"cut anywhere":   {text: `<title>Index of /d</title><pre><a href="a">a</a> 02-Jan-2024 03:04 12`, want: []string{"a 12"}},
		"nginx's JSON":   {kind: "application/json", text: `[{"name":"pool","type":"directory","mtime":"Tue, 02 Jan 2024 03:04:05 GMT"},{"name":"a/b","type":"file","size":1},{"name":"x y","type":"file","mtime":"Tue","size":12},{"name":"dev","type":"other","size":0}]`, want: []string{"pool/", "x y 12"}},
		"Caddy's JSON":   {kind: "application/json; charset=utf-8", text: `[{"name":"pool/","size":4096,"url":"./pool/","mod_time":"2024-01-02T03:04:05Z","mode":2147484141,"is_dir":true,"is_symlink":false},{"name":"f","size":7,"url":"./f","mod_time":"2024","is_dir":false}]`, want: []string{"pool/", "f 7"}},
		"JSON of size x": {kind: "application/json", text: `[{"name":"f","type":"file"},{"name":"g","type":"file","size":-3}]`, want: []string{"f", "g"}},
	} {
		got, err := parse(t, tt.text, tt.kind, "https://m.example/d/")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tt.want, brief(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		kind, text string
		want       error
	}{
		"a page":            {text: `<title>Welcome</title><a href="pool/">our files</a>`, want: ErrNoListing},
		"nothing":           {want: ErrNoListing},
		"other JSON":        {kind: "application/json", text: `{"name":"x"}`, want: ErrNoListing},
		"JSON of numbers":   {kind: "application/json", text: `[1,2]`, want: ErrNoListing},
		"JSON that was cut": {kind: "application/json", text: `[{"name":"x","type":"file","size":1},{"na`, want: io.ErrUnexpectedEOF},
		"a tag without end": {text: "<title>Index of /</title><a href=\"" + strings.Repeat("x", 2*maxToken), want: ErrTooMuch},
	} {
		if got, err := parse(t, tt.text, tt.kind, "https://m.example/d/"); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, %v, want %v", name, brief(got), err, tt.want)
		}
	}
}

func TestParseIsBounded(t *testing.T) {
	t.Parallel()
	b := &bounded{r: strings.NewReader("0123456789"), left: 5}
	if got, err := io.ReadAll(b); string(got) != "01234" || !errors.Is(err, ErrTooMuch) {
		t.Errorf("read %q, %v", got, err)
	}
	c := collector{seen: make(map[string]bool)}
	for i := range maxEntries {
		if err := c.add(Entry{Name: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.add(Entry{Name: "one more"}); !errors.Is(err, ErrTooMuch) {
		t.Errorf("after %d entries: %v", maxEntries, err)
	}
}

func TestStampChangesWithFile(t *testing.T) {
	t.Parallel()
	row := func(about string) string {
		got, err := parse(t, `<title>Index of /</title><pre><a href="a">a</a>  `+about+"\n</pre>", "", "https://m.example/")
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		return got[0].Stamp
	}
	before := row("02-Jan-2024 03:04  1.2M")
	if before == "" || row("02-Jan-2024 03:05  1.2M") == before || row("02-Jan-2024 03:04  1.3M") == before || row("02-Jan-2024   03:04 1.2M") != before {
		t.Errorf("stamp %q", before)
	}
}

// FuzzParse: nothing breaks it, and what it finds are names, each once.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`<title>Index of /d</title><pre><a href="a%20b">a</a> 02-Jan-2024 03:04 12`+"\n"+`<a href="c/">c</a> 1.2M</pre>`), false)
	f.Add([]byte(`<table><tr><td><a href="?C=N;O=D">N</a><tr><td><a href="x"><img><a href="x">x</a><td>2024-01-02 03:04<td>1.2 GiB<td>text 3`), false)
	f.Add([]byte(`<h1>Index of<tr><td><a href=./a%3Fb><td data-size=12>12 B<td><time datetime=2024-01-02T03:04:05Z>`), false)
	f.Add([]byte(`[{"name":"pool/","size":4096,"is_dir":true},{"name":"x","type":"file","size":1e3}]`), true)
	base := &url.URL{Scheme: "https", Host: "m.example", Path: "/d/"}
	f.Fuzz(func(t *testing.T, text []byte, isJSON bool) {
		kind := "text/html"
		if isJSON {
			kind = "application/json"
		}
		entries, err := Parse(bytes.NewReader(text), kind, base)
		if err != nil && entries != nil {
			t.Fatal("entries beside an error")
		}
		seen := make(map[string]bool)
		for _, e := range entries {
			switch {
			case !isName(e.Name) || seen[e.Name]:
				t.Fatalf("name %q", e.Name)
			case e.Exact() && (e.Least != e.Size || e.Most != e.Size):
				t.Fatalf("%+v", e)
			case e.Most >= 0 && e.Least > e.Most, e.Least < 0, e.Folder && e.Exact():
				t.Fatalf("%+v", e)
			}
			seen[e.Name] = true
		}
	})
}
