package metalink

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var pubdate = time.Date(2024, 9, 6, 16, 5, 2, 0, time.FixedZone("CEST", 2*3600))

// repomd is a file of two versions with a public and a private place.
func repomd() *File {
	return &File{
		Name: "repomd.xml",
		Versions: []Version{
			{
				Timestamp: 1726456208, Size: 2046,
				MD5: strings.Repeat("0a", 16), SHA1: strings.Repeat("1b", 20),
				SHA256: strings.Repeat("2c", 32), SHA512: strings.Repeat("3d", 64),
			},
			{Timestamp: 1726400000, SHA256: strings.Repeat("4e", 32)},
		},
		URLs: []URL{
			{Base: "https://a.example/pub", Path: "/r/repodata/repomd.xml", Location: "DE", Priority: 1},
			{Base: "rsync://b.example/m", Path: "/r/repodata/repomd.xml", Priority: 250, Private: true},
		},
	}
}

const repomdV3 = `<?xml version="1.0" encoding="utf-8"?>
<metalink version="3.0" xmlns="http://www.metalinker.org/" type="dynamic" pubdate="Fri, 06 Sep 2024 14:05:02 GMT" generator="mirrormanager" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files>
  <file name="repomd.xml">
   <mm0:timestamp>1726456208</mm0:timestamp>
   <size>2046</size>
   <verification>
    <hash type="md5">0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a</hash>
    <hash type="sha1">1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b</hash>
    <hash type="sha256">2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c</hash>
    <hash type="sha512">3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d</hash>
   </verification>
   <mm0:alternates>
    <mm0:alternate>
      <mm0:timestamp>1726400000</mm0:timestamp>
      <verification>
       <hash type="sha256">4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e</hash>
      </verification>
    </mm0:alternate>
   </mm0:alternates>
   <resources maxconnections="1">
    <url protocol="https" type="https" location="DE" preference="100">https://a.example/pub/r/repodata/repomd.xml</url>
    <url protocol="rsync" type="rsync" location="" preference="1" mm0:private="True">rsync://b.example/m/r/repodata/repomd.xml</url>
   </resources>
  </file>
 </files>
</metalink>
`

const repomdV4 = `<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
 <published>2024-09-06T14:05:02Z</published>
 <file name="repomd.xml">
  <size>2046</size>
  <hash type="md5">0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a</hash>
  <hash type="sha-1">1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b</hash>
  <hash type="sha-256">2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c</hash>
  <hash type="sha-512">3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d3d</hash>
  <url location="de" priority="1">https://a.example/pub/r/repodata/repomd.xml</url>
 </file>
</metalink>
`

func TestAppend(t *testing.T) {
	check := func(name, want string, got []byte) {
		t.Helper()
		if diff := cmp.Diff("before\n"+want, string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	check("V3", repomdV3, AppendV3([]byte("before\n"), pubdate, repomd()))
	check("V4", repomdV4, AppendV4([]byte("before\n"), pubdate, repomd()))
	head, _, _ := strings.Cut(repomdV3, " <files>")
	check("failure", head+"<!-- pub/r/ not found or has not metalink\n-->\n</metalink>\n",
		AppendFailure([]byte("before\n"), pubdate, "pub/r/ not found or has not metalink", nil))
	check("failure with a list", head+"<!-- a- -&gt; b\nx\n-->\n</metalink>\n",
		AppendFailure([]byte("before\n"), pubdate, "a--&gt; b", []byte("x\n")))
	check("V3 of nothing known", head+` <files>
  <file name="&quot;&amp;&lt;&gt;.iso">
   <verification>
   </verification>
   <resources maxconnections="1">
   </resources>
  </file>
 </files>
</metalink>
`, AppendV3([]byte("before\n"), pubdate, &File{Name: `"&<>.iso`}))
}

// Nothing that stands in a snapshot or in a request can end an element or a
// comment, or make a document that is none.
func TestEscapes(t *testing.T) {
	for in, want := range map[string]string{
		"plain é 日本":       "plain é 日本",
		`a&b<c>d"e'f`:      "a&amp;b&lt;c&gt;d&quot;e'f",
		"\x00\n\x7f":       "\uFFFD\uFFFD\x7f",
		"a\xff\xfeb\ufffe": "a\uFFFD\uFFFDb\uFFFD",
	} {
		if got := string(appendXML(nil, in)); got != want {
			t.Errorf("%q in XML is %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"a-b\nc":  "a-b\nc",
		"-->":     "- ->",
		"a----":   "a- - - - ",
		"\x01\r-": "\uFFFD\uFFFD- ",
	} {
		if got := string(AppendComment(nil, in)); got != want {
			t.Errorf("%q in a comment is %q, want %q", in, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	want := repomd()
	for i := range want.URLs {
		want.URLs[i].Base, want.URLs[i].Path = want.URLs[i].Base+want.URLs[i].Path, ""
	}
	want.URLs[1].Priority = 100 // the worst that version 3 can say
	got, err := Parse(strings.NewReader(repomdV3))
	if diff := cmp.Diff([]File{*want}, got); err != nil || diff != "" {
		t.Errorf("version 3: %v (-want +got):\n%s", err, diff)
	}
	want.Versions = want.Versions[:1]
	want.Versions[0].Timestamp = 0
	want.URLs = want.URLs[:1]
	got, err = Parse(strings.NewReader(repomdV4))
	if diff := cmp.Diff([]File{*want}, got); err != nil || diff != "" {
		t.Errorf("version 4: %v (-want +got):\n%s", err, diff)
	}
	got, err = Parse(bytes.NewReader(AppendFailure(nil, pubdate, "repo disabled", nil)))
	if err != nil || got != nil {
		t.Errorf("a failure document has files %v, error %v", got, err)
	}
}

// What other writers of metalinks do: the order of elements is free, and there
// are elements that say nothing to us, such as hashes of pieces.
func TestParseForeign(t *testing.T) {
	got, err := Parse(strings.NewReader(`<?xml version="1.0"?>
<m:metalink xmlns:m="urn:ietf:params:xml:ns:metalink" xmlns:x="urn:x">
 <x:file name="../no"/>
 <m:file name="folder/a.iso">
  <m:url> http://late.example/a.iso </m:url>
  <m:url priority="7" location="at">http://second.example/a.iso</m:url>
  <m:url priority="0">not a url</m:url>
  <m:metaurl mediatype="torrent">http://a.example/a.torrent</m:metaurl>
  <m:url priority="2">ftp://first.example/a.iso</m:url>
  <m:pieces length="10" type="sha-256"><m:hash>zz</m:hash></m:pieces>
  <m:hash type="SHA-256">` + strings.Repeat("AB", 32) + `</m:hash>
  <m:hash type="whirlpool">no hex</m:hash>
  <x:size>5</x:size>
  <m:size>10</m:size>
 </m:file>
 <m:file name="b"/>
</m:metalink>`))
	want := []File{
		{Name: "folder/a.iso", Versions: []Version{{Size: 10, SHA256: strings.Repeat("ab", 32)}}, URLs: []URL{
			{Base: "ftp://first.example/a.iso", Priority: 2},
			{Base: "http://second.example/a.iso", Priority: 7, Location: "AT"},
			{Base: "http://late.example/a.iso"},
		}},
		{Name: "b", Versions: []Version{{}}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("version 4: %v (-want +got):\n%s", err, diff)
	}
	got, err = Parse(strings.NewReader(`<metalink xmlns="http://www.metalinker.org/" xmlns:mm0="http://fedorahosted.org/mirrormanager">
 <files><file name="a">
  <mm0:alternates><mm0:alternate><size>1</size></mm0:alternate><mm0:alternate><size>2</size></mm0:alternate></mm0:alternates>
  <size>3</size>
 </file></files></metalink>`))
	want = []File{{Name: "a", Versions: []Version{{Size: 3}, {Size: 1}, {Size: 2}}}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("version 3: %v (-want +got):\n%s", err, diff)
	}
}

func TestParseRefuses(t *testing.T) {
	v4 := func(inside string) string {
		return `<metalink xmlns="urn:ietf:params:xml:ns:metalink">` + inside + `</metalink>`
	}
	for name, text := range map[string]string{
		"empty":        "",
		"no XML":       "<html>",
		"cut off":      v4(`<file name="a">`)[:60],
		"other root":   `<metalinks xmlns="urn:ietf:params:xml:ns:metalink"/>`,
		"no namespace": `<metalink/>`,
		"two roots":    v4("") + v4(""),
		"no name":      v4(`<file/>`),
		"parent":       v4(`<file name="a/../../b"/>`),
		"absolute":     v4(`<file name="/etc/passwd"/>`),
		"backslash":    v4(`<file name="a\b"/>`),
		"folder":       v4(`<file name="a/"/>`),
		"line":         v4(`<file name="a&#10;b"/>`),
		"size":         v4(`<file name="a"><size>-1</size></file>`),
		"short hash":   v4(`<file name="a"><hash type="sha-256">ab</hash></file>`),
		"two hashes":   v4(`<file name="a"><hash type="md5">` + strings.Repeat("0", 32) + `</hash><hash type="md5">` + strings.Repeat("1", 32) + `</hash></file>`),
		"deep":         v4(strings.Repeat("<a>", maxDepth) + strings.Repeat("</a>", maxDepth)),
		"long URL":     v4(`<file name="a"><url>http://a/` + strings.Repeat("a", maxText) + `</url></file>`),
		"files":        v4(strings.Repeat(`<file name="a"/>`, MaxFiles+1)),
		"URLs":         v4(`<file name="a">` + strings.Repeat(`<url>http://a</url>`, MaxURLs+1) + `</file>`),
	} {
		if files, err := Parse(strings.NewReader(text)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: error %v, files %v", name, err, files)
		}
	}
	endless := io.MultiReader(strings.NewReader(v4("")), endlessSpace{})
	if _, err := Parse(endless); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "larger") {
		t.Errorf("endless: %v", err)
	}
	broken := errors.New("connection lost")
	if _, err := Parse(io.MultiReader(strings.NewReader(v4("")[:50]), iotest.ErrReader(broken))); !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
		t.Errorf("an error of the reader is %v", err)
	}
}

type endlessSpace struct{}

func (endlessSpace) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// Whatever is read can be written, and then reads the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(repomdV3))
	f.Add([]byte(repomdV4))
	f.Add([]byte(`<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="a&quot;"><url priority="3">http://a&amp;/&#x9;b</url></file></metalink>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := Parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		for i := range files {
			again, err := Parse(bytes.NewReader(AppendV3(nil, pubdate, &files[i])))
			if err != nil {
				t.Fatalf("%+v written as version 3: %v", files[i], err)
			}
			coarse := cmp.Transformer("priority", func(u URL) URL {
				if u.Priority == 0 || u.Priority > 100 {
					u.Priority = 100
				}
				return u
			})
			order := cmpopts.SortSlices(func(a, b URL) bool { return a.Base < b.Base })
			if diff := cmp.Diff(files[i:i+1], again, coarse, order); diff != "" {
				t.Fatalf("written as version 3 and read (-want +got):\n%s", diff)
			}
			if _, err := Parse(bytes.NewReader(AppendV4(nil, pubdate, &files[i]))); err != nil {
				t.Fatalf("%+v written as version 4: %v", files[i], err)
			}
		}
	})
}

// Whatever is written is XML.
func FuzzAppend(f *testing.F) {
	f.Add("a--b", "x&y", "http://a/<\x00>")
	f.Add("-", "\xff", "\ufffe")
	f.Fuzz(func(t *testing.T, message, name, url string) {
		file := &File{Name: name, Versions: []Version{{MD5: name}}, URLs: []URL{{Base: url, Path: name, Location: message}}}
		for _, text := range [][]byte{
			AppendV3(nil, pubdate, file), AppendV4(nil, pubdate, file), AppendFailure(nil, pubdate, message, AppendComment(nil, name)),
		} {
			dec := xml.NewDecoder(bytes.NewReader(text))
			for {
				if _, err := dec.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatalf("%v in:\n%s", err, text)
				}
			}
		}
	})
}
