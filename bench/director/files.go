package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"freshet/api/directorapi"
	"freshet/internal/durable"
	"freshet/internal/geoip"
	"freshet/internal/inventory"
)

// Sizes of the world of files, that of a large distribution.
const (
	files   = 1_000_000
	mirrors = 60
	// whole and partial are how many mirrors have everything, and how many of the
	// others have some releases; the rest lack files here and there.
	whole, partial = 40, 15
)

const project = "fedora"

// fileWorld is what a redirector knows: who has which file, the mirrors, and the places
// of clients.
type fileWorld struct {
	paths []string
	list  string // URL of the listing of the first mirror
}

func newFileWorld() *fileWorld {
	w := new(fileWorld)
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("python3 lib perl rust golang nodejs texlive kernel glibc qt6 kf6 gnome rubygem ghc php mingw64 erlang ocaml java R")
	word := func() string { return words[random.IntN(len(words))] }
	for release := 1; ; release++ {
		for _, tree := range []string{"x86_64/os", "aarch64/os", "source/tree", "x86_64/debug/tree", "ppc64le/os", "s390x/os"} {
			for letter := 'a'; letter <= 'z'; letter++ {
				for i := range 40 + random.IntN(900) {
					if len(w.paths) == files {
						return w
					}
					w.paths = append(w.paths, fmt.Sprintf("linux/releases/%d/Everything/%s/Packages/%c/%c%s-%s%d-%d.%d.%d-%d.fc%d.%s.rpm", release, tree, letter, letter,
						word(), word(), i, random.IntN(20), random.IntN(30), random.IntN(9), 1+random.IntN(5), release, []string{"noarch", "x86_64"}[random.IntN(2)]))
				}
			}
		}
	}
}

// listing is what a mirror has, or the origin.
func (w *fileWorld) listing(h inventory.Holder) iter.Seq2[inventory.Entry, error] {
	return func(yield func(inventory.Entry, error) bool) {
		random := rand.New(rand.NewPCG(uint64(h), 0))
		for i, path := range w.paths {
			e := inventory.Entry{Path: path, Size: int64(i) * 37 % 9_000_000, ModTime: time.Unix(firstTime+int64(i%100_000)*60, 0)}
			switch {
			case h == inventory.Origin:
				for j := range e.SHA256 {
					e.SHA256[j] = byte(random.Uint32())
				}
			case h > whole+partial && random.IntN(50) == 0:
				continue
			case h > whole && h <= whole+partial && int(path[len("linux/releases/")])%3 == int(h)%3:
				continue
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func mirrorName(h inventory.Holder) string {
	if h == inventory.Origin {
		return ""
	}
	return fmt.Sprintf("mirror%02d", h)
}

// writeInventory writes the file that the redirector begins with, unless a sound one is there.
func (w *fileWorld) writeInventory(state string) error {
	dir, err := durable.Open(state)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Root.Close() }() // nothing is written by it
	if _, err := inventory.Load(dir, "inventory"); err == nil {
		return nil
	}
	var v inventory.Inventory
	for i := range mirrors + 1 {
		h, err := v.Holder(mirrorName(inventory.Holder(i)))
		if err != nil {
			return err
		}
		if _, err := v.Project(project).Replace(h, inventory.Listing{Entries: w.listing(h)}); err != nil {
			return err
		}
	}
	return v.Save(dir, "inventory")
}

// homes are the countries of the mirrors, one behind the other.
const homes = "US DE FR GB JP BR US NL SE CA AU IT PL CZ US TW KR ES CH AT DK NO FI RO BG HU TR ZA US SG DE FR JP CN IN CL MX PT GR US"

func (w *fileWorld) writeCatalogue(file string) error {
	c := directorapi.Catalogue{
		Serial: 1, Changed: time.Unix(firstTime, 0).UTC(),
		Projects: []directorapi.Project{{
			Name: project, Path: "/" + project + "/", Origins: []string{"https://origin.example.org/" + project + "/"},
			Inventory: directorapi.Source{How: directorapi.HowManifest},
		}},
	}
	countries := strings.Fields(homes)
	for i := range mirrors {
		name := mirrorName(inventory.Holder(i + 1))
		home := geoip.PlaceIn(geoip.CountryOf(countries[i%len(countries)]))
		site := directorapi.Site{Name: name, Country: countries[i%len(countries)], Latitude: home.Point.Latitude + float64(i%7)/2, Longitude: home.Point.Longitude, ASN: uint32(1000 + i*997)}
		m := directorapi.Mirror{Name: name, Site: name, Capacity: []int{1000, 10_000, 2000}[i%3]}
		carried := directorapi.Carried{
			Project: project, HTTP: "http://" + name + ".example.org/" + project + "/", HTTPS: "https://" + name + ".example.org/" + project + "/",
			Inventory: directorapi.Source{How: directorapi.HowManifest},
		}
		if i == 0 {
			carried.HTTP = w.list[:strings.LastIndexByte(w.list, '/')+1]
			carried.Inventory = directorapi.Source{How: directorapi.HowFileList, URL: w.list, Every: directorapi.Duration(time.Minute)}
		}
		m.Carries = []directorapi.Carried{carried}
		c.Sites, c.Mirrors = append(c.Sites, site), append(c.Mirrors, m)
	}
	text, err := json.MarshalIndent(&c, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// places writes a database of the places of addresses, of the size of GeoLite2-City's
// IPv4 and IPv6 blocks that matter, and chooses the clients.
func (w *world) places(out io.Writer) error {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Sample-City", RecordSize: 28, BuildEpoch: firstTime, IncludeReservedNetworks: true,
	})
	if err != nil {
		return err
	}
	var towns []mmdbtype.Map
	for code := range strings.FieldsSeq(homes) {
		home := geoip.PlaceIn(geoip.CountryOf(code)).Point
		for n := range 100 {
			towns = append(towns, mmdbtype.Map{
				"country": mmdbtype.Map{"iso_code": mmdbtype.String(code)},
				"city":    mmdbtype.Map{"geoname_id": mmdbtype.Uint32(n), "names": mmdbtype.Map{"en": mmdbtype.String(fmt.Sprintf("Town %d", n))}},
				"location": mmdbtype.Map{
					"latitude": mmdbtype.Float64(home.Latitude + w.rand.Float64()*4 - 2), "longitude": mmdbtype.Float64(home.Longitude + w.rand.Float64()*4 - 2),
					"accuracy_radius": mmdbtype.Uint16(20),
				},
			})
		}
	}
	w.clients = nil
	for n := range placed4 + placed6 {
		prefix := w.prefix4()
		if n >= placed4 {
			prefix = w.prefix6()
		}
		network := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
		if err := tree.Insert(network, towns[w.rand.IntN(len(towns))]); err != nil {
			return err
		}
		if n%10 == 0 {
			w.clients = append(w.clients, prefix.Addr().Next())
		}
	}
	_, err = tree.WriteTo(out)
	return err
}

// fileList is the listing of the first mirror in the form of quick-fedora-mirror. It is
// served without anything by which it could be seen that it is the same as before.
type fileList struct {
	text  []byte
	asked chan struct{} // a request has come
	open  chan struct{} // closed when it may be answered
	sent  chan struct{} // it is
}

func newFileList(w *fileWorld) *fileList {
	var b bytes.Buffer
	_, _ = b.WriteString("[Version]\n2\n\n[Files]\n")
	for e, err := range w.listing(1) {
		if err != nil {
			break // there are none
		}
		_, _ = fmt.Fprintf(&b, "%d\tf\t%d\t%s\n", e.ModTime.Unix(), e.Size, e.Path)
	}
	_, _ = b.WriteString("\n[End]\n")
	return &fileList{text: b.Bytes(), asked: make(chan struct{}, 1), open: make(chan struct{}), sent: make(chan struct{}, 1)}
}

func (l *fileList) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	l.asked <- struct{}{}
	<-l.open
	_, _ = w.Write(l.text) // or the scan fails, which is seen
	l.sent <- struct{}{}
}

// serve serves the list, and returns its URL.
func (l *fileList) serve(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: l, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }() // until the program ends
	return "http://" + ln.Addr().String() + "/" + project + "/fullfiletimelist-" + project, nil
}

// write makes all files of a redirector in dir, and returns its configuration.
func (w *fileWorld) write(dir string, net *world) (string, error) {
	state := filepath.Join(dir, "state")
	err := errors.Join(
		w.writeInventory(state),
		w.writeCatalogue(filepath.Join(dir, "catalogue.json")),
		net.write("city.mmdb", net.places))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("[director]\nstate = %q\ncatalogue = %q\ngeoip-city = %q\nnetblocks = %q\ncontinents = %q\nno-probes = true\n",
		state, filepath.Join(dir, "catalogue.json"), filepath.Join(net.dir, "city.mmdb"), filepath.Join(net.dir, netblocksFile), filepath.Join(net.dir, continentsFile)), nil
}

// requests are those of clients everywhere for any files.
func (w *fileWorld) requests(clients []netip.Addr) [][]byte {
	random := rand.New(rand.NewPCG(5, 6))
	list := make([][]byte, 16*different)
	for i := range list {
		list[i] = fmt.Appendf(nil, "GET /%s/%s HTTP/1.1\r\nHost: download.example.org\r\nUser-Agent: libdnf (Sample Linux 44; server; Linux.x86_64)\r\n"+
			"Accept: */*\r\nX-Forwarded-For: %s\r\n\r\n", project, w.paths[random.IntN(len(w.paths))], clients[random.IntN(len(clients))])
	}
	return list
}
