package accesslog

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
)

func sample() *Record {
	return &Record{
		Begun:  time.Date(2026, 11, 21, 4, 46, 27, 123456789, time.UTC),
		Client: netip.MustParseAddr("203.0.113.77"), Method: "GET", Path: "/repo/objects/ab/cd e.filez",
		Target: []byte("/repo/objects/ab/cd%20e.filez?x=1"), Status: 200, Bytes: 4711,
		Took: 1234567 * time.Nanosecond, FirstByte: 890 * time.Microsecond,
		Host: []byte("dl.example.org"), Referer: []byte("https://example.org/"), UserAgent: []byte("libostree/2026.1 flatpak/1.16"),
		Outcome: "miss", Site: "main", Key: 0x0123456789abcdef,
		Upstream: Upstream{Origin: "hub.example.org", Connect: time.Millisecond, TLS: 2 * time.Millisecond, FirstByte: 5 * time.Millisecond, Total: 1500 * time.Millisecond},
	}
}

func line(f Format, a Addresses, r *Record) string {
	e := encoder{format: f, addresses: a, role: "edge"}
	return string(e.append(nil, r))
}

func TestCombined(t *testing.T) {
	const want = `203.0.113.0 - - [21/Nov/2026:04:46:27 +0000] "GET /repo/objects/ab/cd%20e.filez?x=1 HTTP/1.1" 200 4711 ` +
		`"https://example.org/" "libostree/2026.1 flatpak/1.16" outcome="miss" took="0.001235" ttfb="0.000890" host="dl.example.org" site="main" ` +
		`key="0123456789abcdef" upstream="hub.example.org" upstream_connect="0.001000" upstream_tls="0.002000" ` +
		`upstream_ttfb="0.005000" upstream_took="1.500000"` + "\n"
	if got := line(Combined, AddressPrefix, sample()); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	const bare = `0.0.0.0 - - [01/Jan/1970:00:00:00 +0000] "GET /x HTTP/2.0" 499 0 "-" "-" outcome="error" took="0.000000" ttfb="-" host="-" reason="client_gone"` + "\n"
	if got := line(Combined, AddressNone, &Record{
		Begun: time.Unix(0, 0).UTC(), Client: netip.MustParseAddr("::1"), Method: "GET", Path: "/x", Proto: "HTTP/2.0",
		Status: 499, Outcome: "error", Reason: "client_gone",
	}); got != bare {
		t.Errorf("got  %swant %s", got, bare)
	}
}

func TestAddresses(t *testing.T) {
	for _, c := range []struct {
		addr string
		a    Addresses
		want string
	}{
		{"203.0.113.77", AddressFull, "203.0.113.77"},
		{"203.0.113.77", AddressPrefix, "203.0.113.0"},
		{"203.0.113.77", AddressNone, "0.0.0.0"},
		{"127.0.0.1", AddressPrefix, "127.0.0.1"},
		{"::1", AddressPrefix, "::1"},
		{"127.0.0.1", AddressNone, "0.0.0.0"},
		{"::ffff:203.0.113.77", AddressPrefix, "203.0.113.0"},
		{"2001:db8:1:2:3:4:5:6", AddressFull, "2001:db8:1:2:3:4:5:6"},
		{"2001:db8:1:2:3:4:5:6", AddressPrefix, "2001:db8:1::"},
		{"fe80::1%eth0", AddressFull, "fe80::1"},
	} {
		r := sample()
		r.Client = netip.MustParseAddr(c.addr)
		if got, _, _ := strings.Cut(line(Combined, c.a, r), " "); got != c.want {
			t.Errorf("%s: %s, want %s", c.addr, got, c.want)
		}
	}
}

// hostile is what nobody may get into the structure of a log.
const hostile = "a\" 200 0 \"\\x22\n203.0.113.9 - - \x00\x7f\x80\xffé\u2028\u202e\t="

// bySlog is what log/slog writes for the record.
func bySlog(f Format, r *Record) string {
	var out bytes.Buffer
	var h slog.Handler = slog.NewTextHandler(&out, nil)
	if f == JSON {
		h = slog.NewJSONHandler(&out, nil)
	}
	h = h.WithAttrs([]slog.Attr{slog.String("role", "edge")})
	record := slog.NewRecord(r.end(), r.Level(), Message, 0)
	record.AddAttrs(r.Attrs(nil, AddressPrefix)...)
	_ = h.Handle(context.Background(), record)
	return out.String()
}

var combinedLine = regexp.MustCompile(`^[0-9a-f.:]+ - - \[[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4}\] "([ -!#-\[\]-~]|\\x[0-9A-F]{2})*" [0-9-]+ [0-9-]+( [a-z_]*=?"([ -!#-\[\]-~]|\\x[0-9A-F]{2})*")*\n$`)

func check(t *testing.T, r *Record) {
	t.Helper()
	for _, f := range []Format{Text, JSON} {
		if got, want := line(f, AddressPrefix, r), bySlog(f, r); got != want {
			t.Errorf("got  %q\nslog %q", got, want)
		}
	}
	if got := line(JSON, AddressFull, r); !json.Valid([]byte(got)) {
		t.Errorf("no JSON: %q", got)
	}
	got := line(Combined, AddressFull, r)
	if strings.Count(got, "\n") != 1 || !combinedLine.MatchString(got) {
		t.Errorf("broken line: %q", got)
	}
	for i := range len(got) - 1 {
		if got[i] < ' ' || got[i] > '~' {
			t.Errorf("byte %#x in %q", got[i], got)
		}
	}
}

// Text and JSON are what log/slog writes, and nothing a client sends ends a
// field or a line.
func TestAsSlogAndNotInjectable(t *testing.T) {
	check(t, sample())
	check(t, &Record{Begun: time.Unix(1, 1e6).In(time.FixedZone("x", 5400))})
	bad := sample()
	bad.Path, bad.Target, bad.Detail, bad.Reason = hostile, []byte(hostile), hostile, hostile
	bad.UserAgent, bad.Referer, bad.Method, bad.Status = []byte(hostile), []byte(hostile), hostile, 502
	bad.Site = `with \ and spaces`
	bad.More = []slog.Attr{slog.String("token", hostile), slog.Int("n", 3), slog.Duration("d", time.Second), slog.Bool("b", true)}
	check(t, bad)
	for b := range 256 {
		r := sample()
		r.Path, r.Detail = "/"+string([]byte{byte(b)})+"x", string(rune(b))
		check(t, r)
	}
}

func FuzzEncode(f *testing.F) {
	f.Add("GET", "/a b", "detail", int64(5), int64(1500), 200)
	f.Add(hostile, hostile, hostile, int64(math.MaxInt64), int64(-1), 599)
	f.Fuzz(func(t *testing.T, method, path, detail string, n, took int64, status int) {
		r := sample()
		r.Method, r.Path, r.Detail, r.Bytes, r.Took, r.Status = method, path, detail, n, time.Duration(took%int64(1e18)), status
		r.Target, r.UserAgent, r.Host, r.Site = []byte(path), []byte(detail), []byte(path), method
		check(t, r)
	})
}

func TestDuration(t *testing.T) {
	for d := time.Duration(1); d > 0 && d < 1<<62; d = d*3/2 + 1 {
		for _, d := range []time.Duration{d, d.Round(time.Microsecond), d.Round(time.Millisecond), d.Round(time.Second), d.Round(time.Minute)} {
			if got := string(appendDuration(nil, d)); got != d.String() {
				t.Errorf("%d: %s, want %s", d, got, d)
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	for _, f := range []Format{Text, JSON, Combined} {
		e := encoder{format: f, role: "edge"}
		b, r := make([]byte, 0, 4096), sample()
		if n := testing.AllocsPerRun(100, func() { b = e.append(b[:0], r) }); n != 0 {
			t.Errorf("format %d: %v allocations", f, n)
		}
	}
}

// hit is the usual record: a hit.
func hit() *Record {
	r := sample()
	r.Path, r.Outcome, r.Upstream, r.Referer = "/repo/objects/ab/cde.filez", "hit", Upstream{}, nil
	return r
}

func BenchmarkEncode(b *testing.B) {
	for name, f := range map[string]Format{"text": Text, "json": JSON, "combined": Combined} {
		b.Run(name, func(b *testing.B) {
			e := encoder{format: f, role: "edge"}
			buf, r := make([]byte, 0, 4096), hit()
			b.ReportAllocs()
			for b.Loop() {
				r.Begun = r.Begun.Add(10 * time.Microsecond)
				buf = e.append(buf[:0], r)
			}
		})
	}
}

func BenchmarkSlog(b *testing.B) {
	log, r := slog.New(slog.NewTextHandler(discard{}, nil)), hit()
	b.ReportAllocs()
	for b.Loop() {
		Slog(context.Background(), log, r)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkWrite(b *testing.B) {
	l, err := Open(Options{Format: Combined, Writer: discard{}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := hit()
		for pb.Next() {
			l.Write(r)
		}
	})
	b.ReportMetric(float64(l.Dropped()), "dropped")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}
