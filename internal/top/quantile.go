package top

import (
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// bucket is one of a histogram: how many were within its bounds, in seconds.
type bucket struct{ low, high, count float64 }

// buckets returns the buckets of h, lowest first, from the native ones if there
// are any.
func buckets(h *dto.Histogram) []bucket {
	if h == nil {
		return nil
	}
	if h.Schema == nil {
		return classicBuckets(h)
	}
	out := []bucket{{0, h.GetZeroThreshold(), float64(h.GetZeroCount())}}
	base := math.Exp2(math.Exp2(-float64(h.GetSchema())))
	var index int32
	var count int64
	at := 0
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			if at == len(h.GetPositiveDelta()) {
				return out // not well formed
			}
			count += h.GetPositiveDelta()[at]
			high := math.Pow(base, float64(index))
			out = append(out, bucket{high / base, high, float64(count)})
			at, index = at+1, index+1
		}
	}
	return out
}

func classicBuckets(h *dto.Histogram) []bucket {
	var out []bucket
	var low, below float64
	for _, b := range h.GetBucket() {
		high := b.GetUpperBound()
		if math.IsInf(high, 1) {
			high = 2 * low
		}
		out = append(out, bucket{low, high, float64(b.GetCumulativeCount()) - below})
		low, below = b.GetUpperBound(), float64(b.GetCumulativeCount())
	}
	if rest := float64(h.GetSampleCount()) - below; rest > 0 {
		out = append(out, bucket{low, 2 * low, rest})
	}
	return out
}

// since returns what came to now after before. A histogram that counts less
// than before began anew.
func since(now, before *dto.Histogram) []bucket {
	list := buckets(now)
	if before == nil || now.GetSampleCount() < before.GetSampleCount() {
		return list
	}
	old := make(map[float64]float64)
	for _, b := range buckets(before) {
		old[b.high] += b.count
	}
	for i, b := range list {
		list[i].count = max(b.count-old[b.high], 0)
	}
	return list
}

// quantile is below which the part q of all is; false if there are none.
func quantile(list []bucket, q float64) (time.Duration, bool) {
	var total float64
	for _, b := range list {
		total += b.count
	}
	if total == 0 {
		return 0, false
	}
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b bucket) int {
		switch {
		case a.high < b.high:
			return -1
		case a.high > b.high:
			return 1
		}
		return 0
	})
	rank := q * total
	for _, b := range list {
		if rank > b.count || b.count == 0 {
			rank -= b.count
			continue
		}
		at := b.low + (b.high-b.low)*rank/b.count
		if b.low > 0 { // buckets grow by factors, so do the values within
			at = b.low * math.Pow(b.high/b.low, rank/b.count)
		}
		return time.Duration(at * 1e9), true
	}
	return time.Duration(list[len(list)-1].high * 1e9), true
}
