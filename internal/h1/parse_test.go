package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
)

const hostLine = "Host: h\r\n"

func TestParse(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("X: y\r\n", maxFields+1)
	for _, c := range []struct {
		name, in string
		want     oddity
		n        int // -1: all of it
	}{
		{"plain", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", plain, -1},
		{"head", "HEAD /a?b=%20c HTTP/1.1\r\nhost:h:80\r\nAccept: */*\r\nConnection: Keep-Alive\r\n\r\n", plain, -1},
		{"another behind", "GET / HTTP/1.1\r\nHost: h\r\n\r\nGET", plain, 27},
		{"part of a line", "GET / HT", plain, 0},
		{"part of the fields", "GET / HTTP/1.1\r\nHost: h\r\nAcc", plain, 0},
		{"no empty line", "GET / HTTP/1.1\r\nHost: h\r\n", plain, 0},
		{"post", "POST / HTTP/1.1\r\n" + hostLine + "\r\n", oddMethod, 0},
		{"lower case method", "get / HTTP/1.1\r\n" + hostLine + "\r\n", oddMethod, 0},
		{"empty line first", "\r\nGET / HTTP/1.1\r\n" + hostLine + "\r\n", oddMethod, 0},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n" + hostLine + "\r\n", oddVersion, 0},
		{"HTTP/0.9", "GET /\r\n", oddVersion, 0},
		{"two spaces", "GET  / HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"space in the target", "GET /a b HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"absolute-form", "GET http://h/ HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"asterisk-form", "GET * HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"bad escape", "GET /%zz HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"short escape", "GET /%2 HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"fragment", "GET /a#b HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"NUL in the target", "GET /\x00 HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"UTF-8 in the target", "GET /ä HTTP/1.1\r\n" + hostLine + "\r\n", oddTarget, 0},
		{"bare LF in the request line", "GET / HTTP/1.1\nHost: h\r\n\r\n", oddLine, 0},
		{"bare LF in a field", "GET / HTTP/1.1\r\nHost: h\n\r\n", oddLine, 0},
		{"bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n", oddLine, 0},
		{"bare CR in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", oddField, 0},
		{"obs-fold", "GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n", oddFolding, 0},
		{"space before the colon", "GET / HTTP/1.1\r\nHost : h\r\n\r\n", oddField, 0},
		{"no colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", oddField, 0},
		{"empty name", "GET / HTTP/1.1\r\n: h\r\n\r\n", oddField, 0},
		{"NUL in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n", oddField, 0},
		{"bytes beyond ASCII in a value", "GET / HTTP/1.1\r\nHost: h\r\nX: \xff\r\n\r\n", oddField, 0},
		{"no host", "GET / HTTP/1.1\r\n\r\n", oddHost, 0},
		{"empty host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", oddHost, 0},
		{"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", oddHost, 0},
		{"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", oddHost, 0},
		{"host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", oddHost, 0},
		{"Content-Length", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", oddBody, 0},
		{"Transfer-Encoding", "GET / HTTP/1.1\r\nHost: h\r\ntransfer-encoding: chunked\r\n\r\n", oddBody, 0},
		{"both", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", oddBody, 0},
		{"Expect", "GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", oddExpect, 0},
		{"Upgrade", "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n", oddExpect, 0},
		{"TE", "GET / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\n\r\n", oddExpect, 0},
		{"Trailer", "GET / HTTP/1.1\r\nHost: h\r\nTrailer: X\r\n\r\n", oddExpect, 0},
		{"Connection: other", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Range\r\n\r\n", oddConnection, 0},
		{"two Connection", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nConnection: close\r\n\r\n", oddConnection, 0},
		{"many fields", "GET / HTTP/1.1\r\nHost: h\r\n" + long + "\r\n", oddSize, 0},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", oddMethod, 0},
	} {
		var r Request
		n, odd := r.parse([]byte(c.in))
		want := c.n
		if want < 0 {
			want = len(c.in)
		}
		if n != want || odd != c.want {
			t.Errorf("%s: %d, %v; want %d, %v", c.name, n, odd, want, c.want)
		}
		if again, odd := new(Request).parse([]byte(c.in)); n > 0 && (again != n || odd != plain) {
			t.Errorf("%s: second time %d, %v", c.name, again, odd)
		}
	}
}

func TestParseFields(t *testing.T) {
	t.Parallel()
	var r Request
	_, odd := r.parse([]byte("HEAD /x?y HTTP/1.1\r\nA:\t 1 \r\nHOST: h:1\r\nb: \r\nConnection: close\r\na: 2\r\n\r\n"))
	var got []string
	for _, f := range r.Fields {
		got = append(got, string(f.Name)+"="+string(f.Value))
	}
	if odd != plain || !r.Head || !r.Close || string(r.Target) != "/x?y" || string(r.Host) != "h:1" || strings.Join(got, " ") != "A=1 b= a=2" {
		t.Errorf("%v %+v %q", odd, r, got)
	}
	if !r.Fields[0].Is("a") || r.Fields[0].Is("b") || r.Fields[0].Is("aa") {
		t.Error("names are compared wrongly")
	}
}

// Whatever is accepted here, net/http accepts, and reads the same in it: were
// it not so, a request could mean one thing to the loop and another to the
// server behind.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"HEAD /a/../b;c?d=%20&e HTTP/1.1\r\nHost: [::1]:80\r\nRange: bytes=0-1\r\nConnection: close\r\n\r\nGET / HTTP/1.1\r\n",
		"GET //h/a HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n",
		"GET /a:b@c?://[] HTTP/1.1\r\nHost: h\r\n\tX: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +3\r\n\r\nabc",
		"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
		"GET / HTTP/1.1\nHost: h\n\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET /\x00 HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: h\r\nPragma: no-cache\r\nConnection: keep-alive\r\n\r\n",
		"GET /?%2f%00%ff HTTP/1.1\r\nHost: -_.:\r\n\"(),/:;<=>?@[\\]{}: x\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r Request
		n, odd := r.parse(in)
		if n < 0 || n > len(in) || odd != plain && n != 0 {
			t.Fatalf("%q: %d, %v", in, n, odd)
		}
		if n == 0 {
			return
		}
		if !bytes.HasSuffix(in[:n], []byte("\r\n\r\n")) {
			t.Fatalf("%q: the header ends with %q", in, in[:n])
		}
		rest := bufio.NewReader(bytes.NewReader(in))
		req, err := http.ReadRequest(rest)
		if err != nil {
			t.Fatalf("%q: net/http says %v", in, err)
		}
		if left := rest.Buffered(); len(in) < 4096 && left != len(in)-n {
			t.Fatalf("%q: net/http leaves %d bytes, we %d", in, left, len(in)-n)
		}
		method := http.MethodGet
		if r.Head {
			method = http.MethodHead
		}
		if req.Method != method || req.RequestURI != string(r.Target) || req.Host != string(r.Host) ||
			req.ContentLength != 0 || len(req.TransferEncoding) != 0 || req.ProtoMinor != 1 || req.Close != r.Close {
			t.Fatalf("%q: net/http reads %+v, we %+v", in, req, r)
		}
		want := make(http.Header)
		for _, f := range r.Fields {
			name := textproto.CanonicalMIMEHeaderKey(string(f.Name))
			want[name] = append(want[name], string(f.Value))
		}
		if len(want["Pragma"]) > 0 && want["Pragma"][0] == "no-cache" && want["Cache-Control"] == nil {
			want["Cache-Control"] = []string{"no-cache"} // net/http adds it
		}
		delete(req.Header, "Connection")
		if len(req.Header) != len(want) {
			t.Fatalf("%q: net/http has %v, we %v", in, req.Header, want)
		}
		for name, values := range want {
			if strings.Join(req.Header[name], "\n") != strings.Join(values, "\n") {
				t.Fatalf("%q: %s: net/http has %q, we %q", in, name, req.Header[name], values)
			}
		}
	})
}
