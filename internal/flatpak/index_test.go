package flatpak

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"freshet/internal/gvariant"
	"freshet/internal/layout"
	"freshet/internal/ostree"
)

// synthetic makes the info of an application about as large as those of a real
// repository: 3.4 kB of catalogue data, 600 bytes of metadata, two icons.
func synthetic(i, version int) CommitInfo {
	rng := rand.New(rand.NewPCG(uint64(i), uint64(version)))
	words := strings.Fields("lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua")
	text := func(n int) string {
		var b strings.Builder
		for range n {
			b.WriteString(words[rng.IntN(len(words))])
			b.WriteByte(' ')
		}
		return b.String()
	}
	id := fmt.Sprintf("org.bench.App%05d", i)
	var xml strings.Builder
	fmt.Fprintf(&xml, "<component type=\"desktop-application\">\n  <id>%s</id>\n  <name>App %d</name>\n  <summary>%s</summary>\n", id, i, text(6))
	for _, lang := range []string{"de", "fr", "es", "it", "pt_BR", "ru", "zh_CN", "ja"} {
		fmt.Fprintf(&xml, "  <name xml:lang=\"%s\">App %d</name>\n  <summary xml:lang=\"%[1]s\">%[3]s</summary>\n", lang, i, text(6))
	}
	for xml.Len() < 3300 {
		fmt.Fprintf(&xml, "  <p>%s</p>\n", text(12))
	}
	fmt.Fprintf(&xml, "  <bundle type=\"flatpak\">app/%s/x86_64/stable</bundle>\n  </component>", id)
	sum := func(kind string) ostree.Checksum {
		return ostree.ChecksumOf(fmt.Appendf(nil, "%s %d %d", kind, i, version))
	}
	metadata := "[Application]\nname=" + id + "\nruntime=org.bench.Platform/x86_64/stable\nsdk=org.bench.Sdk/x86_64/stable\ncommand=app\n\n" +
		"[Context]\nshared=network;ipc;\nsockets=x11;wayland;pulseaudio;\ndevices=dri;\nfilesystems=xdg-documents;\n\n" +
		"[Session Bus Policy]\norg.freedesktop.Notifications=talk\n\n[Extension " + id + ".Locale]\ndirectory=share/runtime/locale\nautodelete=true\nlocale-subset=true\n"
	return CommitInfo{
		Ref: "app/" + id + "/x86_64/stable", Checksum: sum("commit"), Tree: sum("tree"), TreeMeta: sum("meta"),
		CommitSize: 900, Timestamp: 1_700_000_000 + uint64(version), InstalledSize: 30_000 + rng.Uint64N(1e6), DownloadSize: 20_000,
		Metadata: metadata, Components: []byte(xml.String()),
		Icons: []Icon{
			{Icon64, id + ".png", sum("icon64"), 4000, 4100},
			{Icon128, id + ".png", sum("icon128"), 12000, 12100},
		},
	}
}

func syntheticIndex(n int) *Index {
	infos := make([]CommitInfo, n)
	for i := range infos {
		infos[i] = synthetic(i, 0)
	}
	x := &Index{}
	x.Update(infos, nil)
	return x
}

// countSink forgets objects.
type countSink struct{ bytes int64 }

func (countSink) Has(ostree.ObjectName) (bool, error) { return false, nil }

func (s *countSink) Put(_ ostree.ObjectName, write func(io.Writer) error) error { return write(s) }

func (s *countSink) Write(p []byte) (int, error) {
	s.bytes += int64(len(p))
	return len(p), nil
}

// round does what a publish of one changed application does.
func round(tb testing.TB, x *Index, sink ostree.Sink, now uint64) *Files {
	tb.Helper()
	commits, err := x.BuildAppstream(sink, AppstreamOptions{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	for i := range commits {
		x.Update([]CommitInfo{commits[i].Info}, nil)
	}
	files, err := x.Build(BuildOptions{Now: now})
	if err != nil {
		tb.Fatal(err)
	}
	x.Commit(files)
	return files
}

func BenchmarkPublishOne(b *testing.B) {
	for _, n := range []int{500, 1000, 2000, 4000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x := syntheticIndex(n)
			sink := &countSink{}
			for version := range DefaultHistory { // a full history
				x.Update([]CommitInfo{synthetic(version, version)}, nil)
				round(b, x, sink, uint64(version))
			}
			changed := make([]CommitInfo, 64)
			for i := range changed {
				changed[i] = synthetic(i*271%n, i+100)
			}
			b.ReportAllocs()
			sink.bytes = 0
			at := 0
			before := cpuTime(b)
			for b.Loop() {
				info := changed[at%len(changed)]
				info.Timestamp += uint64(at)
				info.Checksum = ostree.ChecksumOf(fmt.Append(nil, at))
				info.Components = fmt.Append(slices.Clip(info.Components), at)
				x.Update([]CommitInfo{info}, nil)
				round(b, x, sink, uint64(1000+at))
				at++
			}
			b.ReportMetric(float64(cpuTime(b)-before)/float64(at), "cpu-ns/op")
			b.ReportMetric(float64(sink.bytes)/float64(at), "written-B/op")
		})
	}
}

// cpuTime is what this process has used so far; unlike wall time it means
// something on a machine that is shared.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkHashAll is what a publish at the very front of the catalogue hashes.
func BenchmarkHashAll(b *testing.B) {
	x := syntheticIndex(4000)
	c := newCatalogue(x.catalogueRecords("", "x86_64"), iconSet{})
	for b.Loop() {
		c.plain(&runHash{})
	}
}

// TestRunHash changes, inserts and removes runs and compares with hashing anew.
func TestRunHash(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var h runHash
	var runs [][]byte
	for round := range 300 {
		at := 0
		if len(runs) > 0 {
			at = rng.IntN(len(runs))
		}
		runs = slices.Clone(runs)
		data := fmt.Append(nil, "run ", rng.Uint64())
		switch round % 5 {
		case 0, 1:
			for range 10 {
				runs = slices.Insert(runs, at, data)
			}
		case 2:
			runs[at] = data
		case 3:
			runs = slices.Delete(runs, at, min(at+rng.IntN(20), len(runs)))
		}
		want := ostree.ChecksumOf(append([]byte("head"), bytes.Join(runs, nil)...))
		if got := h.sum([]byte("head"), runs); got != want {
			t.Fatalf("round %d, %d runs: %s, want %s", round, len(runs), got, want)
		}
	}
}

func TestUpdate(t *testing.T) {
	var x Index
	x.Update([]CommitInfo{synthetic(2, 0), synthetic(1, 0)}, nil)
	x.Update([]CommitInfo{synthetic(3, 0), synthetic(1, 7), synthetic(0, 0)}, []string{"app/org.bench.App00002/x86_64/stable", "app/no.such.App/x86_64/stable"})
	var refs []string
	for ref, commit := range x.Refs() {
		refs = append(refs, ref)
		if info, ok := x.Get(ref); !ok || info.Checksum != commit {
			t.Errorf("Get(%s) = %v, %v", ref, info.Checksum, ok)
		}
	}
	want := []string{"app/org.bench.App00000/x86_64/stable", "app/org.bench.App00001/x86_64/stable", "app/org.bench.App00003/x86_64/stable"}
	if !slices.Equal(refs, want) || x.Len() != 3 {
		t.Errorf("refs %v", refs)
	}
	if info, _ := x.Get(want[1]); info.Timestamp != 1_700_000_007 {
		t.Errorf("App00001 was not replaced: %d", info.Timestamp)
	}
	if _, ok := x.Get("app/org.bench.App00002/x86_64/stable"); ok {
		t.Error("removed ref is there")
	}
	same := synthetic(9, 0)
	again := synthetic(9, 1)
	x.Update([]CommitInfo{same, again, same}, nil)
	if x.Len() != 4 {
		t.Errorf("a ref three times in one update gives %d refs", x.Len())
	}
}

// memory is a published repository: the files of all generations.
type memory map[string][]byte

func (m memory) apply(t *testing.T, files *Files) {
	t.Helper()
	last := layout.Payload
	for i := range files.Write {
		file := &files.Write[i]
		class := layout.OSTree(file.Path).Class
		if class < last {
			t.Errorf("%s (%s) comes after a %s", file.Path, class, last)
		}
		last = class
		if _, there := m[file.Path]; there && layout.OSTree(file.Path).Addressed {
			t.Errorf("%s is written again", file.Path)
		}
		if file.Size() != int64(len(file.Bytes())) {
			t.Errorf("%s: Size %d, %d bytes", file.Path, file.Size(), len(file.Bytes()))
		}
		m[file.Path] = file.Bytes()
	}
	for _, path := range files.Remove {
		delete(m, path)
	}
}

// TestHistory publishes generation after generation, with restarts, and checks
// that a client can come from every generation in the history to the newest.
func TestHistory(t *testing.T) {
	const history = 5
	repo := memory{}
	clients := map[ostree.Checksum][]byte{} // what a client may hold
	x := syntheticIndex(60)
	for generation := range 12 {
		switch generation % 4 {
		case 0:
			x.Update([]CommitInfo{synthetic(generation, generation)}, nil)
		case 1:
			x.Update([]CommitInfo{synthetic(1000-generation, 0)}, []string{synthetic(generation+20, 0).Ref})
		case 2:
			grown := synthetic(generation, generation)
			grown.Metadata += "[More]\nkey=value\n"
			x.Update([]CommitInfo{grown}, nil)
		case 3: // a restart
			restarted := &Index{}
			for _, r := range x.sorted {
				restarted.Update([]CommitInfo{r.info}, nil)
			}
			if err := restarted.LoadHistory(repo.fs()); err != nil {
				t.Fatal(err)
			}
			x = restarted
			x.Update([]CommitInfo{synthetic(59, generation)}, nil)
		}
		opt := BuildOptions{Now: uint64(generation), History: history, Sign: func(data []byte) ([][]byte, error) {
			sum := ostree.ChecksumOf(data)
			return [][]byte{sum[:]}, nil
		}}
		lost, err := x.Build(opt) // a publish that fails before it is committed
		if err != nil {
			t.Fatal(err)
		}
		files, err := x.Build(opt)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(paths(lost), paths(files)) {
			t.Errorf("generation %d: a second build writes other files", generation)
		}
		repo.apply(t, files)
		x.Commit(files)
		checkPublished(t, repo, clients, min(generation, history))
	}
	if n := len(repo); n > 30 {
		t.Errorf("%d files remain: %v", n, sortedKeys(repo))
	}
}

// checkPublished reads the repository as a client does.
func checkPublished(t *testing.T, repo memory, clients map[ostree.Checksum][]byte, history int) {
	t.Helper()
	index, err := ostree.ParseSummaryIndex(repo["summary.idx"])
	if err != nil {
		t.Fatal(err)
	}
	digest := ostree.ChecksumOf(repo["summary.idx"])
	for path, signed := range map[string]string{
		ostree.SummaryIndexSignaturePath(digest): "summary.idx", "summary.idx.sig": "summary.idx", "summary.sig": "summary",
	} {
		detached, err := ostree.ParseDetached(repo[path])
		if err != nil {
			t.Fatal(err)
		}
		sum := ostree.ChecksumOf(repo[signed])
		if got := ostree.GPGSignatures(detached); len(got) != 1 || !bytes.Equal(got[0], sum[:]) {
			t.Errorf("%s does not sign %s", path, signed)
		}
	}
	for _, subsummary := range index.Subsummaries {
		current := gunzip(t, repo[ostree.SubsummaryPath(subsummary.Checksum)])
		if ostree.ChecksumOf(current) != subsummary.Checksum {
			t.Fatalf("%s is not what its name says", subsummary.Name)
		}
		if _, err := ostree.ParseSummary(current); err != nil {
			t.Error(err)
		}
		if len(subsummary.History) != history {
			t.Errorf("history of %d, want %d", len(subsummary.History), history)
		}
		for _, old := range subsummary.History {
			delta, ok := repo[ostree.SubsummaryDeltaPath(old, subsummary.Checksum)]
			if !ok {
				t.Fatalf("no delta from %s", old)
			}
			made, err := ApplySummaryDelta(clients[old], gunzip(t, delta), maxSummary)
			if err != nil || !bytes.Equal(made, current) {
				t.Errorf("delta from %s: %v", old, err)
			}
		}
		clients[subsummary.Checksum] = current
	}
	if _, err := ostree.ParseSummary(repo["summary"]); err != nil {
		t.Error(err)
	}
}

func (m memory) fs() fstest.MapFS {
	fsys := fstest.MapFS{}
	for path, data := range m {
		fsys[path] = &fstest.MapFile{Data: data}
	}
	return fsys
}

// TestLoadHistoryRepairs damages what is on disk in the ways a crash or an
// operator can.
func TestLoadHistoryRepairs(t *testing.T) {
	publishTwo := func() (memory, ostree.Checksum) {
		repo := memory{}
		x := syntheticIndex(10)
		for generation := range 2 {
			x.Update([]CommitInfo{synthetic(3, generation)}, nil)
			files, err := x.Build(BuildOptions{Now: 1})
			if err != nil {
				t.Fatal(err)
			}
			repo.apply(t, files)
			x.Commit(files)
		}
		return repo, x.subsummaries["x86_64"].current.digest
	}
	healthy, current := publishTwo()
	build := func(repo memory) *Files {
		t.Helper()
		x := syntheticIndex(10)
		x.Update([]CommitInfo{synthetic(3, 1)}, nil)
		if err := x.LoadHistory(repo.fs()); err != nil {
			t.Fatal(err)
		}
		files, err := x.Build(BuildOptions{Now: 1})
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	if got := paths(build(healthy)); !slices.Equal(got, []string{"summary.idx", "summary"}) {
		t.Errorf("nothing changed, but %v is written", got)
	}
	for name, damage := range map[string]func(memory){
		"truncated": func(m memory) { m[ostree.SubsummaryPath(current)] = m[ostree.SubsummaryPath(current)][:20] },
		"absent":    func(m memory) { delete(m, ostree.SubsummaryPath(current)) },
		"other":     func(m memory) { m[ostree.SubsummaryPath(current)] = m["summary"] },
	} {
		repo, _ := publishTwo()
		damage(repo)
		if got := paths(build(repo)); !slices.Contains(got, ostree.SubsummaryPath(current)) {
			t.Errorf("%s: the current subsummary is not written again: %v", name, got)
		}
	}
	repo, _ := publishTwo()
	repo["summaries/"+strings.Repeat("a", 64)+".gz"] = []byte("left over")
	repo["summaries/README"] = []byte("somebody's")
	files := build(repo)
	if !slices.Contains(files.Remove, "summaries/"+strings.Repeat("a", 64)+".gz") || slices.Contains(files.Remove, "summaries/README") {
		t.Errorf("to be removed: %v", files.Remove)
	}
	delete(repo, "summary.idx")
	if files := build(repo); files.find(ostree.SubsummaryPath(current)) != nil {
		t.Error("a subsummary that is there is written again")
	}
	repo["summary.idx"] = []byte("damaged")
	var x Index
	if err := x.LoadHistory(repo.fs()); !errors.Is(err, ostree.ErrMalformed) {
		t.Errorf("damaged summary.idx: %v", err)
	}
}

func TestDeltas(t *testing.T) {
	x := syntheticIndex(4)
	to := synthetic(2, 0).Checksum
	gone := ostree.ChecksumOf([]byte("an old commit"))
	from := ostree.ChecksumOf([]byte("from"))
	block := ostree.ChecksumOf([]byte("superblock"))
	x.SetDeltas(to, []Delta{{From: from, Superblock: block}, {Superblock: from}})
	x.SetDeltas(gone, []Delta{{Superblock: block}})
	files, err := x.Build(BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for commit, want := range map[ostree.Checksum]int{to: 2, gone: 1} {
		file := files.find(ostree.DeltaIndexPath(commit))
		if file == nil {
			t.Fatalf("no delta index of %s", commit)
		}
		v, err := gvariant.Parse("a{sv}", file.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		list, _ := v.Lookup("ostree.static-deltas")
		if list.Len() != want {
			t.Errorf("delta index has %d deltas, want %d", list.Len(), want)
		}
		if commit == to {
			got, _ := list.Lookup(from.String() + "-" + to.String())
			if !bytes.Equal(got.Bytes(), block[:]) {
				t.Errorf("digest %x", got.Bytes())
			}
		}
	}
	summary, err := ostree.ParseSummary(files.find("summary").Bytes())
	if err != nil {
		t.Fatal(err)
	}
	list, _ := summary.Metadata.Get("ostree.static-deltas")
	if list.Len() != 2 || list.Child(0).Child(0).Str() > list.Child(1).Child(0).Str() {
		t.Errorf("the summary lists %d deltas", list.Len())
	}
	x.Commit(files)
	if files, err = x.Build(BuildOptions{}); err != nil || files.find(ostree.DeltaIndexPath(to)) != nil {
		t.Errorf("an unchanged delta index is written again (%v)", err)
	}
	var restarted Index
	restarted.LoadDeltas(to, []Delta{{Superblock: from}})
	if files, err = restarted.Build(BuildOptions{}); err != nil || files.find(ostree.DeltaIndexPath(to)) != nil {
		t.Errorf("the delta index is written again after a restart (%v)", err)
	}
	x.SetDeltas(to, nil)
	if files, err = x.Build(BuildOptions{}); err != nil || !slices.Contains(files.Remove, ostree.DeltaIndexPath(to)) {
		t.Errorf("the delta index of no deltas is not removed (%v)", err)
	}
}

func TestSummaryArches(t *testing.T) {
	x := syntheticIndex(2)
	other := synthetic(7, 0)
	other.Ref = "app/org.bench.App00007/aarch64/stable"
	x.Update([]CommitInfo{other, {Ref: "appstream2/floss-x86_64"}, {Ref: "ostree-metadata", CommitSize: 1}}, nil)
	files, err := x.Build(BuildOptions{SummaryArches: []string{"x86_64"}})
	if err != nil {
		t.Fatal(err)
	}
	summary, err := ostree.ParseSummary(files.find("summary").Bytes())
	if err != nil {
		t.Fatal(err)
	}
	var refs []string
	for _, ref := range summary.Refs {
		refs = append(refs, ref.Ref)
	}
	want := []string{"app/org.bench.App00000/x86_64/stable", "app/org.bench.App00001/x86_64/stable", "ostree-metadata"}
	if diff := cmp.Diff(want, refs); diff != "" {
		t.Error(diff)
	}
	index, err := ostree.ParseSummaryIndex(files.find("summary.idx").Bytes())
	if err != nil || len(index.Subsummaries) != 2 {
		t.Errorf("%d subsummaries, %v", len(index.Subsummaries), err)
	}
}

func TestSignFails(t *testing.T) {
	x := syntheticIndex(1)
	want := errors.New("no key")
	_, err := x.Build(BuildOptions{Sign: func([]byte) ([][]byte, error) { return nil, want }})
	if !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
}

// TestWideOffsets crosses the sizes at which GVariant's offsets become wider.
func TestWideOffsets(t *testing.T) {
	for _, n := range []int{0, 1, 2, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 300} {
		x := syntheticIndex(n)
		x.Update([]CommitInfo{{Ref: "app/a.b.c/x86_64/s"}}, nil)
		files, err := x.Build(BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		data := files.find("summary").Bytes()
		summary, err := ostree.ParseSummary(data)
		if err != nil {
			t.Fatalf("%d refs: %v", n, err)
		}
		if !bytes.Equal(summary.Encode(), data) {
			t.Errorf("%d refs: encoded again, the summary differs", n)
		}
		v := x.view(t, files)
		if again, err := parseView(v.rest(0), nil); err != nil || again.digest != v.digest || !bytes.Equal(again.rest(0), v.rest(0)) {
			t.Errorf("%d refs: subsummary read back: %v", n, err)
		}
	}
}

func (x *Index) view(t *testing.T, files *Files) *view {
	t.Helper()
	v := files.next.subsummaries["x86_64"].current
	if v == nil {
		t.Fatal("no subsummary")
	}
	return v
}

// TestBrokenSink shows that a failed build can be done again.
func TestBrokenSink(t *testing.T) {
	x := syntheticIndex(3)
	if _, err := x.BuildAppstream(brokenSink{}, AppstreamOptions{}); !errors.Is(err, errBroken) {
		t.Fatalf("error %v", err)
	}
	commits, err := x.BuildAppstream(&countSink{}, AppstreamOptions{})
	if err != nil || len(commits) != 2 {
		t.Errorf("%d commits, %v", len(commits), err)
	}
	again, err := x.BuildAppstream(&countSink{}, AppstreamOptions{})
	if err != nil || len(again) != 2 || again[0].Info.Checksum != commits[0].Info.Checksum {
		t.Errorf("commits that were not taken are not made again: %d, %v", len(again), err)
	}
}

var errBroken = errors.New("disk full")

type brokenSink struct{}

func (brokenSink) Has(ostree.ObjectName) (bool, error) { return false, nil }

func (brokenSink) Put(ostree.ObjectName, func(io.Writer) error) error { return errBroken }
