package mirrorlist_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"freshet/internal/mirrorlist"
	"freshet/internal/mirrorlist/snapshotpb"
)

func encode(tb testing.TB, s *mirrorlist.Snapshot) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func read(tb testing.TB, b []byte) *mirrorlist.Snapshot {
	tb.Helper()
	s, err := mirrorlist.Read(bytes.NewReader(b))
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// What Write writes is, by the generated code of the schema, what was built.
func TestWriteFollowsTheSchema(t *testing.T) {
	var got snapshotpb.MirrorList
	if err := proto.Unmarshal(encode(t, small(t)), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(smallMessage(), &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}

// smallMessage is the small network in the words of the schema, in the order of Write.
func smallMessage() *snapshotpb.MirrorList {
	text := func(k, v string) *snapshotpb.StringStringMap {
		return &snapshotpb.StringStringMap{Key: &k, Value: &v}
	}
	texts := func(k int64, v string) *snapshotpb.IntStringMap {
		return &snapshotpb.IntStringMap{Key: &k, Value: &v}
	}
	number := func(k, v int64) *snapshotpb.IntIntMap { return &snapshotpb.IntIntMap{Key: &k, Value: &v} }
	hosts := func(k string, v ...int64) *snapshotpb.StringRepeatedIntMap {
		return &snapshotpb.StringRepeatedIntMap{Key: &k, Value: v}
	}
	numbers := func(k int64, v ...int64) *snapshotpb.IntRepeatedIntMap {
		return &snapshotpb.IntRepeatedIntMap{Key: &k, Value: v}
	}
	directory := func(name, subpath string) *snapshotpb.MirrorListCacheType {
		return &snapshotpb.MirrorListCacheType{
			Directory: &name, Subpath: &subpath,
			Global:             []int64{1, 2},
			ByCountry:          []*snapshotpb.StringRepeatedIntMap{hosts("AT", 2), hosts("DE", 1)},
			ByCountryInternet2: []*snapshotpb.StringRepeatedIntMap{hosts("DE", 3)},
			ByHostId:           []*snapshotpb.IntRepeatedIntMap{numbers(1, 10, 11, 12), numbers(2, 13), numbers(3, 14)},
		}
	}
	return &snapshotpb.MirrorList{
		Time:                 proto.Uint64(1700000000),
		NetblockCountryCache: []*snapshotpb.StringStringMap{text("192.0.2.0/24", "CH"), text("192.0.2.128/25", "AT")},
		HCUrlCache: []*snapshotpb.IntStringMap{
			texts(10, "http://a.de/pub"), texts(11, "https://a.de/pub"), texts(12, "rsync://a.de/pub"),
			texts(13, "https://b.at/p"), texts(14, "http://c.lan/p"),
		},
		FileDetailsCache: []*snapshotpb.FileDetailsCacheDirectoryType{{
			Directory: new("pub/r/repodata"),
			FileDetailsCacheFiles: []*snapshotpb.FileDetailsCacheFilesType{{
				Filename: new("repomd.xml"),
				FileDetails: []*snapshotpb.FileDetailsType{
					{TimeStamp: proto.Uint64(1699999000), Size: proto.Uint64(2046), SHA256: new(strings.Repeat("ab", 32)), SHA512: new(strings.Repeat("cd", 64))},
					{TimeStamp: proto.Uint64(1699990000), Size: proto.Uint64(2040), MD5: new(strings.Repeat("0", 32)), SHA1: new(strings.Repeat("1", 40))},
				},
			}},
		}},
		DisabledRepositoryCache:       []*snapshotpb.StringBoolMap{{Key: new("old"), Value: new(true)}},
		CountryContinentRedirectCache: []*snapshotpb.StringStringMap{text("IL", "EU")},
		RepositoryRedirectCache:       []*snapshotpb.StringStringMap{text("r", "r-1")},
		RepoArchToDirectoryName:       []*snapshotpb.StringStringMap{text("r-1+x86_64", "pub/r")},
		HostAsnCache:                  []*snapshotpb.IntRepeatedIntMap{numbers(3320, 1, 3)},
		HostMaxConnectionCache:        []*snapshotpb.IntIntMap{number(1, 1), number(2, 1), number(3, 1)},
		HostCountryCache:              []*snapshotpb.IntStringMap{texts(1, "DE"), texts(2, "AT"), texts(3, "DE")},
		HostBandwidthCache:            []*snapshotpb.IntIntMap{number(1, 100), number(2, 200), number(3, 300)},
		HostCountryAllowedCache:       []*snapshotpb.IntRepeatedStringMap{{Key: proto.Int64(2), Value: []string{"AT", "CH"}}},
		HostNetblockCache: []*snapshotpb.StringRepeatedIntMap{
			hosts("10.0.0.0/8", 3), hosts("10.1.2.3", 2), hosts("10.1.2.77/16", 1), hosts("2001:db8::/32", 2),
		},
		MirrorListCache: []*snapshotpb.MirrorListCacheType{
			{
				Directory: new("pub"), Subpath: new(""), Global: []int64{2},
				ByHostId: []*snapshotpb.IntRepeatedIntMap{numbers(2, 13)},
			},
			directory("pub/r", "r"), directory("pub/r/repodata", "r/repodata"),
		},
	}
}

// A file that others wrote, in another order, says the same.
func TestReadInAnyOrder(t *testing.T) {
	m := smallMessage()
	slices.Reverse(m.MirrorListCache)
	slices.Reverse(m.HCUrlCache)
	slices.Reverse(m.HostNetblockCache)
	for _, d := range m.MirrorListCache {
		slices.Reverse(d.Global)
		slices.Reverse(d.ByHostId)
		slices.Reverse(d.ByCountry)
	}
	// The directories first, and the hosts that they name afterwards.
	first, err := proto.Marshal(&snapshotpb.MirrorList{Time: m.Time, MirrorListCache: m.MirrorListCache})
	if err != nil {
		t.Fatal(err)
	}
	m.MirrorListCache = nil
	rest, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := encode(t, read(t, append(first, rest...)))
	if !bytes.Equal(got, encode(t, small(t))) {
		t.Error("the snapshot differs")
	}
}

// Numbers may be packed, which the schema does not ask for and decoders must take, and a
// later schema may have fields that are not known here.
func TestReadPackedAndUnknown(t *testing.T) {
	packed := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), protowire.AppendVarint([]byte{1}, 300))
	name := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "d")
	host := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 300)
	row := append(append(name, packed...), protowire.AppendBytes(protowire.AppendTag(nil, 6, protowire.BytesType), append(host, packed...))...)
	row = protowire.AppendFixed64(protowire.AppendTag(row, 99, protowire.Fixed64Type), 1)
	file := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 5)
	file = protowire.AppendBytes(protowire.AppendTag(file, 16, protowire.BytesType), row)
	file = protowire.AppendFixed32(protowire.AppendTag(file, 17, protowire.Fixed32Type), 1)
	file = protowire.AppendBytes(protowire.AppendTag(file, 200, protowire.BytesType), []byte("later"))
	s := read(t, file)
	d, _ := s.Directory("d")
	if diff := cmp.Diff([]int64{1, 300}, ids(s, d.Global())); diff != "" {
		t.Error(diff)
	}
	h, _ := s.HostByID(300)
	urls, ok := d.URLs(h)
	if !ok || len(urls) != 2 || s.URLID(urls[0]) != 1 || s.URLID(urls[1]) != 300 {
		t.Errorf("URLs of host 300: %v", urls)
	}
}

// Of two entries with one key the first counts, except that netblocks which are the
// same are one.
func TestReadTwice(t *testing.T) {
	m := smallMessage()
	other := proto.CloneOf(m)
	for _, d := range other.MirrorListCache {
		d.Global, d.ByHostId = nil, nil
	}
	other.HostCountryCache[0].Value = new("XX")
	other.HCUrlCache[0].Value = new("http://other")
	other.RepoArchToDirectoryName[0].Value = new("other")
	other.FileDetailsCache[0].FileDetailsCacheFiles[0].FileDetails = nil
	other.HostNetblockCache, other.NetblockCountryCache = nil, nil
	other.Time = m.Time
	twice := append(encode(t, small(t)), mustMarshal(t, other)...)
	if !bytes.Equal(encode(t, read(t, twice)), encode(t, small(t))) {
		t.Error("what was told twice changed the snapshot")
	}
	inside := smallMessage()
	for _, d := range inside.MirrorListCache {
		d.Global = append(d.Global, d.Global...)
		d.ByCountry = append(d.ByCountry, &snapshotpb.StringRepeatedIntMap{Key: new("DE"), Value: []int64{1, 2, 3}})
		d.ByHostId = append(d.ByHostId, &snapshotpb.IntRepeatedIntMap{Key: new(int64(2)), Value: []int64{10}})
	}
	inside.MirrorListCache[0].ByCountry = nil // it had none to repeat
	if !bytes.Equal(encode(t, read(t, mustMarshal(t, inside))), encode(t, small(t))) {
		t.Error("what was told twice of a directory changed the snapshot")
	}
}

func mustMarshal(tb testing.TB, m proto.Message) []byte {
	tb.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// A file that is cut off anywhere is refused, or has fewer entries: it never gives the
// snapshot that the whole one gives.
func TestReadCutOff(t *testing.T) {
	file := encode(t, small(t))
	refused := 0
	for n := range len(file) {
		s, err := mirrorlist.Read(bytes.NewReader(file[:n]))
		switch {
		case errors.Is(err, mirrorlist.ErrMalformed):
			refused++
		case err != nil:
			t.Fatalf("%d bytes: %v", n, err)
		case s.NumDirectories() > 2:
			t.Fatalf("%d bytes of %d have all directories", n, len(file))
		}
	}
	if refused < len(file)-3 {
		t.Errorf("%d of %d files were refused, all but those that end between two directories should be", refused, len(file))
	}
}

func TestReadRefuses(t *testing.T) {
	entry := func(field protowire.Number, row string) []byte {
		file := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 5)
		return protowire.AppendString(protowire.AppendTag(file, field, protowire.BytesType), row)
	}
	tests := map[string]struct {
		file []byte
		want string
	}{
		"nothing":             {nil, "it has no time"},
		"text":                {[]byte("# nothing of the kind\n"), "unknown kind"},
		"time alone":          {[]byte{8, 1}, "it has no directories"},
		"no name":             {entry(16, "\x10\x01"), "byte 2: MirrorListCache: entry without directory"},
		"no key":              {entry(12, "\x12\x02DE"), "HostCountryCache: entry without key"},
		"no value":            {entry(13, "\x08\x01"), "HostBandwidthCache: entry without value"},
		"entry cut off":       {entry(9, "\x0a\x05abc"), "RepoArchToDirectoryName: entry is damaged"},
		"host cut off":        {entry(16, "\x0a\x01d\x32\x02\x08\x80"), `MirrorListCache: "d": entry is damaged`},
		"version without all": {entry(5, "\x0a\x01d\x12\x07\x0a\x01f\x12\x02\x08\x01"), `FileDetailsCache: "d": "f": version without time or size`},
		"file without name":   {entry(5, "\x0a\x01d\x12\x02\x12\x00"), `"d": entry without name`},
		"long number":         {bytes.Repeat([]byte{0xff}, 11), "more than 64 bits"},
		"long entry":          {protowire.AppendVarint(protowire.AppendTag(nil, 16, protowire.BytesType), 1<<40), "16777216 are allowed"},
		"short entry":         {append(protowire.AppendVarint(protowire.AppendTag(nil, 16, protowire.BytesType), 1<<20), 1), "field 16 ends early"},
		"field zero":          {[]byte{0, 0}, "field number 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := mirrorlist.Read(bytes.NewReader(tt.file))
			if !errors.Is(err, mirrorlist.ErrMalformed) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	broken := errors.New("disk is broken")
	if _, err := mirrorlist.Read(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("error %v, want that of the reader", err)
	}
}

// A snapshot has numbers of two bytes for hosts. One with more of them is refused.
func TestTooMany(t *testing.T) {
	b := mirrorlist.NewBuilder()
	for id := range int64(1 << 16) {
		b.AddBandwidth(id, 1)
	}
	if _, err := b.Snapshot(); !errors.Is(err, mirrorlist.ErrTooMany) {
		t.Errorf("65,536 hosts: %v", err)
	}
	b = mirrorlist.NewBuilder()
	for id := range int64(5000) {
		b.Mirrors(mirrorlist.Mirrors{URLs: []mirrorlist.HostURLs{{Host: 1, URLs: []int64{id}}}})
	}
	if _, err := b.Snapshot(); !errors.Is(err, mirrorlist.ErrTooMany) {
		t.Errorf("5,000 lists of URLs of one host: %v", err)
	}
}

// A snapshot has a limit of memory, whatever it is filled with.
func TestTooLarge(t *testing.T) {
	const limit = 100_000
	many := make([]int64, 1000)
	for i := range many {
		many[i] = int64(i)
	}
	for name, add := range map[string]func(b *mirrorlist.Builder, n int){
		"texts":     func(b *mirrorlist.Builder, n int) { b.AddRedirect(fmt.Sprint("a long name of a repository ", n), "") },
		"netblocks": func(b *mirrorlist.Builder, n int) { b.AddNetblock(fmt.Sprint("10.0.", n/256, ".", n%256), nil) },
		"asns":      func(b *mirrorlist.Builder, n int) { b.AddASN(int64(n), many[:10]) },
		"locations": func(b *mirrorlist.Builder, _ int) { b.AddLocation("there", many[:10]) },
		"lists": func(b *mirrorlist.Builder, n int) {
			b.Mirrors(mirrorlist.Mirrors{URLs: []mirrorlist.HostURLs{{Host: 1, URLs: many[n%1000 : n%1000+1]}}})
		},
		"sets":  func(b *mirrorlist.Builder, n int) { b.Mirrors(mirrorlist.Mirrors{Global: many[:n%1000]}) },
		"files": func(b *mirrorlist.Builder, _ int) { b.AddFile("", "", make([]mirrorlist.Version, 2)) },
		"names": func(b *mirrorlist.Builder, _ int) { b.AddDirectory("", "", 0) },
	} {
		b := mirrorlist.NewBuilder()
		b.SetLimit(limit)
		for n := range 5000 {
			add(b, n)
		}
		if _, err := b.Snapshot(); !errors.Is(err, mirrorlist.ErrTooMany) || !strings.Contains(err.Error(), "100000 bytes") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// One entry that makes no sense does not hold up the others. It is told.
func TestProblems(t *testing.T) {
	b := smallBuilder()
	b.AddNetblock("10.0.0.0/33", []int64{1})
	b.AddNetblockCountry("nowhere", "DE")
	b.AddURL(99, "http://a.de/\r\nLocation: http://evil.example")
	b.AddHostCountry(9, "D\xff")
	b.AddRedirect("r", "r-2")
	s, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		`HostNetblockCache: "10.0.0.0/33" is neither a prefix nor an address`,
		`NetblockCountryCache: "nowhere" is neither a prefix nor an address`,
		`HCUrlCache: "http://a.de/\r\nLocation: http://evil.example" has a control character`,
		`HostCountryCache: "D\xff" is not UTF-8`,
		`RepositoryRedirectCache: "r" is there twice`,
	}
	if diff := cmp.Diff(mirrorlist.Problems{Count: len(want), First: want}, s.Problems()); diff != "" {
		t.Error(diff)
	}
	b = smallBuilder()
	for n := range 50 {
		b.AddNetblock(fmt.Sprint("bad ", n), nil)
	}
	if s, err = b.Snapshot(); err != nil || s.Problems().Count != 50 || len(s.Problems().First) != 20 {
		t.Errorf("50 problems: %+v, %v", s.Problems(), err)
	}
}

func TestFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "mirrorlist_cache.proto")
	if err := small(t).WriteFile(name); err != nil {
		t.Fatal(err)
	}
	s, err := mirrorlist.ReadFile(name)
	if err != nil || s.Time() != 1700000000 {
		t.Fatalf("read %v, %v", s, err)
	}
	if err := os.WriteFile(name, []byte("no"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := mirrorlist.ReadFile(name); !errors.Is(err, mirrorlist.ErrMalformed) || !strings.Contains(err.Error(), name) {
		t.Errorf("error %v, want one that names the file", err)
	}
	if _, err := mirrorlist.ReadFile(name + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v of a file that is not there", err)
	}
}

// Whatever is read is written so that it is read as the same.
func FuzzRead(f *testing.F) {
	f.Add(encode(f, small(f)))
	f.Add([]byte{8, 1, 0x82, 1, 3, 0x0a, 1, 'd'})
	f.Add([]byte{8, 1, 0x82, 1, 10, 0x0a, 1, 'd', 0x1a, 1, 'x', 0x32, 2, 8, 1})
	f.Add(mustMarshal(f, smallMessage()))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := mirrorlist.Read(bytes.NewReader(file))
		if err != nil {
			if !errors.Is(err, mirrorlist.ErrMalformed) && !errors.Is(err, mirrorlist.ErrTooMany) {
				t.Fatalf("error %v is of no kind", err)
			}
			return
		}
		first := encode(t, s)
		if second := encode(t, read(t, first)); !bytes.Equal(first, second) {
			t.Errorf("written as\n%q and then as\n%q", first, second)
		}
		for d := range s.Directories() {
			if again, ok := s.Directory(d.Name()); !ok || again.Name() != d.Name() {
				t.Errorf("%q is not found", d.Name())
			}
			for h := range d.Hosts() {
				if _, ok := d.URLs(h); !ok {
					t.Errorf("%q: host %d is not found", d.Name(), s.HostID(h))
				}
			}
		}
	})
}
