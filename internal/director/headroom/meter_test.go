package headroom_test

import (
	"math"
	"testing"
	"time"

	"freshet/internal/director/headroom"
)

func TestMeter(t *testing.T) {
	var m headroom.Meter
	sum, at := int64(5e12), begin // what was counted before says nothing
	after := func(megabytes int64, long time.Duration) float64 {
		at = at.Add(long)
		sum += megabytes * 1e6
		return m.Measure(sum, at, 1000)
	}
	if got := after(0, 0); got != 0 {
		t.Errorf("at the beginning the load is %v", got)
	}
	for range 120 {
		after(625, 10*time.Second) // 500 Mbit/s
	}
	if got := after(625, 10*time.Second); math.Abs(got-0.5) > 0.01 {
		t.Errorf("with half of its capacity the load is %v", got)
	}
	if got := after(4000, 10*time.Second); got < 0.6 || got > 0.8 {
		t.Errorf("after one image it is %v", got)
	}
	for range 120 {
		after(5000, 10*time.Second)
	}
	if got := after(5000, 10*time.Second); got != 1 {
		t.Errorf("with four times its capacity it is %v", got)
	}
	if got := after(0, time.Hour); got > 0.001 {
		t.Errorf("after an hour of silence it is %v", got)
	}
	if got := m.Measure(7, at.Add(time.Second), 1000); got > 0.001 {
		t.Errorf("counted anew it is %v", got)
	}
	if got := m.Measure(1e12, at.Add(-time.Hour), 1000); got > 0.001 {
		t.Errorf("when time goes backwards it is %v", got)
	}
	if got := m.Measure(1e15, at.Add(2*time.Second), 0); got != 0 {
		t.Errorf("without a capacity it is %v", got)
	}
}
