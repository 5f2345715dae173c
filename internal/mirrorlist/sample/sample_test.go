package sample_test

import (
	"bytes"
	"testing"

	"freshet/internal/mirrorlist"
	"freshet/internal/mirrorlist/sample"
)

func file(t *testing.T, cfg sample.Config) []byte {
	t.Helper()
	s, err := sample.Snapshot(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The seed decides, and nothing else.
func TestSeed(t *testing.T) {
	one := file(t, sample.Config{Seed: 1, Hosts: 50, Directories: 500})
	if !bytes.Equal(one, file(t, sample.Config{Seed: 1, Hosts: 50, Directories: 500})) {
		t.Error("the same seed gives two networks")
	}
	if bytes.Equal(one, file(t, sample.Config{Seed: 2, Hosts: 50, Directories: 500})) {
		t.Error("two seeds give the same network")
	}
}

// A network is like a real one: most of a snapshot is alike, and nothing is left out.
func TestShape(t *testing.T) {
	s, err := mirrorlist.Read(bytes.NewReader(file(t, sample.Config{Directories: 16_500})))
	if err != nil {
		t.Fatal(err)
	}
	stat := s.Stat()
	t.Logf("%+v", stat)
	for name, ok := range map[string]bool{
		"hosts":             stat.Hosts == 700 && stat.PrivateHosts > 100 && stat.PublicHosts > 200,
		"countries":         stat.Countries > 50,
		"URLs":              stat.URLs > 1000 && stat.Schemes["https"] > 0 && stat.Schemes["rsync"] > 0,
		"directories":       stat.Directories > 16_000 && stat.Directories < 18_000 && stat.Without == 0,
		"sets of mirrors":   stat.MirrorSets > stat.Directories/20 && stat.MirrorSets < stat.Directories/5,
		"files":             stat.Files > stat.Directories/20 && stat.Versions > stat.Files,
		"repositories":      stat.Repositories > 100 && stat.Lost == 0 && stat.Disabled == 20 && stat.Redirects == 300,
		"preferences":       stat.ASNs > 100 && stat.Netblocks > 2000,
		"no problems":       stat.Problems == 0,
		"mirrors of a path": stat.Fewest > 10 && stat.Most > 150,
	} {
		if !ok {
			t.Errorf("%s: %+v", name, stat)
		}
	}
}
