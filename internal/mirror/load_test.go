package mirror

import (
	"math"
	"testing"
	"time"
)

func TestMeter(t *testing.T) {
	at, sent := time.Unix(1795294800, 0), int64(0)
	m := meter{sent: func() int64 { return sent }}
	const capacity = 125e6 // 1 Gbit/s
	if load, known := m.load(capacity); known {
		t.Errorf("nothing was measured, and the load is %v", load)
	}
	pass := func(times int, rate int64) float64 {
		for range times {
			m.measure(at)
			at = at.Add(measureEvery)
			sent += rate * int64(measureEvery/time.Second)
		}
		load, known := m.load(capacity)
		if !known {
			t.Error("the load is not known")
		}
		return load
	}
	if load := pass(20, 0); load != idle {
		t.Errorf("idle, the load is %v", load)
	}
	if load := pass(20, 100e6); math.Abs(load-0.8) > 0.01 {
		t.Errorf("at 800 Mbit/s the load is %v", load)
	}
	if load := pass(4, 0); load < 0.3 || load > 0.5 {
		t.Errorf("a quarter of a minute later it is %v", load)
	}
	if load := pass(20, 500e6); load != 1 {
		t.Errorf("at four times the capacity it is %v", load)
	}
	if load, known := m.load(0); known {
		t.Errorf("without a capacity it is %v", load)
	}
}
