package metalink

import (
	"strings"
	"testing"
)

func TestMirrorlist(t *testing.T) {
	var c Comment
	c.Repo("r-1", "x86_64")
	c.Netblock()
	c.ASN(64500)
	c.Country("DE")
	c.Country("global")
	c.Protocol("https")
	urls := []URL{{Base: "http://a.example/pub", Path: "/r/"}, {Base: "https://b.example/a b\n", Path: "/<r>/é"}}
	const line = "# repo = r-1 arch = x86_64 Using preferred netblock Using ASN 64500 country = DE country = global protocol = https\n"
	const list = "http://a.example/pub/r/\nhttps://b.example/a%20b%0A/%3Cr%3E/é\n"
	if got := string(AppendMirrorlist(nil, &c, 0, urls)); got != line+list {
		t.Errorf("the list is\n%s", got)
	}
	if got := string(AppendMirrorlist([]byte("before\n"), &c, 1700000000, urls)); got != "before\n"+line+"# database creation time: 1700000000\n"+list {
		t.Errorf("the list with the time is\n%s", got)
	}
	c.Reset()
	c.Path("a\nb\x7f\x00")
	if got := string(AppendMirrorlist(nil, &c, 0, nil)); got != "# path = a?b?? \n" {
		t.Errorf("the list of a hostile path is %q", got)
	}
}

// librepo reads lines of up to 4,096 bytes.
func TestCommentIsBounded(t *testing.T) {
	var c Comment
	c.Path(strings.Repeat("p", maxComment-100))
	for range 100 {
		c.Country("DE")
		c.ASN(4294967295)
	}
	c.Protocol(strings.Repeat("x", 8000))
	if n := len(c.Bytes()); n > maxComment || n < maxComment-30 {
		t.Errorf("the line has %d bytes", n)
	}
	if got := string(c.Bytes()); !strings.HasSuffix(got, "country = DE ") && !strings.HasSuffix(got, "Using ASN 4294967295 ") {
		t.Errorf("the line ends in the middle: %q", got[len(got)-40:])
	}
}

func TestLink(t *testing.T) {
	for want, u := range map[string]URL{
		"<https://a.example/pub/f>; rel=duplicate; pri=1; geo=de": {Base: "https://a.example/pub", Path: "/f", Priority: 1, Location: "DE"},
		"<https://a.example/%3E%0D%0A>; rel=duplicate":            {Base: "https://a.example/>\r\n", Location: "?x"},
		"<http://b/>; rel=duplicate; pri=999999":                  {Base: "http://b/", Priority: 1 << 30},
		"":                                                        {Base: "http://b/", Private: true},
	} {
		if got := string(AppendLink(nil, &u)); got != want {
			t.Errorf("%+v: %q, want %q", u, got, want)
		}
	}
}

// An answer makes no garbage.
func TestNoAllocations(t *testing.T) {
	var c Comment
	buf, file := make([]byte, 0, 8192), repomd()
	link := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() {
		c.Reset()
		c.Repo("r-1", "x86_64")
		c.ASN(1)
		c.Country("DE")
		buf = AppendMirrorlist(buf[:0], &c, 5, file.URLs)
		buf = AppendV3(buf[:0], pubdate, file)
		buf = AppendV4(buf[:0], pubdate, file)
		link = AppendLink(link[:0], &file.URLs[0])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAppendV3(b *testing.B) {
	file := repomd()
	for len(file.URLs) < 300 {
		file.URLs = append(file.URLs, file.URLs[0])
	}
	var buf []byte
	for b.Loop() {
		buf = AppendV3(buf[:0], pubdate, file)
	}
	b.SetBytes(int64(len(buf)))
}
