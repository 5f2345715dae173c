package ostree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

func summaryOf(n int, changed map[int]bool) []byte {
	var b ostree.SummaryBuilder
	b.Grow(n, n*200)
	for i := range n {
		r := ostree.SummaryRef{Ref: fmt.Sprintf("app/org.example.App%06d/x86_64/stable", i), CommitSize: uint64(i)}
		binary.BigEndian.PutUint64(r.Commit[:], uint64(i))
		if changed[i] {
			r.Commit[31] = 1
		}
		r.Metadata.Set("ostree.commit.timestamp", gvariant.Uint64BE(uint64(i)))
		b.AppendRaw(r.EncodeEntry())
	}
	b.Metadata.Set("xa.cache-version", gvariant.Uint32(2))
	return b.Encode()
}

func TestSummaryBuilder(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000} {
		data := summaryOf(n, nil)
		s, err := ostree.ParseSummary(data)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Refs) != n || !bytes.Equal(s.Encode(), data) {
			t.Errorf("%d refs became %d", n, len(s.Refs))
		}
		if v, ok := s.Metadata.Get("xa.cache-version"); !ok || v.Uint32() != 2 {
			t.Errorf("metadata %v", v)
		}
	}
}

func TestSummaryRefuses(t *testing.T) {
	for name, refs := range map[string][]ostree.SummaryRef{
		"order":     {{Ref: "b"}, {Ref: "a"}},
		"twice":     {{Ref: "a"}, {Ref: "a"}},
		"traversal": {{Ref: "../a"}},
	} {
		s := ostree.Summary{Refs: refs}
		if _, err := ostree.ParseSummary(s.Encode()); !errors.Is(err, ostree.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	x := ostree.SummaryIndex{Subsummaries: []ostree.Subsummary{{Name: "x86_64"}, {Name: "aarch64"}}}
	if _, err := ostree.ParseSummaryIndex(x.Encode()); !errors.Is(err, ostree.ErrMalformed) {
		t.Errorf("index: %v", err)
	}
}

func TestSubsummaryDeltaCostsTheChange(t *testing.T) {
	from := summaryOf(4000, nil)
	for _, changed := range []map[int]bool{nil, {0: true}, {3999: true}, {7: true, 8: true, 2000: true}} {
		to := summaryOf(4000, changed)
		delta := ostree.EncodeSubsummaryDelta(from, to)
		if got, err := ostree.ApplySubsummaryDelta(from, delta); err != nil || !bytes.Equal(got, to) {
			t.Fatalf("%v: %v", changed, err)
		}
		if limit := 32 + 64*len(changed); len(delta) > limit {
			t.Errorf("%v: delta of %d bytes, limit %d", changed, len(delta), limit)
		}
	}
	// A ref that is added moves all offsets, but no entry.
	to := summaryOf(4001, nil)
	delta := ostree.EncodeSubsummaryDelta(from, to)
	if got, err := ostree.ApplySubsummaryDelta(from, delta); err != nil || !bytes.Equal(got, to) {
		t.Fatal(err)
	}
	if len(delta) > 500 {
		t.Errorf("an added ref takes %d bytes", len(delta))
	}
}

func TestSubsummaryDeltaOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytesOf := rapid.SliceOfN(rapid.SampledFrom([]byte("ab")), 0, 200)
		var from, to []byte
		if rapid.Bool().Draw(t, "summaries") {
			refs := rapid.MapOfN(rapid.IntRange(0, 20), rapid.Just(true), 0, 10)
			from = summaryOf(rapid.IntRange(0, 20).Draw(t, "from"), refs.Draw(t, "old"))
			to = summaryOf(rapid.IntRange(0, 20).Draw(t, "to"), refs.Draw(t, "new"))
		} else {
			from, to = bytesOf.Draw(t, "from"), bytesOf.Draw(t, "to")
		}
		delta := ostree.EncodeSubsummaryDelta(from, to)
		got, err := ostree.ApplySubsummaryDelta(from, delta)
		if err != nil || !bytes.Equal(got, to) {
			t.Fatalf("from %q to %q by %x gives %q, %v", from, to, delta, got, err)
		}
	})
}

func TestSubsummaryDeltaRefuses(t *testing.T) {
	op := func(ops ...uint32) []byte {
		b := []byte("xadf")
		b = binary.LittleEndian.AppendUint32(b, uint32(len(ops)))
		for _, o := range ops {
			b = binary.LittleEndian.AppendUint32(b, o)
		}
		return b
	}
	for name, delta := range map[string][]byte{
		"empty":            nil,
		"magic":            []byte("xxxx\x00\x00\x00\x00"),
		"no count":         []byte("xadf"),
		"count":            []byte("xadf\xff\xff\xff\xff"),
		"copy beyond":      op(4),
		"skip beyond":      op(1<<28 | 4),
		"data beyond":      op(2<<28 | 1),
		"unknown":          op(3 << 28),
		"copy after skip":  op(1<<28|2, 2),
		"half an operator": op(1)[:10],
	} {
		if _, err := ostree.ApplySubsummaryDelta([]byte("old"), delta); !errors.Is(err, ostree.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := ostree.ApplySubsummaryDelta([]byte("old"), append(op(1<<28|1, 2<<28|2, 2), "xy"...)); err != nil || string(got) != "xyld" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestSuperblock(t *testing.T) {
	c := &ostree.Commit{Subject: "s", Tree: ostree.Checksum{1}, TreeMeta: ostree.Checksum{2}}
	s := ostree.NewSuperblock(ostree.Checksum{3}, c, 1234)
	s.Parts = []ostree.DeltaPart{{
		Checksum: ostree.ChecksumOf([]byte("part")), Size: 4, USize: 1 << 40,
		Objects: []ostree.ObjectName{{Checksum: s.Name.To, Type: ostree.TypeDirTree}},
	}}
	s.Fallbacks = []ostree.DeltaFallback{{Object: ostree.ObjectName{Type: ostree.TypeFile}, Size: 5, USize: 6}}
	little := s.Encode()
	s.Metadata.Set("ostree.endianness", gvariant.Byte('B'))
	big := s.Encode()
	for _, data := range [][]byte{little, big} {
		p, err := ostree.ParseSuperblock(data)
		if err != nil {
			t.Fatal(err)
		}
		if p.Name != s.Name || p.Timestamp != 1234 || p.Parts[0].USize != 1<<40 || p.Parts[0].Objects[0] != s.Parts[0].Objects[0] ||
			p.Fallbacks[0] != s.Fallbacks[0] || p.Commit.Subject != "s" || !bytes.Equal(p.Encode(), data) {
			t.Errorf("%+v", p)
		}
		if err := p.VerifyPart(0, bytes.NewReader([]byte("part"))); err != nil {
			t.Error(err)
		}
		for _, bad := range []string{"", "par", "Part", "parts"} {
			if err := p.VerifyPart(0, bytes.NewReader([]byte(bad))); !errors.Is(err, ostree.ErrMalformed) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if err := p.VerifyPart(1, bytes.NewReader(nil)); !errors.Is(err, ostree.ErrMalformed) {
			t.Errorf("part that is not there: %v", err)
		}
	}
	if bytes.Equal(little, big) {
		t.Error("byte order makes no difference")
	}
	s.Commit.Subject = "other"
	if _, err := ostree.ParseSuperblock(s.Encode()); !errors.Is(err, ostree.ErrMalformed) {
		t.Errorf("delta with another commit: %v", err)
	}
	s.Name.To = ostree.ChecksumOf(s.Commit.Encode())
	s.Parts[0].Objects[0].Type = 77
	if _, err := ostree.ParseSuperblock(s.Encode()); !errors.Is(err, ostree.ErrMalformed) {
		t.Errorf("unknown object type: %v", err)
	}
}
