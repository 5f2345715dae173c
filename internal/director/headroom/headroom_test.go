package headroom_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"freshet/internal/director/headroom"
)

var begin = time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)

// report tells the same load every 30 seconds for a while, and returns the end of it.
func report(g *headroom.Governor, load float64, from time.Time, long time.Duration) time.Time {
	for at := from; at.Before(from.Add(long)); at = at.Add(30 * time.Second) {
		g.Report(load, at)
	}
	return from.Add(long)
}

func TestGovernor(t *testing.T) {
	var g headroom.Governor
	at := report(&g, 0.69, begin, time.Hour)
	if got := g.Shed(at); got != 0 {
		t.Errorf("a load of 0.69 sheds %v", got)
	}
	at = report(&g, 1, at, 3*time.Minute+30*time.Second)
	if got := g.Shed(at); got < 0.4 || got > 0.55 {
		t.Errorf("full for three minutes, it sheds %v", got)
	}
	at = report(&g, 0.65, at, time.Minute) // the load comes down into the band
	before := g.Shed(at)
	if at = report(&g, 0.65, at, time.Hour); g.Shed(at) != before {
		t.Errorf("in the band between the limits it changes from %v to %v", before, g.Shed(at))
	}
	at = report(&g, 1, at, time.Hour)
	if got := g.Shed(at); got < 0.9 || got > 0.98 {
		t.Errorf("full for an hour, it sheds %v", got)
	}
	at = report(&g, 0.2, at, 10*time.Minute)
	if got := g.Shed(at); got < 0.4 || got > 0.6 {
		t.Errorf("with room for ten minutes, it sheds %v", got)
	}
	at = report(&g, 0.2, at, 12*time.Minute)
	if got := g.Shed(at); got != 0 {
		t.Errorf("with room for twenty minutes, it sheds %v", got)
	}
}

// A single report of a full minute, such as while a scan runs, changes next to nothing.
func TestSpike(t *testing.T) {
	var g headroom.Governor
	at := report(&g, 0.5, begin, 10*time.Minute)
	g.Report(1, at)
	at = report(&g, 0.5, at.Add(30*time.Second), time.Minute)
	if got := g.Shed(at); got > 0.06 {
		t.Errorf("after a spike it sheds %v", got)
	}
}

// A mirror that is silent is given all again, but not at once.
func TestSilence(t *testing.T) {
	var g headroom.Governor
	at := report(&g, 1, begin, time.Hour)
	full := g.Shed(at)
	if got := g.Shed(at.Add(4 * time.Minute)); got != full {
		t.Errorf("after four minutes of silence it sheds %v, and %v before", got, full)
	}
	if got := g.Shed(at.Add(15 * time.Minute)); got < 0.4 || got > 0.6 {
		t.Errorf("after a quarter of an hour of silence it sheds %v", got)
	}
	if _, known := g.Load(at.Add(15 * time.Minute)); known {
		t.Error("its load is still believed")
	}
	g.Report(0.65, at.Add(16*time.Minute))
	if got := g.Shed(at.Add(16 * time.Minute)); got < 0.35 || got > 0.55 {
		t.Errorf("when it speaks again it sheds %v", got)
	}
	if got := g.Shed(at.Add(24 * time.Hour)); got != 0 {
		t.Errorf("after a day of silence it sheds %v", got)
	}
}

// One that comes back begins small, whether or not it ever tells its load.
func TestBack(t *testing.T) {
	var g headroom.Governor
	g.Back(begin)
	for after, want := range map[time.Duration]float64{0: 0.75, 5 * time.Minute: 0.75, 15 * time.Minute: 0.25, 25 * time.Minute: 0} {
		silent := g
		if got := silent.Shed(begin.Add(after)); math.Abs(got-want) > 0.02 {
			t.Errorf("%v later it sheds %v, want %v", after, got, want)
		}
	}
	at := report(&g, 0.2, begin.Add(time.Second), 16*time.Minute)
	if got := g.Shed(at); got != 0 {
		t.Errorf("with room for a quarter of an hour it sheds %v", got)
	}
	report(&g, 1, at, time.Hour)
	g.Back(at.Add(time.Hour))
	if got := g.Shed(at.Add(time.Hour)); got < 0.9 {
		t.Errorf("what was loaded before sheds %v", got)
	}
}

// Whatever is reported, and when: what is shed is a part, and does not jump up.
func TestGovernorHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g headroom.Governor
		at, before := begin, 0.0
		for range rapid.IntRange(1, 50).Draw(t, "reports") {
			at = at.Add(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Hour)).Draw(t, "after")))
			if rapid.IntRange(0, 19).Draw(t, "back") == 0 {
				g.Back(at)
				before = 1
			}
			g.Report(rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1), rapid.Just(math.NaN())).Draw(t, "load"), at)
			shed := g.Shed(at)
			if !(shed >= 0 && shed <= 0.98) || shed > before+0.25 {
				t.Fatalf("%v is shed, after %v", shed, before)
			}
			if load, known := g.Load(at); known && !(load >= 0 && load <= 1) {
				t.Fatalf("its load is %v", load)
			}
			before = shed
		}
	})
}
