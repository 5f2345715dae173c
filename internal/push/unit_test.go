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
		want := "uploading: 10.0 MiB\n" +
			"uploading: 768.0 KiB of 10.0 MiB (7%), 153.6 KiB/s, 1m2s left\n" +
			"uploading: 768.0 KiB of 10.0 MiB (7%), 76.8 KiB/s, 2m3s left\n" +
			"hub says�[2J�hello\n" +
			"uploading: 10.0 MiB in 12s (853.3 KiB/s)\n" +
			"uploading: 100 B\n" +
			"uploading: stopped after 40 B of 100 B\n"
		if b.String() != want {
			t.Errorf("got:\n%s\nwant:\n%s", &b, want)
		}
	})
}

func TestBar(t *testing.T) {
	var b bytes.Buffer
	p := &barProgress{w: &b}
	p.Set(1) // before a step: nothing
	p.Start("uploading", 1<<20)
	p.Set(1 << 19)
	p.Set(1 << 18) // something is sent again
	p.Line("a line")
	p.Set(1 << 20)
	p.Finish()
	p.Start("nothing", 0)
	p.Finish()
	if s := b.String(); !strings.Contains(s, "uploading") || !strings.Contains(s, "a line\n") || !strings.Contains(s, "100%") {
		t.Errorf("%q", s)
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1023 << 10: "1.0 MiB", 1 << 40: "1.0 TiB", 5 << 60: "5120.0 PiB",
	} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
