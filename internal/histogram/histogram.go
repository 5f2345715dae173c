// Package histogram counts durations for Prometheus, in buckets that need no
// configuration: eight to each doubling (9 % wide) for those who read native
// histograms, and some of their bounds as classic buckets for everybody else,
// so that both say the same.
//
// To note a duration takes two atomic additions and no lock.
package histogram

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	// schema is Prometheus's word for bounds at 2^(i/8) seconds.
	schema = 3
	// perOctave buckets lie between a bound and its double.
	perOctave = 1 << schema
	// lowest and highest are the exponents of two between which durations, in
	// seconds, are told apart: 1 µs and 73 minutes.
	lowest, highest = -20, 12
	// buckets is one for what is below, those between, and one for all above.
	buckets = (highest-lowest)*perOctave + 2
)

// classic are the exponents of two of the classic buckets: from 15 µs by fours
// to 64 s.
const (
	classicFirst, classicLast, classicStep = -16, 6, 2
)

// A Histogram counts durations. It is a [prometheus.Collector] and is safe for
// concurrent use.
type Histogram struct {
	desc   *prometheus.Desc
	labels []*dto.LabelPair
	bounds *[buckets - 1]int64

	counts [buckets]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

// New returns a histogram of that name.
func New(opts prometheus.Opts) *Histogram {
	return newHistogram(prometheus.NewDesc(prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name), opts.Help, nil, opts.ConstLabels),
		opts.ConstLabels, nil, nil, boundsOf())
}

func newHistogram(desc *prometheus.Desc, fixed prometheus.Labels, names, values []string, bounds *[buckets - 1]int64) *Histogram {
	h := &Histogram{desc: desc, bounds: bounds}
	h.labels = prometheus.MakeLabelPairs(prometheus.NewDesc("x", "x", names, fixed), values)
	return h
}

// boundsOf returns the upper bounds of all buckets but the last, in
// nanoseconds: a duration d is in the first whose bound it does not exceed.
func boundsOf() *[buckets - 1]int64 {
	var b [buckets - 1]int64
	for i := range b {
		b[i] = int64(math.Floor(math.Exp2(lowest+float64(i)/perOctave) * 1e9))
	}
	return &b
}

// Observe counts d. What is negative counts as zero.
func (h *Histogram) Observe(d time.Duration) {
	ns := max(int64(d), 0)
	h.counts[bucketOf(h.bounds, ns)].Add(1)
	h.sum.Add(ns)
}

// A Scale tells durations apart as histograms do, for those who count themselves.
type Scale struct{ bounds *[buckets - 1]int64 }

// NewScale returns a scale. It may be used by several goroutines at once.
func NewScale() Scale { return Scale{boundsOf()} }

// Index returns the bucket of d: i, where 2^((i-1)/8) seconds are less than d, and 2^(i/8)
// are not, as in schema 3 of Prometheus's native histograms. What is below 1 µs or above
// 68 minutes is in the first or last of them.
func (s Scale) Index(d time.Duration) int {
	return bucketOf(s.bounds, max(int64(d), 0)) + lowest*perOctave
}

// bucketOf finds the bucket of ns nanoseconds.
func bucketOf(bounds *[buckets - 1]int64, ns int64) int {
	if ns <= bounds[0] {
		return 0
	}
	if ns > bounds[buckets-2] {
		return buckets - 1
	}
	// An octave of nanoseconds meets two of seconds: begin at the lowest bucket
	// that can be the one, and go up.
	i := max((bits.Len64(uint64(ns))-1-30-lowest)*perOctave, 1)
	for step := perOctave; step > 0; step /= 2 {
		for i+step-1 < buckets-2 && bounds[i+step-1] < ns {
			i += step
		}
	}
	return i
}

// Describe implements [prometheus.Collector].
func (h *Histogram) Describe(ch chan<- *prometheus.Desc) { ch <- h.desc }

// Collect implements [prometheus.Collector].
func (h *Histogram) Collect(ch chan<- prometheus.Metric) { ch <- h }

// Desc implements [prometheus.Metric].
func (h *Histogram) Desc() *prometheus.Desc { return h.desc }

// Write implements [prometheus.Metric].
func (h *Histogram) Write(out *dto.Metric) error {
	var counts [buckets]uint64
	var total uint64
	for i := range counts {
		counts[i] = h.counts[i].Load()
		total += counts[i]
	}
	m := &dto.Histogram{
		SampleCount: new(total), SampleSum: new(float64(h.sum.Load()) / 1e9),
		Schema: new(int32(schema)), ZeroThreshold: new(math.Exp2(lowest)), ZeroCount: new(counts[0]),
	}
	// A bucket of index i of the schema ends at 2^(i/8); ours of that bound has
	// the index i - lowest*8. What is above all stays in the next bucket.
	var span *dto.BucketSpan
	var last int64
	next := int32(0)
	for i := 1; i < buckets; i++ {
		if counts[i] == 0 {
			continue
		}
		index := int32(i + lowest*perOctave)
		if span == nil || index != next {
			span = &dto.BucketSpan{Offset: new(index - next), Length: new(uint32(0))}
			m.PositiveSpan = append(m.PositiveSpan, span)
		}
		*span.Length++
		m.PositiveDelta = append(m.PositiveDelta, int64(counts[i])-last)
		last, next = int64(counts[i]), index+1
	}
	if len(m.PositiveSpan) == 0 && counts[0] == 0 {
		// An empty span is how an empty native histogram is told from none.
		m.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}}
	}
	var below uint64
	at := 0
	for exp := classicFirst; exp <= classicLast; exp += classicStep {
		for ; at <= (exp-lowest)*perOctave; at++ {
			below += counts[at]
		}
		m.Bucket = append(m.Bucket, &dto.Bucket{CumulativeCount: new(below), UpperBound: new(math.Exp2(float64(exp)))})
	}
	out.Histogram, out.Label = m, h.labels
	return nil
}

// A Vec is histograms of one name by the values of a label. All its values are
// known from the start, so that none is ever missing.
type Vec struct {
	desc *prometheus.Desc
	all  []*Histogram
}

// NewVec returns a histogram for each value of the label.
func NewVec(opts prometheus.Opts, label string, values ...string) *Vec {
	names := []string{label}
	bounds := boundsOf()
	v := &Vec{desc: prometheus.NewDesc(prometheus.BuildFQName(opts.Namespace, opts.Subsystem, opts.Name), opts.Help, names, opts.ConstLabels)}
	for _, value := range values {
		v.all = append(v.all, newHistogram(v.desc, opts.ConstLabels, names, []string{value}, bounds))
	}
	return v
}

// At returns the histogram of the i-th value.
func (v *Vec) At(i int) *Histogram { return v.all[i] }

// Describe implements [prometheus.Collector].
func (v *Vec) Describe(ch chan<- *prometheus.Desc) { ch <- v.desc }

// Collect implements [prometheus.Collector].
func (v *Vec) Collect(ch chan<- prometheus.Metric) {
	for _, h := range v.all {
		ch <- h
	}
}
