package push

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"freshet/api/hubapi"
)

func TestBatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.Int64Range(0, 3000), 0, 5000).Draw(t, "sizes")
		limit := rapid.Int64Range(1, 20000).Draw(t, "limit")
		parts := make([]hubapi.Part, len(sizes))
		for i, size := range sizes {
			parts[i] = hubapi.Part{Name: fmt.Sprint(i), Size: size}
		}
		next := 0
		for batch := range batches(parts, limit) {
			var bytes int64
			for _, part := range batch {
				if part.Name != fmt.Sprint(next) {
					t.Fatalf("part %s where %d was due", part.Name, next)
				}
				next++
				bytes += part.Size + partOverhead
			}
			if len(batch) > 1 && bytes > limit || len(batch) > maxParts || len(batch) == 0 {
				t.Fatalf("batch of %d parts, %d bytes, limit %d", len(batch), bytes, limit)
			}
			if next < len(parts) && len(batch) < maxParts && bytes+parts[next].Size+partOverhead <= limit {
				t.Fatalf("part %d would have fitted", next)
			}
		}
		if next != len(parts) {
			t.Fatalf("%d of %d parts", next, len(parts))
		}
	})
}

func TestStaysInside(t *testing.T) {
	for _, test := range []struct {
		at, target string
		want       bool
	}{
		{"a", "b", true},
		{"a", "./b//c/", true},
		{"a", ".", true},
		{"d/a", "..", true},
		{"d/a", "../b", true},
		{"d/e/a", "../../b", true},
		{"d/e/a", ".././../b", true},
		{"a", "..b", true},
		{"a", "", false},
		{"a", "..", false},
		{"a", "/b", false},
		{"d/a", "../../b", false},
		{"d/e/a", "x/../y", false}, // x may be a link that leads up
		{"a", "b\xff", false},
	} {
		if got := staysInside(test.at, test.target); got != test.want {
			t.Errorf("staysInside(%q, %q) = %v", test.at, test.target, got)
		}
	}
}

func TestLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := NewLines(&b, 5*time.Second)
		p.Start("uploading", 10<<20)
		for range 12 {
			time.Sleep(time.Second)
			p.Set((12 << 20) / 16)
		}
		p.Line("hub says\x1b[2J\nhello")
		p.Set(10 << 20)
		p.Finish()
		p.Start("uploading", 100)
		p.Set(40)
		p.Finish()
		p.Start("uploading nothing", 0)
		p.Finish()
		want := "uploading: 786 kB of 10 MB (7%), 157 kB/s, 1m2s left\n" +
			"uploading: 786 kB of 10 MB (7%), 79 kB/s, 2m3s left\n" +
			"hub says�[2J�hello\n" +
			"uploading: 10 MB in 12s (874 kB/s)\n" +
			"uploading: stopped after 40 B of 100 B\n"
		if b.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", &b, want)
		}
	})
}

// The rate is that of the last seconds, whatever came before.
func TestPace(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	p := newPace("uploading", 1000<<20, start)
	if s := p.ahead(at(0.1)); s != "" {
		t.Errorf("before anything is known: %q", s)
	}
	for second := range 3600 { // an hour of waiting
		p.set(0, at(float64(second)))
	}
	if s := p.ahead(at(3600)); s != "" {
		t.Errorf("nothing moved: %q", s)
	}
	for i := range 200 { // then 10 MiB/s, told ten times a second
		p.set(int64(i)<<20, at(3600+float64(i)/10))
	}
	if s := p.ahead(at(3619.9)); s != ", 10 MB/s, 1m20s left" {
		t.Errorf("%q", s)
	}
	if len(p.samples) > 25 {
		t.Errorf("%d samples are kept", len(p.samples))
	}
	p.set(10<<20, at(3620)) // much has to be sent again
	if s := p.ahead(at(3620)); s != "" {
		t.Errorf("%q", s)
	}
}

func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := &barProgress{w: &b}
		p.Set(1) // before a step: nothing
		p.Start("uploading", 1<<20)
		time.Sleep(time.Second)
		p.Set(1 << 19)
		time.Sleep(time.Second)
		p.Set(1 << 18) // something is sent again
		p.Line("a line")
		time.Sleep(time.Second)
		p.Set(1 << 20)
		p.Finish()
		p.Start("nothing", 0)
		p.Finish()
		s := b.String()
		for _, text := range []string{
			"uploading: 524 kB of 1.0 MB, 524 kB/s, 1s left", "  50% |", "uploading: 262 kB of 1.0 MB, 131 kB/s, 6s left",
			"a line\n", "uploading: 1.0 MB in 3s (350 kB/s)\n",
		} {
			if !strings.Contains(s, text) {
				t.Errorf("no %q in %q", text, s)
			}
		}
		for _, text := range []string{"nothing", "[", "NaN"} {
			if strings.Contains(s, text) {
				t.Errorf("%q in %q", text, s)
			}
		}
	})
}
