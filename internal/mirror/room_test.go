package mirror_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/disktest"
	"freshet/internal/mirror/project"
)

// noise is a content that no other file has.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('a' + rand.IntN(26))
	}
	return string(b)
}

// writeOld writes a file of which the time tells that it is done with.
func (w *world) writeOld(name, content string) {
	w.t.Helper()
	w.write(name, content)
	w.written = w.written.Add(time.Second)
	if err := os.Chtimes(filepath.Join(w.up, name), w.written, w.written); err != nil {
		w.t.Fatal(err)
	}
}

// age makes the old generations of a project so much older. The mirror does not run.
func (w *world) age(project string, by time.Duration) {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(w.cfg.Directory, "projects", project, "generations", "*", "generation.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		info := make(map[string]any)
		if err == nil {
			err = json.Unmarshal(text, &info)
		}
		if err != nil {
			w.t.Fatal(err)
		}
		old, ok := info["superseded"].(string)
		if !ok {
			continue // the current one
		}
		when, err := time.Parse(time.RFC3339Nano, old)
		if err != nil {
			w.t.Fatal(err)
		}
		info["superseded"] = when.Add(-by)
		if text, err = json.Marshal(info); err == nil {
			err = os.WriteFile(name, text, 0o644)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// get gets a file of the mirror, with its status and the reason why there is none.
func (w *world) fetch(path string) (status int, reason, body string) {
	w.t.Helper()
	resp, err := w.public.HTTP.Get(w.public.Base + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Freshet-Reason"), string(data)
}

// syncOf syncs a project and returns the report.
func (w *world) syncOf(project string) (report mirrorapi.Report) {
	w.t.Helper()
	for event, err := range w.client.SyncWaiting(w.t.Context(), project, mirrorapi.SyncRequest{Force: true}) {
		if err != nil {
			w.t.Fatal(err)
		}
		if event.Report != nil {
			report = *event.Report
		}
	}
	return report
}

// dropped is how often the metric says that something of a project had to go.
func (w *world) dropped(project, what string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "freshet_mirror_dropped_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if m.GetLabel()[0].GetValue() == project && m.GetLabel()[1].GetValue() == what {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// short is whether the metric says that there is less room than there should be.
func (w *world) short() bool {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "freshet_mirror_disk_short" {
			return f.GetMetric()[0].GetGauge().GetValue() == 1
		}
	}
	w.t.Error("there is no such metric")
	return false
}

// On a small disk that somebody else fills, what is served stays whole. First old
// generations go, then the project that may be drained, and then a sync is refused before
// anything is fetched; when there is room again, all of it works again by itself.
func TestFullDisk(t *testing.T) {
	disk := disktest.New(t, 192<<20, 6000)
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h", Priority: 7})
	w.cfg.Directory = disk.Path + "/mirror"
	size, _ := disk.Size()
	if err := w.cfg.Limits.Reserve.UnmarshalText([]byte("8%")); err != nil {
		t.Fatal(err)
	}
	low, rest := w.cfg.Projects["p"], w.cfg.Projects["p"]
	low.Priority, low.Drain = 2, true
	rest.Priority = 1 // may not be drained, though it is the lowest
	w.cfg.Projects["low"], w.cfg.Projects["rest"] = low, rest
	for name, p := range w.cfg.Projects {
		p.Include = []string{name + "/*"}
		w.cfg.Projects[name] = p
		for i := range 5 {
			w.writeOld(fmt.Sprintf("%s/%d", name, i), noise(4<<20))
		}
	}
	w.start()
	for name := range w.cfg.Projects {
		if r := w.syncOf(name); r.Generation == "" {
			t.Fatalf("%s: %+v", name, r)
		}
	}
	old := noise(4 << 20)
	w.writeOld("p/old", old)
	w.syncOf("p")
	w.writeOld("p/old", noise(4<<20))
	w.syncOf("p")
	generations := func() int {
		list, err := w.client.Generations(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Generations)
	}
	if n := generations(); n != 3 {
		t.Fatalf("%d generations", n)
	}
	whole := func(name string, files ...string) {
		t.Helper()
		for _, file := range append(files, "0", "4") {
			status, _, body := w.fetch("/" + name + "/" + name + "/" + file)
			if status != http.StatusOK || len(body) != 4<<20 {
				t.Errorf("%s/%s: %d with %d bytes", name, file, status, len(body))
			}
		}
	}

	// Those that were replaced a moment ago stay: clients are reading them.
	w.stop()
	w.age("p", time.Hour)
	w.start()

	// There is the reserve, and a little: old generations go for a newer one.
	empty := disk.Fill(size*8/100 + 6<<20)
	w.writeOld("p/new", noise(8<<20))
	if r := w.syncOf("p"); r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	if n := w.dropped("p", "generation"); n == 0 || w.dropped("low", "project") != 0 {
		t.Errorf("%v generations of p are dropped, and low %v times", n, w.dropped("low", "project"))
	}
	whole("p", "old")
	whole("low")
	whole("rest")

	// 97 %: the project that may go does, and no other.
	empty2 := disk.Fill(size * 3 / 100)
	w.writeOld("p/newer", noise(4<<20))
	if r := w.syncOf("p"); r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	if n := w.dropped("low", "project"); n != 1 || w.dropped("rest", "project") != 0 {
		t.Errorf("low was dropped %v times, rest %v times", n, w.dropped("rest", "project"))
	}
	whole("p", "old", "newer")
	whole("rest")
	if status, reason, _ := w.fetch("/low/low/0"); status != http.StatusServiceUnavailable || reason != "drained" {
		t.Errorf("low: %d %s", status, reason)
	}

	// Not a byte: what does not fit is refused before it is fetched, and what is here is
	// served, also after a restart.
	empty3 := disk.Fill(0)
	w.writeOld("p/newest", noise(4<<20))
	r := w.syncOf("p")
	if r.Result != mirrorapi.Failed || r.Reason != mirrorapi.ReasonNoSpace || !strings.Contains(r.Message, "the reserve is") || len(r.Fetched) != 0 {
		t.Errorf("%+v", r)
	}
	if n := w.dropped("p", "generation"); n != 2 {
		t.Errorf("%v generations of p are dropped, and two were old enough", n)
	}
	whole("p", "old", "newer")
	d, err := w.client.Doctor(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(d.Findings) == 0 || d.Findings[0].Level != mirrorapi.LevelError || d.Findings[0].About != "disk" {
		t.Errorf("the doctor: %+v", d)
	}
	if !w.short() {
		t.Error("the metric does not say that the disk is short")
	}
	w.stop()
	w.start()
	whole("p", "old", "newer")
	whole("rest")
	if status, reason, _ := w.fetch("/low/low/0"); status != http.StatusServiceUnavailable || reason != "drained" {
		t.Errorf("low: %d %s", status, reason)
	}

	// There is room again.
	empty3()
	empty2()
	empty()
	if r := w.syncOf("p"); r.Result != mirrorapi.Published {
		t.Errorf("%+v", r)
	}
	whole("p", "newest")
	if w.short() {
		t.Error("the metric says that the disk is short")
	}
	if r := w.syncOf("low"); r.Result != mirrorapi.Published {
		t.Errorf("%+v", r)
	}
	whole("low")
}

// A file system that the kernel does not let anybody write to any more serves what it has;
// syncs say why they fail, and work again afterwards.
func TestBrokenDisk(t *testing.T) {
	disk := disktest.New(t, 64<<20, 2000)
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "every 1h"})
	w.cfg.Directory = disk.Path + "/mirror"
	w.writeOld("a", "1")
	w.start()
	if r := w.syncOf("p"); r.Generation == "" {
		t.Fatalf("%+v", r)
	}
	disk.Break()
	w.writeOld("a", "22")
	if r := w.syncOf("p"); r.Result != mirrorapi.Failed || r.Reason != mirrorapi.ReasonDisk {
		t.Errorf("%+v", r)
	}
	if status, _, body := w.fetch("/p/a"); status != http.StatusOK || body != "1" {
		t.Errorf("%d %q", status, body)
	}
	w.await("it says why", func(st mirrorapi.ProjectStatus) bool {
		return st.Last != nil && st.Last.Reason == mirrorapi.ReasonDisk && st.Failures > 0
	})
	w.stop()
	disk.Repair()
	w.start()
	if r := w.syncOf("p"); r.Bytes != 2 {
		t.Errorf("%+v", r)
	}
	if status, _, body := w.fetch("/p/a"); status != http.StatusOK || body != "22" {
		t.Errorf("%d %q", status, body)
	}
}

// Who has the index of 20 hours ago gets all that it names, until the grace time is over. Then
// the file system has the room and the inodes again, though files were kept open.
func TestIndexOfYesterday(t *testing.T) {
	disk := disktest.New(t, 128<<20, 4000)
	w := newWorld(t, project.Config{Kind: "images", Schedule: "never"}) // with the grace time that is the default
	w.cfg.Directory = disk.Path + "/mirror"
	// publish replaces all files, and returns the index.
	publish := func(version string) (index string) {
		old, err := filepath.Glob(w.up + "/Packages/*.rpm")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range old {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 60 {
			name, text := fmt.Sprintf("%s-%d.rpm", version, i), noise(256<<10)
			w.writeOld("Packages/"+name, text)
			index += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(text)), name)
		}
		w.writeOld("Packages/SHA256SUMS", index)
		return index
	}
	yesterday := publish("old")
	w.start()
	w.sync(mirrorapi.SyncRequest{})
	// The folders of objects stay, 256 at most.
	free := func() (bytes, inodes int64) {
		bytes, inodes = disk.Free()
		err := filepath.WalkDir(w.cfg.Directory+"/objects", func(_ string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				bytes += 4096
				inodes++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return bytes, inodes
	}
	bytes, inodes := free()
	today := publish("new")
	if r := w.sync(mirrorapi.SyncRequest{Shrink: true}); r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	w.stop()
	w.age("p", 20*time.Hour)
	w.start()
	// walk is what a client does who has read an index.
	walk := func(index string) {
		t.Helper()
		for line := range strings.Lines(index) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			for range 2 { // so that it is kept open
				status, _, body := w.fetch("/p/Packages/" + name)
				if status != http.StatusOK || fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != sum {
					t.Fatalf("%s: %d with %d bytes", name, status, len(body))
				}
			}
		}
	}
	walk(yesterday)
	walk(today)
	if status, _, body := w.fetch("/p/Packages/SHA256SUMS"); status != http.StatusOK || body != today {
		t.Errorf("the index: %d, that of today: %t", status, body == today)
	}
	if now, left := free(); bytes-now < 58*256<<10 || inodes-left < 60 {
		t.Errorf("two versions take %d bytes and %d inodes more than one", bytes-now, inodes-left)
	}
	// Just before the end it is all there.
	w.stop()
	w.age("p", 27*time.Hour+30*time.Minute)
	w.start()
	walk(yesterday)
	w.stop()
	w.age("p", time.Hour)
	w.start()
	w.await("the old version is gone", func(mirrorapi.ProjectStatus) bool {
		now, left := free()
		return bytes-now < 256<<10 && inodes-left < 10
	})
	if status, _, _ := w.fetch("/p/Packages/old-1.rpm"); status != http.StatusNotFound {
		t.Errorf("afterwards: %d", status)
	}
	walk(today)
}

// What a sync writes, and what it reads to hash it, counts for the limit of the disk.
func TestIOLimit(t *testing.T) {
	w := newWorld(t, project.Config{Kind: "plain", Schedule: "never"})
	if err := w.cfg.Limits.IO.UnmarshalText([]byte("1MB/s")); err != nil {
		t.Fatal(err)
	}
	const size = 1 << 20
	w.writeOld("a", noise(size))
	w.start()
	r := w.sync(mirrorapi.SyncRequest{})
	if r.Result != mirrorapi.Published {
		t.Fatalf("%+v", r)
	}
	// Never sooner than that, on whatever machine.
	if took := r.Ended.Sub(r.Began); took < 1500*time.Millisecond {
		t.Errorf("%d bytes are written and read within %v", size, took)
	}
}
