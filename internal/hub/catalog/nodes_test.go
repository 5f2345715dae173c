package catalog_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// The last report of each node counts; one that stands still costs few writes,
// and who is silent for long is forgotten.
func TestNodes(t *testing.T) {
	each(t, func(t *testing.T, w *world, c *catalog.Catalog) {
		ctx := t.Context()
		report := func(name, site, log string, serial int64) {
			t.Helper()
			must(t, c.ReportNode(ctx, hubapi.Node{Name: name, Site: site, Log: log, Serial: serial}))
		}
		check := func(want ...hubapi.Node) {
			t.Helper()
			list := value(c.Nodes(ctx))(t)
			if diff := cmp.Diff(want, list.Nodes); diff != "" || list.Log == "" {
				t.Error(list.Log, diff)
			}
		}
		begun := w.Now().Truncate(time.Microsecond)
		report("b", "default", "L", 7)
		report("a", "dl", "L", 3)
		report("a", "default", "L", 5)
		a, dl, b := hubapi.Node{Name: "a", Site: "default", Log: "L", Serial: 5, Seen: begun},
			hubapi.Node{Name: "a", Site: "dl", Log: "L", Serial: 3, Seen: begun},
			hubapi.Node{Name: "b", Site: "default", Log: "L", Serial: 7, Seen: begun}
		check(a, dl, b)
		w.advance(10 * time.Second)
		report("a", "default", "L", 5) // nothing new so soon
		report("a", "dl", "L", 2)      // an older store was put back: that is the truth
		dl.Serial, dl.Seen = 2, begun.Add(10*time.Second)
		check(a, dl, b)
		w.advance(10 * time.Second)
		report("a", "default", "L", 5)
		report("b", "default", "M", 7)
		a.Seen = begun.Add(20 * time.Second)
		b.Log, b.Seen = "M", a.Seen
		check(a, dl, b)
		must(t, c.Expire(ctx, begun.Add(15*time.Second)))
		check(a, b)
	})
}
