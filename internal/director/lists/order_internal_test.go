package lists

import (
	"math"
	"slices"
	"testing"

	"freshet/internal/mirrorlist"
)

// Who is first, and who is second given the first, is drawn by weight: as one after the
// other is drawn from those that are left. The order that is expected is computed, the
// one that was found is compared with it by Pearson's test.
func TestByWeight(t *testing.T) {
	weights := []int64{10_000, 1000, 1000, 100, 0} // 0 counts as 1
	const rounds = 200_000
	var s shuffler
	s.seed(1)
	got := make(map[[3]mirrorlist.Host]int)
	for range rounds {
		hosts := []mirrorlist.Host{0, 1, 2, 3, 4}
		s.byWeight(hosts, func(h mirrorlist.Host) int64 { return weights[h] })
		got[[3]mirrorlist.Host(hosts)]++
		slices.Sort(hosts)
		if !slices.Equal(hosts, []mirrorlist.Host{0, 1, 2, 3, 4}) {
			t.Fatalf("somebody is lost: %v", hosts)
		}
	}
	weigh := func(h mirrorlist.Host) float64 { return float64(max(1, weights[h])) }
	var chi2 float64
	cells, rest, expectedRest := 0, 0, 0.0
	for a := range mirrorlist.Host(5) {
		for b := range mirrorlist.Host(5) {
			for c := range mirrorlist.Host(5) {
				if a == b || b == c || a == c {
					continue
				}
				total := weigh(0) + weigh(1) + weigh(2) + weigh(3) + weigh(4)
				p := weigh(a) / total * weigh(b) / (total - weigh(a)) * weigh(c) / (total - weigh(a) - weigh(b))
				seen, expected := got[[3]mirrorlist.Host{a, b, c}], p*rounds
				if expected < 20 {
					rest, expectedRest = rest+seen, expectedRest+expected
					continue
				}
				chi2 += (float64(seen) - expected) * (float64(seen) - expected) / expected
				cells++
			}
		}
	}
	chi2 += (float64(rest) - expectedRest) * (float64(rest) - expectedRest) / expectedRest
	// Mean and deviation of the distribution with as many degrees of freedom as there
	// are cells beside the rest. The seed is fixed: this holds, or never does.
	if most := float64(cells) + 5*math.Sqrt(2*float64(cells)); chi2 > most || cells < 10 {
		t.Errorf("chi² is %.1f over %d cells, want at most %.1f", chi2, cells, most)
	}
}

// Hosts that are there twice are drawn twice as often, and each of the equal ones is as
// likely at each place.
func TestEvenly(t *testing.T) {
	var s shuffler
	s.seed(2)
	const rounds = 60_000
	var places [4][4]int
	twice := 0
	for range rounds {
		hosts := []mirrorlist.Host{0, 1, 2, 3}
		s.evenly(hosts)
		for at, h := range hosts {
			places[at][h]++
		}
		double := []mirrorlist.Host{7, 8, 7}
		s.byWeight(double, func(mirrorlist.Host) int64 { return 100 })
		if double[0] == 7 {
			twice++
		}
	}
	near := func(got int, p float64) bool {
		return math.Abs(float64(got)-p*rounds) < 5*math.Sqrt(rounds*p*(1-p))
	}
	for at := range places {
		for h, n := range places[at] {
			if !near(n, 0.25) {
				t.Errorf("%d was %d times at place %d of %d", h, n, at, rounds)
			}
		}
	}
	if !near(twice, 2./3) {
		t.Errorf("the one that is there twice was first %d times of %d", twice, rounds)
	}
}

func BenchmarkByWeight(b *testing.B) {
	var s shuffler
	s.seed(3)
	hosts := make([]mirrorlist.Host, 150)
	for i := range hosts {
		hosts[i] = mirrorlist.Host(i)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.byWeight(hosts, func(h mirrorlist.Host) int64 { return int64(h) * 10 })
	}
}
