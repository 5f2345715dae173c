package edge

import (
	"strconv"
	"testing"

	"freshet/internal/edge/diskcache"
	"freshet/internal/layout"
)

// An origin that has a file wherever one is asked for fills no memory.
func TestNamesOfSetsAreBounded(t *testing.T) {
	var n names
	s := new(site)
	for i := range maxSets + 100 {
		path := "/" + strconv.Itoa(i) + "/repodata/primary.xml.gz"
		n.add(&call{site: s, path: path, policy: layout.PolicyOf(path)}, diskcache.ID{byte(i), byte(i >> 8)}, nil)
	}
	if len(n.sets) != maxSets {
		t.Errorf("%d sets are known, want %d", len(n.sets), maxSets)
	}
	last := layout.PolicyOf("/" + strconv.Itoa(maxSets+99) + "/repodata/primary.xml.gz").Set
	if len(n.members("", last)) != 1 {
		t.Error("the last one is not")
	}
}
