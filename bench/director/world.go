package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	"freshet/internal/mirrorlist"
	"freshet/internal/mirrorlist/sample"
)

// Sizes of the tables: as the Internet has it in 2026, and GeoLite2-Country.
const (
	routes4, routes6 = 1_000_000, 200_000
	placed4, placed6 = 160_000, 60_000
)

// world is what the servers load: files in one folder.
type world struct {
	dir      string
	snapshot *mirrorlist.Snapshot
	clients  []netip.Addr
	rand     *rand.Rand
}

// The files of a world. Of the snapshot there are two, which a reload exchanges.
const (
	snapshotFile   = "mirrorlist_cache.proto"
	netblocksFile  = "global_netblocks.txt"
	continentsFile = "country_continent.csv"
	geoipFile      = "GeoLite2-Country.mmdb"
)

// Times of the two snapshots.
const firstTime, secondTime = 1_700_000_000, 1_700_000_900

// writeWorld makes the files, the same ones each time.
func writeWorld(dir string) (*world, error) {
	w := &world{dir: dir, rand: rand.New(rand.NewPCG(1, 2))}
	var err error
	if w.snapshot, err = writeSnapshot(filepath.Join(dir, "a.proto"), firstTime); err != nil {
		return nil, err
	}
	if _, err = writeSnapshot(filepath.Join(dir, "b.proto"), secondTime); err != nil {
		return nil, err
	}
	return w, errors.Join(
		w.use("a.proto"),
		w.write(netblocksFile, w.netblocks),
		w.write(geoipFile, w.countries),
		w.write(continentsFile, continents))
}

func writeSnapshot(file string, at uint64) (*mirrorlist.Snapshot, error) {
	snapshot, err := sample.Snapshot(sample.Config{Time: at})
	if err != nil {
		return nil, err
	}
	return snapshot, snapshot.WriteFile(file)
}

// use puts one of the snapshots in the place where the servers look.
func (w *world) use(name string) error {
	place := filepath.Join(w.dir, snapshotFile)
	if err := os.Link(filepath.Join(w.dir, name), place+".new"); err != nil {
		return err
	}
	return os.Rename(place+".new", place)
}

func (w *world) write(name string, content func(io.Writer) error) error {
	f, err := os.Create(filepath.Join(w.dir, name))
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(content(b), b.Flush(), f.Close())
}

// prefix4 is a netblock of IPv4 of a length that routes have.
func (w *world) prefix4() netip.Prefix {
	bits := 24
	switch n := w.rand.IntN(100); {
	case n < 58:
	case n < 78:
		bits = 22 + w.rand.IntN(2)
	case n < 92:
		bits = 19 + w.rand.IntN(3)
	default:
		bits = 12 + w.rand.IntN(7)
	}
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], 1<<24+w.rand.Uint32N(222<<24))
	return netip.PrefixFrom(netip.AddrFrom4(a), bits).Masked()
}

// prefix6 is the same for IPv6, in 2400::/6.
func (w *world) prefix6() netip.Prefix {
	bits := 48
	switch n := w.rand.IntN(100); {
	case n < 45:
	case n < 70:
		bits = 33 + w.rand.IntN(15)
	default:
		bits = 29 + w.rand.IntN(4)
	}
	var a [16]byte
	binary.BigEndian.PutUint64(a[:], 0x2400<<48|w.rand.Uint64N(1<<58))
	return netip.PrefixFrom(netip.AddrFrom16(a), bits).Masked()
}

// netblocks writes the routes. One in thirty systems has mirrors.
func (w *world) netblocks(out io.Writer) error {
	var line []byte
	for n := range routes4 + routes6 {
		prefix := w.prefix4
		if n >= routes4 {
			prefix = w.prefix6
		}
		line = fmt.Appendf(prefix().AppendTo(line[:0]), " %d\n", 1000+w.rand.IntN(70_000))
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// countries writes a database of the countries of addresses, and chooses the
// clients, three of ten with IPv6.
func (w *world) countries(out io.Writer) error {
	tree, err := mmdbwriter.New(mmdbwriter.Options{
		DatabaseType: "Sample-Country", RecordSize: 24, BuildEpoch: firstTime, IncludeReservedNetworks: true,
	})
	if err != nil {
		return err
	}
	codes := strings.Fields("US US US US US US US US DE DE DE DE FR FR GB GB JP JP CN CN BR BR IN IN NL SE CA AU IT PL CZ RU TW KR ES CH AT" +
		" DK NO FI BE RO BG HU UA TR ZA ID SG HK TH VN MY PH NZ AR CL CO MX PT GR IE IL KE EG SA AE")
	records := make(map[string]mmdbtype.Map)
	for _, code := range codes {
		records[code] = mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(code), "names": mmdbtype.Map{"en": mmdbtype.String(code)}}}
	}
	for n := range placed4 + placed6 {
		prefix := w.prefix4()
		if n >= placed4 {
			prefix = w.prefix6()
		}
		network := &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
		if err := tree.Insert(network, records[codes[w.rand.IntN(len(codes))]]); err != nil {
			return err
		}
		if n%10 == 0 {
			w.clients = append(w.clients, prefix.Addr().Next())
		}
	}
	_, err = tree.WriteTo(out)
	return err
}

func continents(out io.Writer) error {
	for continent, codes := range map[string]string{
		"EU": "DE FR GB NL SE IT PL CZ RU ES CH AT DK NO FI BE RO BG HU UA PT GR IE IS EE LV LT SK SI HR RS BY",
		"NA": "US CA MX CR", "SA": "BR AR CL CO EC PE UY", "OC": "AU NZ NC", "AF": "ZA EG KE MA TN TZ",
		"AS": "JP CN IN TW KR TR ID SG HK TH VN MY PH SA AE IR IL KZ GE AZ BD LK UZ AM JO",
	} {
		for code := range strings.FieldsSeq(codes) {
			if _, err := fmt.Fprintf(out, "%s,%s\n", code, continent); err != nil {
				return err
			}
		}
	}
	return nil
}
