// Package directortest makes the files that a director reads, for a small network of
// mirrors with one repository.
package directortest

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"freshet/internal/mirrorlist"
)

// Names of the files in the folder that they are written to.
const (
	Snapshot   = "mirrorlist_cache.proto"
	GeoIP      = "GeoLite2-Country.mmdb"
	Netblocks  = "global_netblocks.txt"
	Continents = "country_continent.csv"
)

// Network is a network of mirrors that have the directory pub/r, which is the repository
// "r-1" for x86_64, and pub/r/repodata. Clients in 192.0.2.0/24 and 127.0.0.0/8 are in DE
// by GeoIP, those in 198.51.100.0/24 are in AT, and in the autonomous system 64500.
type Network struct {
	// Time is when the snapshot is made, in seconds since 1970.
	Time uint64
	// Mirrors are those that there are; nil stands for [Example].
	Mirrors []Mirror
	// Versions are those of repomd.xml; nil stands for one of 2046 bytes.
	Versions []mirrorlist.Version
	// Directories are more directories that all mirrors have.
	Directories []string
}

// Mirror is one of the mirrors.
type Mirror struct {
	Country string
	Private bool
	// Netblock is one whose clients the mirror prefers, "" for none.
	Netblock string
	// URLs are those of the folder that holds r.
	URLs []string
}

// Example is two public mirrors in DE and AT, and a private one in DE.
func Example() []Mirror {
	return []Mirror{
		{Country: "DE", URLs: []string{"http://a.de/pub", "https://a.de/pub", "rsync://a.de/pub"}},
		{Country: "AT", URLs: []string{"https://b.at/p"}},
		{Country: "DE", Private: true, Netblock: "10.0.0.0/8", URLs: []string{"http://c.lan/p"}},
	}
}

// Write writes all files into a folder, each in the place of the one before in one step.
func (n Network) Write(tb testing.TB, folder string) {
	tb.Helper()
	n.WriteSnapshot(tb, folder)
	Replace(tb, folder, GeoIP, countries(tb, map[string]string{"192.0.2.0/24": "DE", "127.0.0.0/8": "DE", "198.51.100.0/24": "AT"}))
	Replace(tb, folder, Netblocks, []byte("192.0.0.0/16 64501\n198.51.100.0/24 64500\n"))
	Replace(tb, folder, Continents, []byte("code,continent\nDE,EU\nAT,EU\nUS,NA\n"))
}

// WriteSnapshot writes the snapshot alone.
func (n Network) WriteSnapshot(tb testing.TB, folder string) {
	tb.Helper()
	b := mirrorlist.NewBuilder()
	b.SetTime(n.Time)
	mirrors := n.Mirrors
	if mirrors == nil {
		mirrors = Example()
	}
	var set mirrorlist.Mirrors
	byCountry := make(map[string][]int64)
	for i, m := range mirrors {
		id := int64(i + 1)
		urls := mirrorlist.HostURLs{Host: id}
		for j, base := range m.URLs {
			b.AddURL(100*id+int64(j), base)
			urls.URLs = append(urls.URLs, 100*id+int64(j))
		}
		set.URLs = append(set.URLs, urls)
		b.AddHostCountry(id, m.Country)
		b.AddBandwidth(id, 1000)
		if m.Netblock != "" {
			b.AddNetblock(m.Netblock, []int64{id})
		}
		if !m.Private {
			set.Global = append(set.Global, id)
			byCountry[m.Country] = append(byCountry[m.Country], id)
		}
	}
	for country, ids := range byCountry {
		set.ByCountry = append(set.ByCountry, mirrorlist.CountryHosts{Code: country, Hosts: ids})
	}
	all := b.Mirrors(set)
	for _, name := range append([]string{"r", "r/repodata"}, n.Directories...) {
		b.AddDirectory("pub/"+name, name, all)
	}
	b.AddRepository("r-1+x86_64", "pub/r")
	versions := n.Versions
	if versions == nil {
		versions = []mirrorlist.Version{{Timestamp: 1699999000, Size: 2046}}
	}
	b.AddFile("pub/r/repodata", "repomd.xml", versions)
	s, err := b.Snapshot()
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		tb.Fatal(err)
	}
	Replace(tb, folder, Snapshot, out.Bytes())
}

// Replace puts a file in the place of another in one step.
func Replace(tb testing.TB, folder, name string, data []byte) {
	tb.Helper()
	to := filepath.Join(folder, name)
	if err := os.WriteFile(to+".new", data, 0o644); err != nil {
		tb.Fatal(err)
	}
	if err := os.Rename(to+".new", to); err != nil {
		tb.Fatal(err)
	}
}

// countries is a MaxMind database of the countries of netblocks.
func countries(tb testing.TB, blocks map[string]string) []byte {
	tb.Helper()
	tree, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-Country", IncludeReservedNetworks: true})
	if err != nil {
		tb.Fatal(err)
	}
	for block, code := range blocks {
		_, network, err := net.ParseCIDR(block)
		if err != nil {
			tb.Fatal(err)
		}
		if err := tree.Insert(network, mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)}}); err != nil {
			tb.Fatal(err)
		}
	}
	var out bytes.Buffer
	if _, err := tree.WriteTo(&out); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}
