package ostree_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"freshet/internal/gvariant"
	"freshet/internal/ostree"
)

func summaryOf(n int) []byte {
	var s ostree.Summary
	for i := range n {
		r := ostree.SummaryRef{Ref: fmt.Sprintf("app/org.example.App%06d/x86_64/stable", i), CommitSize: uint64(i)}
		binary.BigEndian.PutUint64(r.Commit[:], uint64(i))
		r.Metadata.Set("ostree.commit.timestamp", gvariant.Uint64BE(uint64(i)))
		s.Refs = append(s.Refs, r)
	}
	s.Metadata.Set("xa.cache-version", gvariant.Uint32(2))
	return s.Encode()
}

func TestSummaryEncode(t *testing.T) {
	for _, n := range []int{0, 1, 3, 1000} {
		data := summaryOf(n)
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
