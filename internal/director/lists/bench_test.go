package lists_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"freshet/internal/director/lists"
	"freshet/internal/geoip"
	"freshet/internal/mirrorlist"
	"freshet/internal/mirrorlist/sample"
)

// production is a network with the mirrors of a large distribution, and few of its
// directories. Clients in 10.N.0.0/16 are in the N-th country that has mirrors.
func production(tb testing.TB) (d *lists.Data, countries int) {
	tb.Helper()
	made, err := sample.Snapshot(sample.Config{Directories: 2000})
	if err != nil {
		tb.Fatal(err)
	}
	var continents strings.Builder
	for c := range made.NumCountries() {
		fmt.Fprintf(&continents, "%s,%s\n", made.CountryCode(mirrorlist.Country(c)), []string{"EU", "EU", "AS", "NA", "SA"}[c%5])
	}
	table, err := geoip.ParseContinents(strings.NewReader(continents.String()))
	if err != nil {
		tb.Fatal(err)
	}
	return lists.NewData(lists.Sources{Snapshot: made, Continents: table}, lists.Options{Minimum: 5}), made.NumCountries()
}

// BenchmarkMake is what an answer costs without the sending of it.
func BenchmarkMake(b *testing.B) {
	d, _ := production(b)
	var repos []string
	for key := range d.Snapshot.Repositories() {
		repo, arch, _ := strings.Cut(key, "+")
		repos = append(repos, "repo="+repo+"&arch="+arch)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, mode := range []string{"/metalink?", "/mirrorlist?"} {
		for name, params := range map[string]string{"country": "&country=de", "world": "", "continent": "&country="} {
			b.Run(mode[1:len(mode)-1]+"/"+name, func(b *testing.B) {
				var targets []string
				for _, repo := range repos {
					targets = append(targets, mode+repo+params)
				}
				var a lists.Answer
				size, n := 0, 0
				b.ReportAllocs()
				for b.Loop() {
					r := lists.Request{Target: targets[n%len(targets)], Peer: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), Now: made, Seed: rng.Uint64()}
					a.Make(d, &r)
					size += len(a.Body)
					n++
				}
				if !bytes.Contains(a.Body, []byte("http")) {
					b.Fatalf("%s", a.Body)
				}
				b.ReportMetric(float64(size)/float64(n), "bytes/answer")
			})
		}
	}
}
