package generation_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"freshet/internal/durable"
	"freshet/internal/mirror/generation"
)

// BenchmarkPlace stages a small file that has arrived, and its part of the commit.
func BenchmarkPlace(b *testing.B) {
	s := open(b, b.TempDir())
	st, err := project(b, s).Stage(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	names := make([]string, 0, b.N)
	for i := range b.N {
		_, data := benchFile(i, benchFiles)
		temp := durable.TempName()
		if err := os.WriteFile(filepath.Join(st.Incoming(), temp), data, 0o644); err != nil {
			b.Fatal(err)
		}
		names = append(names, temp)
	}
	before := cpu()
	b.ResetTimer()
	for i := range b.N {
		f, _ := benchFile(i, benchFiles)
		if _, err := st.Place(f, names[i]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "place-cpu-ns")
	if _, err := st.Commit(b.Context(), generation.Meta{}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

// cpu is the time of the processor that the process has used.
func cpu() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return syscall.TimevalToNsec(u.Utime) + syscall.TimevalToNsec(u.Stime)
}
