package choice_test

import (
	"fmt"
	"math"
	"testing"

	"freshet/api/directorapi"
	"freshet/internal/director/choice"
	"freshet/internal/geoip"
)

// fits reports whether counts are as chances say, by a chi-squared test that sound ones
// fail once in 100,000 times. The seeds are fixed, so they never do.
func fits(counts map[string]int, chances map[string]float64, n int) error {
	sum, degrees := 0.0, -1
	for name, chance := range chances {
		want := chance * float64(n)
		if want < 5 {
			if counts[name] > 30 {
				return fmt.Errorf("%s was first %d times, with a chance of %v", name, counts[name], chance)
			}
			continue
		}
		degrees++
		d := float64(counts[name]) - want
		sum += d * d / want
	}
	if limit := chiSquared(max(1, degrees)); sum > limit {
		return fmt.Errorf("chi² is %.1f, above %.1f: %v for %v", sum, limit, counts, chances)
	}
	return nil
}

// chiSquared is what chi² is above of with a probability of 1e-5, after Wilson and Hilferty.
func chiSquared(degrees int) float64 {
	const z = 4.265
	n := float64(degrees)
	v := 1 - 2/(9*n) + z*math.Sqrt(2/(9*n))
	return n * v * v * v
}

// region is three mirrors in the client's country and ten on the continent.
func region() []choice.Mirror {
	all := []choice.Mirror{mirror("near1", "AT", capacity(10000)), mirror("near2", "AT", capacity(5000)), mirror("near3", "AT", capacity(1000))}
	for i := range 10 {
		all = append(all, mirror(fmt.Sprintf("far%d", i), "FI", capacity(2000*(i+1))))
	}
	return all
}

const clients = 100_000

// The mirrors of a tier are first as often as their capacity says, and the chance that
// is told is the one that there is.
func TestSharesAreCapacities(t *testing.T) {
	c, r := choice.New(region()), choice.Request{Client: from("AT")}
	told := chances(t, c, r)
	for name, want := range map[string]float64{"near1": 10. / 16, "near2": 5. / 16, "near3": 1. / 16, "far0": 0} {
		if math.Abs(told[name]-want) > 1e-9 {
			t.Errorf("%s has a chance of %v, want %v", name, told[name], want)
		}
	}
	if err := fits(firsts(c, r, clients), told, clients); err != nil {
		t.Error(err)
	}
}

// Whatever the second one is, it is drawn by the same weights from those that are left.
func TestSecondsAreCapacities(t *testing.T) {
	c := choice.New(region())
	counts, n := map[string]int{}, 0
	var picks []choice.Pick
	for seed := range uint64(clients) {
		picks = c.Choose(picks, &choice.Request{Client: from("AT"), Seed: seed, Most: 2})
		if c.Mirror(picks[0].Mirror).Name == "near1" {
			counts[c.Mirror(picks[1].Mirror).Name]++
			n++
		}
	}
	if err := fits(counts, map[string]float64{"near2": 5. / 6, "near3": 1. / 6}, n); err != nil {
		t.Error(err)
	}
}

// When a near mirror fails, its clients go to all others, by their capacities: the near ones
// get half as much again as they had, the far ones the rest. Nobody else moves.
func TestFailure(t *testing.T) {
	sound, r := choice.New(region()), choice.Request{Client: from("AT")}
	failed := region()
	down("gone")(&failed[0])
	c := choice.New(failed)
	told := chances(t, c, r)
	for name, want := range map[string]float64{
		"near1": 0, "near2": 1.5 * 5 / 16, "near3": 1.5 * 1 / 16,
		"far9": (1 - 1.5*6/16) * 20 / 110, "far0": (1 - 1.5*6/16) * 2 / 110,
	} {
		if math.Abs(told[name]-want) > 1e-9 {
			t.Errorf("%s has a chance of %v, want %v", name, told[name], want)
		}
	}
	if err := fits(firsts(c, r, clients/2), told, clients/2); err != nil {
		t.Error(err)
	}
	var picks []choice.Pick
	for seed := range uint64(5000) {
		r.Seed, r.Most = seed, 1
		before := sound.Choose(picks, &r)[0]
		if after := c.Choose(nil, &r)[0]; before.Mirror != 0 && after.Mirror != before.Mirror {
			t.Fatalf("seed %d moved from %d to %d", seed, before.Mirror, after.Mirror)
		}
	}
}

// With the only near mirror gone nobody gets all of its clients.
func TestLastNearMirror(t *testing.T) {
	all := append([]choice.Mirror{mirror("small", "AT", capacity(100))}, region()...)
	for i := 1; i <= 3; i++ {
		down("gone")(&all[i])
	}
	got := chances(t, choice.New(all), choice.Request{Client: from("AT")})
	if want := 1.5 * 100 / 16100; math.Abs(got["small"]-want) > 1e-9 {
		t.Errorf("a small mirror gets %v of what three large ones had, want %v", got["small"], want)
	}
	for name, chance := range got {
		if chance > 0.25 {
			t.Errorf("%s gets %v of all", name, chance)
		}
	}
}

// A mirror that is loaded hands on what is too much for it: to its neighbours first, and
// if they are loaded too to the next tier.
func TestLoad(t *testing.T) {
	all := []choice.Mirror{mirror("a", "AT", shed(0.5)), mirror("b", "AT"), mirror("next", "FI")}
	got := chances(t, choice.New(all), choice.Request{Client: from("AT")})
	if math.Abs(got["a"]-1./3) > 1e-9 || math.Abs(got["b"]-2./3) > 1e-9 {
		t.Errorf("one of two is loaded: %v", got)
	}
	shed(0.8)(&all[1])
	got = chances(t, choice.New(all), choice.Request{Client: from("AT")})
	if math.Abs(got["next"]-0.5) > 1e-9 || math.Abs(got["a"]-0.5*5/7) > 1e-9 {
		t.Errorf("both are loaded: %v", got)
	}
	shed(1)(&all[0])
	shed(1)(&all[1])
	shed(0.9)(&all[2])
	if got = chances(t, choice.New(all), choice.Request{Client: from("AT")}); math.Abs(got["next"]-1) > 1e-4 {
		t.Errorf("only the next one takes any: %v", got)
	}
	shed(1)(&all[2])
	if picks := choice.New(all).Choose(nil, &choice.Request{Client: from("AT")}); len(picks) != 3 {
		t.Errorf("when nobody takes any, %d are given", len(picks))
	}
}

// A mirror that is near everybody has no more of a continent than it may, while others
// on the continent can answer.
func TestRegionShare(t *testing.T) {
	cdn := func(name string, limit float64) choice.Mirror {
		return mirror(name, "US", capacity(100000), rules(directorapi.Rules{Global: true, RegionShare: limit}))
	}
	for name, test := range map[string]struct {
		mirrors []choice.Mirror
		client  geoip.Location
		want    map[string]float64
	}{
		"in the country":      {[]choice.Mirror{cdn("cdn", 0.3), mirror("a", "AT"), mirror("b", "AT", capacity(3000))}, from("AT"), map[string]float64{"cdn": 0.3, "a": 0.175, "b": 0.525}},
		"below its limit":     {[]choice.Mirror{cdn("cdn", 0.99), mirror("a", "AT", capacity(100000))}, from("AT"), map[string]float64{"cdn": 0.5, "a": 0.5}},
		"on the continent":    {[]choice.Mirror{cdn("cdn", 0.3), mirror("a", "FI")}, from("AT"), map[string]float64{"cdn": 0.3, "a": 0.7}},
		"only elsewhere":      {[]choice.Mirror{cdn("cdn", 0.3), mirror("a", "BR")}, from("AT"), map[string]float64{"cdn": 1, "a": 0}},
		"alone":               {[]choice.Mirror{cdn("cdn", 0.3)}, from("AT"), map[string]float64{"cdn": 1}},
		"others are down":     {[]choice.Mirror{cdn("cdn", 0.3), mirror("a", "FI", down("gone"))}, from("AT"), map[string]float64{"cdn": 1}},
		"two of them":         {[]choice.Mirror{cdn("cdn", 0.3), cdn("other", 0.2), mirror("a", "FI")}, from("AT"), map[string]float64{"cdn": 0.3, "other": 0.2, "a": 0.5}},
		"one without a limit": {[]choice.Mirror{cdn("cdn", 0.3), cdn("other", 0), mirror("a", "FI")}, from("AT"), map[string]float64{"cdn": 0.3, "other": 0.7, "a": 0}},
		"one pushes the other to its limit": {
			[]choice.Mirror{cdn("cdn", 0.1), mirror("small", "US", capacity(20000), rules(directorapi.Rules{Global: true, RegionShare: 0.5})), mirror("a", "AT", capacity(10000))},
			from("AT"),
			map[string]float64{"cdn": 0.1, "small": 0.5, "a": 0.4},
		},
		"the others fail": {
			[]choice.Mirror{cdn("cdn", 0.3), mirror("large", "AT", capacity(10000), down("gone")), mirror("small", "AT", capacity(1000)), mirror("far", "FI")},
			from("AT"),
			map[string]float64{"cdn": 0.3, "large": 0, "small": 1.5 * 0.7 / 11, "far": 1 - 0.3 - 1.5*0.7/11},
		},
		"it fails": {
			[]choice.Mirror{mirror("cdn", "US", capacity(100000), rules(directorapi.Rules{Global: true, RegionShare: 0.5}), down("gone")), mirror("a", "AT"), mirror("far", "FI")},
			from("AT"),
			map[string]float64{"a": 0.75, "far": 0.25},
		},
		"a client from anywhere": {[]choice.Mirror{cdn("cdn", 0.3), mirror("a", "BR")}, geoip.Location{}, map[string]float64{"cdn": 0.3, "a": 0.7}},
	} {
		c, r := choice.New(test.mirrors), choice.Request{Client: test.client}
		told := chances(t, c, r)
		for mirror, want := range test.want {
			if math.Abs(told[mirror]-want) > 1e-6 {
				t.Errorf("%s: %s has a chance of %v, want %v", name, mirror, told[mirror], want)
			}
		}
		if err := fits(firsts(c, r, clients/10), told, clients/10); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A world of all kinds of mirrors: what is told is what happens.
func TestChancesHold(t *testing.T) {
	c, r := sixty(), request()
	if err := fits(firsts(c, r, clients/5), chances(t, c, r), clients/5); err != nil {
		t.Error(err)
	}
}

// The example of docs/director-choice.md.
func TestExample(t *testing.T) {
	all := []choice.Mirror{
		mirror("uni-wien", "AT", at(48.2, 16.4), capacity(10000)), mirror("graz", "AT", at(47.1, 15.4), capacity(1000)),
		mirror("cdn", "US", capacity(100000), rules(directorapi.Rules{Global: true, RegionShare: 0.3})),
		mirror("brno", "CZ", at(49.2, 16.6), capacity(5000)), mirror("helsinki", "FI", at(60.2, 24.9), capacity(20000)),
		mirror("praha", "CZ", at(50.1, 14.4), capacity(10000)), mirror("campus", "AT", capacity(40000), rules(directorapi.Rules{NetblocksOnly: true})),
	}
	r := choice.Request{Client: in("AT", 48.2, 16.37), Scheme: choice.OnlyHTTPS, Size: 80e6, Files: files{0, 0, 0, 0, 0, choice.OtherVersion, 0}}
	show := func(what string, want map[string]float64) {
		t.Helper()
		c := choice.New(all)
		for _, p := range c.Choose(nil, &choice.Request{Client: r.Client, Scheme: r.Scheme, Size: r.Size, Files: r.Files, Explain: true}) {
			name := c.Mirror(p.Mirror).Name
			t.Logf("%s: %-9s %-10s %6.0f km, weight %6.0f, %5.1f %% %s", what, name, p.Tier, p.Distance, p.Weight, p.Chance*100, c.Why(&p, &r))
			if math.Abs(p.Chance-want[name]) > 0.0005 {
				t.Errorf("%s: the chance of %s is %.3f, want %.3f", what, name, p.Chance, want[name])
			}
		}
		if err := fits(firsts(c, r, clients/10), chances(t, c, r), clients/10); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	show("before", map[string]float64{"uni-wien": 0.636, "graz": 0.064, "cdn": 0.3})
	c := choice.New(all)
	for _, p := range c.Choose(nil, &r) {
		const want = "Near everybody. First for 30 % of such requests, by its capacity of 100,000 Mbit/s, but for no more than 30 % while others on the continent can answer."
		if got := c.Why(&p, &r); c.Mirror(p.Mirror).Name == "cdn" && got != want {
			t.Errorf("it says\n%s\nwant\n%s", got, want)
		}
	}
	down("the connection is refused")(&all[0])
	show("after", map[string]float64{"graz": 0.095, "cdn": 0.3, "brno": 0.605})
	shed(0.8)(&all[1])
	shed(0.5)(&all[3])
	show("loaded", map[string]float64{"graz": 0.019, "cdn": 0.3, "brno": 0.340, "helsinki": 0.340})
}
