package console_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/flatpak"
	"freshet/internal/hub/catalog"
	"freshet/internal/ostree"
)

// sample gives the hub two days as they may be: builds by several people that
// are committed, checked, published, and spread to five edges.
func (w *world) sample() {
	w.t.Helper()
	c, random := w.catalog, rand.New(rand.NewPCG(7, 7))
	w.refs["beta"], w.title = &flatpak.Index{}, "Applications"
	apps := strings.Fields(`org.gnome.Maps org.gnome.Calendar org.inkscape.Inkscape org.kde.krita com.example.Paint net.example.Chat org.blender.Blender org.videolan.VLC`)
	w.clock.advance(-46 * time.Hour)
	edges := []string{"edges/ams1", "edges/fra1", "edges/nyc2", "edges/sgp1", "edges/syd1"}
	ms := func(from, to int) time.Duration { return time.Duration(from+random.IntN(to-from)) * time.Millisecond }
	serial := int64(0)
	heads := map[string]string{}
	for i := range 64 {
		w.clock.advance(ms(20*60_000, 60*60_000))
		for _, edge := range edges {
			must(w.t, c.ReportNode(w.t.Context(), hubapi.Node{Name: edge, Site: "default", Log: c.Log(), Serial: serial}))
		}
		app := apps[random.IntN(len(apps))]
		ref := "app/" + app + "/x86_64/stable"
		build := w.build(app, ref, i, ms(8_000, 90_000))
		w.clock.advance(ms(500, 4000))
		if i%13 == 12 {
			must(w.t, c.FinishCommit(w.t.Context(), w.next().Claim(), map[string]string{ref: hex(i)}, catalog.NewCheck{Name: "appstream", Contents: struct{}{}}))
			check := w.next()
			w.clock.advance(ms(2000, 9000))
			must(w.t, c.AppendLog(w.t.Context(), check.ID, "E: "+app+":42: release-version-missing\nvalidation failed: errors: 1, pedantic: 4\n"))
			must(w.t, c.FinishCheck(w.t.Context(), check.Claim(), hubapi.CheckVerdict{Status: hubapi.CheckFailed, Reason: "appstreamcli found 1 error"}))
			continue
		}
		commit := w.next()
		must(w.t, c.AppendLog(w.t.Context(), commit.ID, "Checking 4,211 objects of "+ref+"\nAll are there\nCommitted "+hex(i)+"\n"))
		must(w.t, c.FinishCommit(w.t.Context(), commit.Claim(), map[string]string{ref: hex(i)}, catalog.NewCheck{Name: "appstream", Contents: struct{}{}}))
		check := w.next()
		w.clock.advance(ms(2000, 9000))
		must(w.t, c.FinishCheck(w.t.Context(), check.Claim(), hubapi.CheckVerdict{Status: hubapi.CheckPassed}))
		_, err := c.By("release-bot").StartPublish(w.t.Context(), build.ID, struct{}{})
		must(w.t, err)
		w.clock.advance(ms(5, 700))
		job := w.next()
		w.clock.advance(ms(180, 620))
		must(w.t, c.AppendLog(w.t.Context(), job.ID, "Publishing "+ref+"\nSigned by 2 keys\nSwitched: 1 ref, 9 files\n"))
		event, err := c.FinishPublish(w.t.Context(), catalog.Publish{
			Key: fmt.Sprint("p", i), Repo: "stable", Base: "/repo/stable/", Number: int64(i + 1), Changed: []string{"summary"},
			Jobs: []catalog.PublishedJob{{Claim: job.Claim(), Refs: map[string]string{ref: hex(i)}}}, Before: map[string]string{ref: heads[ref]},
		})
		must(w.t, err)
		serial, heads[ref] = event.Serial, hex(i)
		for at, edge := range edges {
			if i == 63 && at > 2 {
				continue // the last is on its way still
			}
			w.clock.advance(ms(30, 260))
			must(w.t, c.ReportNode(w.t.Context(), hubapi.Node{Name: edge, Site: "default", Log: c.Log(), Serial: serial}))
		}
		if i == 60 {
			edges = edges[:4] // one goes away
		}
	}
	w.sampleRefs(heads, random)
	w.sampleQueue(apps)
}

// build uploads one, and asks for its commit.
func (w *world) build(app, ref string, i int, upload time.Duration) hubapi.Build {
	w.t.Helper()
	ci := [...]string{"gnome-ci", "kde-ci", "acme-ci"}[i%3]
	link := "https://ci.example.org/jobs/" + fmt.Sprint(4000+i)
	c := w.catalog.By(ci)
	b, err := c.CreateBuild(w.t.Context(), catalog.NewBuild{Repo: "stable", AppID: &app, TokenName: &ci, TokenID: ci + "-2026", BuildLogURL: &link})
	must(w.t, err)
	_, err = w.catalog.UseToken(w.t.Context(), ci+"-2026", ci, time.Now().Add(200*24*time.Hour))
	must(w.t, err)
	for _, name := range []string{ref, strings.Replace(strings.Replace(ref, "app/", "runtime/", 1), "/x86", ".Locale/x86", 1)} {
		_, err = c.AddBuildRef(w.t.Context(), b.ID, hubapi.CreateBuildRefRequest{Ref: name, Commit: hex(i), BuildLogURL: &link})
		must(w.t, err)
	}
	w.clock.advance(upload)
	_, err = c.StartCommit(w.t.Context(), b.ID, struct{}{})
	must(w.t, err)
	return b
}

func (w *world) sampleRefs(heads map[string]string, random *rand.Rand) {
	w.t.Helper()
	made := []hubapi.MadeDelta{}
	for ref, head := range heads {
		to, err := ostree.ParseChecksum(head)
		must(w.t, err)
		size := uint64(5_000_000 + random.IntN(300_000_000))
		w.refs["stable"].Update([]flatpak.CommitInfo{{
			Ref: ref, Checksum: to, Timestamp: uint64(w.clock.Now().Unix()), DownloadSize: size, InstalledSize: size * 3, Subsets: []string{"verified"},
			Metadata: "[Application]\n",
		}}, nil)
		from := checksum(7)
		w.refs["stable"].SetDeltas(to, []flatpak.Delta{{}, {From: from}})
		made = append(made,
			hubapi.MadeDelta{Ref: ref, To: head, Size: size * 8 / 10, Instead: size, Parts: 4, Seconds: 9},
			hubapi.MadeDelta{Ref: ref, From: from.String(), To: head, Size: size / uint64(6+random.IntN(30)), Instead: size / 2, Parts: 1, Seconds: 3})
	}
	_, err := w.catalog.EnqueueJob(w.t.Context(), catalog.NewJob{Kind: hubapi.JobDeltas, Repo: "stable", Contents: struct{}{}})
	must(w.t, err)
	must(w.t, w.catalog.FinishJob(w.t.Context(), w.next().Claim(), hubapi.DeltaResults{Deltas: made}))
}

// sampleQueue leaves some to do, and a hold.
func (w *world) sampleQueue(apps []string) {
	w.t.Helper()
	c := w.catalog
	for i, app := range apps[:3] {
		w.build(app, "app/"+app+"/x86_64/stable", 80+i, time.Minute)
	}
	running := w.next()
	must(w.t, c.AppendLog(w.t.Context(), running.ID, "Checking 18,320 objects of app/org.gnome.Maps/x86_64/stable\n"))
	_, err := c.By("alex").PlaceHold(w.t.Context(), hubapi.Hold{Repo: "stable", App: "org.kde.krita", Kind: hubapi.HoldFreeze, Reason: "5.2.4 loses documents on save; wait for 5.2.5"})
	must(w.t, err)
	must(w.t, c.By("alex").RevokeTokens(w.t.Context(), []string{"old-laptop"}))
	w.clock.advance(40 * time.Second)
}

// hex is the checksum of a commit.
func hex(i int) string { return checksum(i*131 + 5).String() }
