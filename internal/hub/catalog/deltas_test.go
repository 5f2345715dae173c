package catalog_test

import (
	"testing"

	"freshet/api/hubapi"
	"freshet/internal/hub/catalog"
)

// What is known of a delta that was made for a build stays with it when it is
// published, and is counted once.
func TestCarriedDeltas(t *testing.T) {
	each(t, func(t *testing.T, _ *world, c *catalog.Catalog) {
		t.Helper()
		ctx := t.Context()
		value(c.EnqueueJob(ctx, catalog.NewJob{Kind: hubapi.JobBuildDeltas, Repo: "stable"}))(t)
		job := value(c.NextJob(ctx, catalog.JobFilter{}))(t)
		made := hubapi.MadeDelta{Ref: "app/a.b.c/x86_64/stable", From: "f", To: "build", Size: 100, Instead: 300, Parts: 2, Seconds: 1.5}
		must(t, c.FinishJob(ctx, job.Claim(), hubapi.DeltaResults{Deltas: []hubapi.MadeDelta{made}}))
		carried, uploaded := made, made
		carried.To, carried.Seconds, carried.Size = "published", 0, 101
		uploaded.From, uploaded.To, uploaded.Seconds = "", "published", 0
		_, err := c.FinishPublish(ctx, catalog.Publish{
			Key: "1", Repo: "stable", Base: "/repo/stable/", Number: 1, Changed: []string{"summary"},
			Deltas: []catalog.CarriedDelta{{MadeDelta: carried, Source: "build"}, {MadeDelta: uploaded, Source: "build"}},
		})
		must(t, err)
		keys := []catalog.DeltaKey{{From: "f", To: "build"}, {From: "f", To: "published"}, {To: "published"}}
		known := value(c.Deltas(ctx, "stable", keys))(t)
		equal(t, len(known), 2)
		equal(t, known[keys[1]].Seconds, 1.5)
		equal(t, known[keys[1]].Size, uint64(101))
		equal(t, known[keys[2]].Size, uint64(100))
		equal(t, value(c.DeltaTotals(ctx, "stable"))(t), catalog.DeltaTotals{Count: 2, Size: 201, Instead: 600})
	})
}
