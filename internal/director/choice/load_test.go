package choice_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"freshet/internal/director/choice"
	"freshet/internal/director/headroom"
)

// simulation is a region whose clients download from the mirrors that they are given,
// second by second. Each download takes its mirror's bandwidth for a minute: that of a
// change shows late. Mirrors tell their load every half minute.
type simulation struct {
	mirrors   []choice.Mirror
	governors []headroom.Governor
	meters    []headroom.Meter
	given     []int64 // bytes by mirror
	silent    bool    // mirrors tell nothing: their loads are estimated
	chooser   *choice.Chooser
	chance    *rand.Rand
	now       time.Time
	seconds   int
	active    []float64 // Mbit/s by mirror
	ends      [][]int   // by second, modulo its length: the mirrors whose downloads end
	picks     []choice.Pick
	request   choice.Request
}

const (
	lasts = 60 // seconds
	rate  = 40 // Mbit/s of a download
	every = 30 // seconds between two reports
)

func newSimulation(mirrors []choice.Mirror) *simulation {
	return &simulation{
		mirrors: mirrors, governors: make([]headroom.Governor, len(mirrors)), meters: make([]headroom.Meter, len(mirrors)), given: make([]int64, len(mirrors)), chooser: choice.New(mirrors), chance: rand.New(rand.NewPCG(1, 2)),
		now: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC), active: make([]float64, len(mirrors)), ends: make([][]int, lasts),
		request: choice.Request{Client: from("AT"), Most: 1},
	}
}

// load is how busy a mirror is; above 1 it is as much as it cannot do.
func (s *simulation) load(i int) float64 { return s.active[i] / float64(s.mirrors[i].Capacity) }

// second lets downloads begin that make up a demand, in Mbit/s, if it lasts.
func (s *simulation) second(demand float64) {
	s.now = s.now.Add(time.Second)
	s.seconds++
	for _, i := range s.ends[s.seconds%lasts] {
		s.active[i] -= rate
	}
	begun := s.ends[s.seconds%lasts][:0]
	begins := demand / rate / lasts
	count := int(begins)
	if s.chance.Float64() < begins-float64(count) {
		count++
	}
	for range count {
		s.request.Seed = s.chance.Uint64()
		s.picks = s.chooser.Choose(s.picks, &s.request)
		i := s.picks[0].Mirror
		s.active[i] += rate
		s.given[i] += rate * lasts * 1e6 / 8
		begun = append(begun, i)
	}
	s.ends[s.seconds%lasts] = begun
	s.report()
}

// report lets those mirrors tell their load whose turn it is.
func (s *simulation) report() {
	changed := false
	for i := range s.mirrors {
		if (s.seconds+7*i)%every != 0 {
			continue
		}
		load := s.load(i)
		if s.silent {
			load = s.meters[i].Measure(s.given[i], s.now, s.mirrors[i].Capacity)
		}
		s.governors[i].Report(load, s.now)
		if shed := s.governors[i].Shed(s.now); shed != s.mirrors[i].Shed {
			s.mirrors[i].Shed = shed
			changed = true
		}
	}
	if changed {
		s.change()
	}
}

// seen is what was seen of a mirror over a time.
type seen struct{ mean, least, most, deviation float64 }

// watch runs for a while, and says what was seen of the load of each mirror.
func (s *simulation) watch(demand float64, long time.Duration) []seen {
	sum, squares := make([]float64, len(s.mirrors)), make([]float64, len(s.mirrors))
	all := make([]seen, len(s.mirrors))
	for i := range all {
		all[i].least = math.Inf(1)
	}
	n := 0.0
	for range int(long / time.Second) {
		s.second(demand)
		n++
		for i := range all {
			load := s.load(i)
			sum[i] += load
			squares[i] += load * load
			all[i].least, all[i].most = min(all[i].least, load), max(all[i].most, load)
		}
	}
	for i := range all {
		all[i].mean = sum[i] / n
		all[i].deviation = math.Sqrt(max(0, squares[i]/n-all[i].mean*all[i].mean))
	}
	return all
}

// fail makes a mirror fail, and back makes it come back.
func (s *simulation) fail(i int) {
	down("gone")(&s.mirrors[i])
	s.change()
}

func (s *simulation) back(i int) {
	down("")(&s.mirrors[i])
	s.governors[i].Back(s.now)
	s.mirrors[i].Shed = s.governors[i].Shed(s.now)
	s.change()
}

// change makes a new chooser of the mirrors as they are now.
func (s *simulation) change() {
	s.chooser = choice.New(append([]choice.Mirror(nil), s.mirrors...))
}

// within checks what was seen of mirrors: the means of their loads, and the highest.
func within(t *testing.T, what string, all []seen, from, to, most float64) {
	t.Helper()
	for i, l := range all {
		if l.mean < from || l.mean > to || l.most > most {
			t.Errorf("%s, mirror %d: the load is %.2f, at most %.2f; it must be %v to %v, and at most %v", what, i, l.mean, l.most, from, to, most)
		}
	}
}

// Three mirrors are near, ten far away. Clients want little; then twice what the near ones
// can do; then one of these fails, and comes back; and all is quiet again.
func TestRegionUnderLoad(t *testing.T) {
	all := []choice.Mirror{mirror("near1", "AT", capacity(10000)), mirror("near2", "AT", capacity(5000)), mirror("near3", "AT", capacity(2500))}
	for i := range 10 {
		all = append(all, mirror(fmt.Sprintf("far%d", i), "FI", capacity(10000)))
	}
	const little, much = 8000, 35000 // Mbit/s
	s := newSimulation(all)

	s.watch(little, 10*time.Minute)
	quiet := s.watch(little, 20*time.Minute)
	within(t, "little, near", quiet[:3], 0.4, 0.52, 0.95)
	within(t, "little, far", quiet[3:], 0, 0, 0)

	s.watch(much, 30*time.Minute)
	busy := s.watch(much, 30*time.Minute)
	within(t, "much, near", busy[:3], 0.58, 0.76, 1.3)
	within(t, "much, far", busy[3:], 0.2, 0.27, 0.4)
	if d := busy[0].deviation; d > 0.07 {
		t.Errorf("the load of a near mirror swings by %.2f", d)
	}

	s.fail(0)
	failing := s.watch(much, 30*time.Minute)
	within(t, "one fails, near", failing[1:3], 0.6, 0.9, 1.4)
	within(t, "one fails, far", failing[3:], 0.24, 0.36, 0.5)
	failed := s.watch(much, 30*time.Minute)
	within(t, "one is gone, near", failed[1:3], 0.58, 0.76, 1.3)

	s.back(0)
	within(t, "one comes back", s.watch(much, 30*time.Minute)[:1], 0.5, 0.8, 1.1)
	within(t, "one is back", s.watch(much, 30*time.Minute)[:3], 0.58, 0.76, 1.3)

	s.watch(little, 30*time.Minute)
	calm := s.watch(little, 20*time.Minute)
	within(t, "little again, near", calm[:3], 0.4, 0.52, 0.95)
	within(t, "little again, far", calm[3:], 0, 0, 0)
}

// A mirror that is alone on its continent is given no more than it can do. What is too much
// goes elsewhere. That is so as well when nobody tells a load.
func TestAloneOnTheContinent(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent=%t", silent), func(t *testing.T) { testAlone(t, silent) })
	}
}

func testAlone(t *testing.T, silent bool) {
	all := []choice.Mirror{mirror("alone", "JP", capacity(8000)), mirror("west", "US", capacity(80000)), mirror("north", "FI", capacity(80000))}
	s := newSimulation(all)
	s.request.Client, s.silent = from("IN"), silent
	s.watch(40000, 40*time.Minute)
	got := s.watch(40000, 40*time.Minute)
	within(t, "alone", got[:1], 0.6, 0.75, 1.1)
	if rest := (got[1].mean + got[2].mean) * 80000; rest < 33000 || rest > 36000 {
		t.Errorf("the others have %.0f Mbit/s", rest)
	}
}
