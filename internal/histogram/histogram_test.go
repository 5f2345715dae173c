package histogram

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Every duration is in the bucket that Prometheus means by its index, and the
// classic buckets count the same.
func TestAgreesWithPrometheus(t *testing.T) {
	ours := New(prometheus.Opts{Name: "ours"})
	var bounds []float64
	for exp := classicFirst; exp <= classicLast; exp += classicStep {
		bounds = append(bounds, math.Exp2(float64(exp)))
	}
	theirs := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "theirs", Buckets: bounds, NativeHistogramBucketFactor: 1.1, NativeHistogramZeroThreshold: math.Exp2(lowest),
	})
	note := func(d time.Duration) {
		ours.Observe(d)
		theirs.Observe(float64(d) / 1e9)
	}
	for range 20000 {
		note(time.Duration(math.Exp(rand.Float64() * math.Log(70*60e9))))
	}
	for _, b := range boundsOf() { // where rounding could err
		note(time.Duration(b))
		note(time.Duration(b) + 1)
	}
	note(0)
	a, b := written(t, ours), written(t, theirs)
	if a.GetSampleCount() != b.GetSampleCount() || a.GetZeroCount() != b.GetZeroCount() || a.GetSchema() != b.GetSchema() {
		t.Errorf("count %d, zero %d, schema %d; want %d, %d, %d", a.GetSampleCount(), a.GetZeroCount(), a.GetSchema(),
			b.GetSampleCount(), b.GetZeroCount(), b.GetSchema())
	}
	if d := a.GetSampleSum()/b.GetSampleSum() - 1; math.Abs(d) > 1e-9 {
		t.Errorf("sum %v, want %v", a.GetSampleSum(), b.GetSampleSum())
	}
	x, y := native(a), native(b)
	for i := range y {
		if x[i] != y[i] {
			t.Errorf("bucket %d has %d, want %d", i, x[i], y[i])
		}
	}
	if len(x) != len(y) {
		t.Errorf("%d buckets, want %d", len(x), len(y))
	}
	for i, c := range b.GetBucket() {
		if got := a.GetBucket()[i]; got.GetCumulativeCount() != c.GetCumulativeCount() || got.GetUpperBound() != c.GetUpperBound() {
			t.Errorf("classic bucket %v, want %v", got, c)
		}
	}
}

func TestEmptyAndExtreme(t *testing.T) {
	h := New(prometheus.Opts{Name: "h"})
	if m := written(t, h); m.GetSampleCount() != 0 || len(m.GetPositiveSpan()) != 1 {
		t.Errorf("empty: %v", m)
	}
	h.Observe(-5)
	h.Observe(math.MaxInt64)
	h.Observe(0)
	if m := written(t, h); m.GetSampleCount() != 3 || m.GetZeroCount() != 2 || m.GetBucket()[0].GetCumulativeCount() != 2 {
		t.Errorf("extremes: %v", m)
	}
}

func TestVec(t *testing.T) {
	v := NewVec(prometheus.Opts{Name: "v_seconds", Help: "h", ConstLabels: prometheus.Labels{"role": "edge"}}, "outcome", "hit", "miss")
	v.At(1).Observe(time.Second)
	reg := prometheus.NewPedanticRegistry()
	reg.MustRegister(v)
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || len(families[0].GetMetric()) != 2 {
		t.Fatalf("%v, %v", families, err)
	}
	m := families[0].GetMetric()[1]
	if m.GetHistogram().GetSampleCount() != 1 || m.GetLabel()[0].GetValue() != "miss" || m.GetLabel()[1].GetValue() != "edge" {
		t.Errorf("%v", m)
	}
}

func written(t *testing.T, m prometheus.Metric) *dto.Histogram {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetHistogram()
}

func native(h *dto.Histogram) map[int32]int64 {
	out := make(map[int32]int64)
	var index int32
	var count int64
	at := 0
	for _, s := range h.GetPositiveSpan() {
		index += s.GetOffset()
		for range s.GetLength() {
			count += h.GetPositiveDelta()[at]
			out[index] = count
			at, index = at+1, index+1
		}
	}
	return out
}

func BenchmarkObserve(b *testing.B) {
	h := New(prometheus.Opts{Name: "h"})
	b.RunParallel(func(pb *testing.PB) {
		d := time.Duration(17000)
		for pb.Next() {
			h.Observe(d)
			d += 131
		}
	})
}
