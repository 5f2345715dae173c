package role_test

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"freshet/internal/accesslog"
	"freshet/internal/role"

	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkNote is what a request costs to be seen: its line and its metrics.
func BenchmarkNote(b *testing.B) {
	for name, format := range map[string]accesslog.Format{"text": accesslog.Text, "combined": accesslog.Combined} {
		b.Run(name, func(b *testing.B) {
			lines, err := accesslog.Open(accesslog.Options{Format: format, Writer: io.Discard})
			if err != nil {
				b.Fatal(err)
			}
			access := role.NewAccess("edge", slog.New(slog.DiscardHandler), prometheus.NewRegistry()).To(lines.For("edge"))
			r := accesslog.Record{
				Begun: time.Now(), Client: netip.MustParseAddr("192.0.2.1"), Method: "GET", Path: "/repo/objects/ab/cdef.filez",
				Target: []byte("/repo/objects/ab/cdef.filez"), UserAgent: []byte("libostree/2026.1"), Status: 200, Bytes: 3000,
				Took: 40 * time.Microsecond, FirstByte: 40 * time.Microsecond, Outcome: "hit", Key: 0x1234567890abcdef,
			}
			b.ReportAllocs()
			for b.Loop() {
				access.Note(b.Context(), &r)
			}
			if err := lines.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
