package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/layout"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// master is where an upstream of one kind makes its versions; up is what mirrors see.
type master struct {
	*testing.T
	kindtest.Upstream
	name    string
	dir, up string
	version int
}

func newMaster(t *testing.T, k kindtest.Upstream, up string) *master {
	t.Helper()
	peertest.Require(t, k.Needs...)
	m := &master{T: t, Upstream: k, name: k.Name, dir: filepath.Join(t.TempDir(), k.Name), up: filepath.Join(up, k.Name)}
	for _, dir := range []string{m.dir, m.up} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// next makes the next version, whose files have a time of their own.
func (m *master) next() {
	m.Helper()
	m.version++
	m.Publish(m.T, m.dir, m.version)
	files, err := filesIn(m.dir)
	for name, info := range files {
		if when := time.Unix(1_700_000_000+int64(m.version)*10, 0); err == nil && time.Since(info.ModTime()) < time.Hour {
			err = os.Chtimes(filepath.Join(m.dir, name), when, when)
		}
	}
	if err != nil {
		m.Fatal(err)
	}
}

// appear shows it to mirrors, and returns what is new.
func (m *master) appear(random *rand.Rand) (news []string) {
	m.Helper()
	before, err := filesIn(m.up)
	if err == nil {
		err = appear(m.Context(), m.dir, m.up, random)
	}
	after, failed := filesIn(m.up)
	if err != nil || failed != nil {
		m.Fatal(err, failed)
	}
	for name := range after {
		if before[name] == nil {
			news = append(news, name)
		}
	}
	slices.Sort(news)
	return news
}

// class is what a file of the upstream is.
func (m *master) class(name string) layout.Class { return m.Config.Format.Classify(name).Class }

// newPackage makes a version appear, and returns the path of a package that is new.
func (m *master) newPackage() string {
	m.Helper()
	m.next()
	news := m.appear(nil)
	i := slices.IndexFunc(news, func(name string) bool {
		return m.class(name) == layout.Payload
	})
	if i < 0 {
		m.Fatalf("no package among %q", news)
	}
	return news[i]
}

// table is the project of the mirror that has it from these URLs.
func (m *master) table(more string, urls ...string) string {
	for i := range urls {
		urls[i] = fmt.Sprintf("%q", urls[i]+m.name+"/")
	}
	text := fmt.Sprintf("[mirror.projects.%s]\nkind = %q\nupstreams = [%s]\n%s\n", m.name, m.Config.Format, strings.Join(urls, ", "), more)
	for _, r := range m.Config.Repositories {
		text += fmt.Sprintf("repositories = [%q]\n", r)
	}
	return text
}

// synced has a project synced, and fails unless that ends so.
func (b *boxed) synced(t *testing.T, project string, order mirrorapi.SyncRequest, result mirrorapi.Result, reason mirrorapi.Reason) mirrorapi.Report {
	t.Helper()
	r := b.report(t, project, order)
	if r.Result != result || r.Reason != reason {
		t.Fatalf("%s: %+v, want %s %s", project, r, result, reason)
	}
	return r
}

func (b *boxed) report(t *testing.T, project string, order mirrorapi.SyncRequest) (r mirrorapi.Report) {
	t.Helper()
	for e, err := range b.api().SyncWaiting(t.Context(), project, order) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Report != nil {
			r = *e.Report
		}
	}
	return r
}

// serves walks what the mirror has of a project, as a client does, on its disk: there
// clients of HTTP, who stay with what they began with, do not hide anything.
func (m *master) serves(b *boxed) {
	m.Helper()
	tree := kindtest.FolderTree(filepath.Join(b.data, "projects", m.name, "current/tree"))
	if _, err := kindtest.Visit(m.Context(), m.Config, tree, tree.Open); err != nil {
		m.Errorf("%s of version %d: %v", m.name, m.version, err)
	}
}

// isNewest compares what is served with what the upstream has.
func (m *master) isNewest(b *boxed) {
	m.Helper()
	want, err := filesIn(m.up)
	if err != nil {
		m.Fatal(err)
	}
	for name := range want {
		if m.class(name) != layout.Pointer || strings.HasSuffix(name, ".old") {
			continue
		}
		theirs, err := os.ReadFile(filepath.Join(m.up, name))
		if err != nil {
			m.Fatal(err)
		}
		if ours, err := os.ReadFile(filepath.Join(b.data, "projects", m.name, "current/tree", name)); err != nil || string(ours) != string(theirs) {
			m.Errorf("%s is not that of version %d: %v", name, m.version, err)
		}
	}
}

// Upstreams of all kinds publish, file by file and in good order and bad, at many moments
// of a sync. What is served then is a version that they had, whole, and never something
// between; and that they did not agree with themselves is told.
func TestMirrorUpstreamPublishes(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	moments := 3
	if fullSize() {
		moments = 20
	}
	for _, protocol := range []string{"rsync", "http"} {
		t.Run(protocol, func(t *testing.T) { mirrorUpstreamPublishes(t, protocol, moments) })
	}
}

func mirrorUpstreamPublishes(t *testing.T, protocol string, moments int) {
	up := t.TempDir()
	serve, prefix := nginxtest.Serve, ""
	if protocol == "rsync" {
		serve, prefix = rsynctest.Serve, "m/"
	}
	addr := strings.TrimSuffix(strings.TrimPrefix(serve(t, up), protocol+"://"), "/"+prefix)
	var tables strings.Builder
	var masters []*master
	var taps []*tap
	for _, k := range kindtest.Upstreams() {
		m := newMaster(t, k, up)
		m.next()
		m.appear(nil)
		p := startTap(t, addr)
		tables.WriteString(m.table("schedule = \"never\"\nmax-shrink = 100", protocol+"://"+p.ln.Addr().String()+"/"+prefix))
		masters, taps = append(masters, m), append(taps, p)
	}
	b := startBoxes(t, t.TempDir(), tables.String(), "")
	var told atomic.Int64
	t.Run("kinds", func(t *testing.T) { // it ends when all of them have
		for i, m := range masters {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				m.T = t
				m.publishesDuring(b, taps[i], moments, &told)
			})
		}
	})
	if told.Load() == 0 {
		t.Error("nothing was published at a moment at which it matters")
	}
}

// publishesDuring has the upstream publish at so many moments of syncs, from the first byte to
// the last.
func (m *master) publishesDuring(b *boxed, p *tap, moments int, all *atomic.Int64) {
	b.synced(m.T, m.name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
	m.next()
	m.appear(nil)
	p.at.Store(1 << 62)
	b.synced(m.T, m.name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
	m.serves(b)
	whole := p.passed.Load()
	random := rand.New(rand.NewPCG(5, uint64(len(m.name))))
	during, told, late := 0, 0, 0
	for i := 0; i < moments; i++ {
		m.next()
		m.appear(nil)
		m.next() // which nobody sees yet
		done := make(chan struct{})
		p.hit = func() {
			defer close(done)
			if err := appear(m.Context(), m.dir, m.up, random); err != nil {
				m.Error(err)
			}
		}
		p.passed.Store(0)
		p.at.Store(1 + whole*int64(i)/int64(moments))
		r := b.report(m.T, m.name, mirrorapi.SyncRequest{})
		if p.at.Swap(0) != 0 { // the sync was over: there is less to it than to the first one
			if late++; late > moments {
				m.Fatalf("a sync has no more than %d bytes", p.passed.Load())
			}
			whole = min(whole, p.passed.Load())
			i--
			p.hit()
		} else {
			during++
		}
		<-done
		inconsistent := r.Reason == mirrorapi.ReasonInconsistent || slices.ContainsFunc(r.Warnings, func(w string) bool {
			return strings.HasPrefix(w, string(mirrorapi.ReasonInconsistent)+": ")
		})
		if inconsistent {
			told++
			all.Add(1)
		}
		switch {
		case r.Result == mirrorapi.Published, r.Result == mirrorapi.Failed && inconsistent:
		default:
			m.Errorf("published at moment %d: %+v", i, r)
		}
		m.serves(b)
		if r := b.report(m.T, m.name, mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published && r.Result != mirrorapi.Unchanged {
			m.Errorf("after moment %d: %+v", i, r)
		}
		m.serves(b)
		m.isNewest(b)
	}
	m.Attr("published", fmt.Sprintf("at %d moments of a sync; %d syncs found upstream inconsistent; always one whole version", during, told))
}

// An index of each kind names a package that is not there: what was served stays, report,
// doctor and metrics say so, it is tried again later and later, and what else there is goes
// on.
func TestMirrorMissing(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	up := t.TempDir()
	url := nginxtest.Serve(t, up)
	var tables strings.Builder
	var masters []*master
	for _, k := range kindtest.Upstreams() {
		m := newMaster(t, k, up)
		m.next()
		m.appear(nil)
		tables.WriteString(m.table("schedule = \"every 12h\"\nmax-shrink = 100", url))
		masters = append(masters, m)
	}
	b := startBoxes(t, t.TempDir(), tables.String(), "")
	t.Run("kinds", func(t *testing.T) {
		for _, m := range masters {
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				m.T = t
				m.missing(b)
			})
		}
	})
}

func (m *master) missing(b *boxed) {
	b.report(m.T, m.name, mirrorapi.SyncRequest{})
	if m.name == "plain" { // nothing says what is missing
		m.next()
		m.appear(nil)
		b.synced(m.T, m.name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
		return
	}
	before := b.generation(m.name)
	name := m.newPackage()
	if err := os.Remove(filepath.Join(m.up, name)); err != nil {
		m.Fatal(err)
	}
	for n := range 2 {
		r := b.synced(m.T, m.name, mirrorapi.SyncRequest{}, mirrorapi.Failed, mirrorapi.ReasonInconsistent)
		if !strings.Contains(r.Message, name) || r.Path != name || r.Generation != filepath.Base(before) && !strings.HasSuffix(before, r.Generation) {
			m.Errorf("the report: %+v; what is missing is %s", r, name)
		}
		m.serves(b)
		st, err := b.api().Project(m.Context(), m.name)
		if wait := st.Next.Sub(r.Ended); err != nil || st.Failures != n+1 || wait < time.Minute<<n || wait > 2*time.Minute<<n {
			m.Errorf("after %d failures the next one is %v later: %+v, %v", st.Failures, wait, st, err)
		}
	}
	if b.generation(m.name) != before {
		m.Error("what was served does not stay")
	}
	out := run(m.T, "mirror", "doctor", "--json", "--admin", b.admin, "--token-file", b.token)
	if !strings.Contains(out, "project "+m.name) || !strings.Contains(out, name) {
		m.Errorf("the doctor does not name %s of %s:\n%s", name, m.name, out)
	}
	metrics := string(get(m.T, "http://"+b.admin+"/metrics", 200))
	for _, line := range []string{
		fmt.Sprintf("freshet_mirror_failures{project=%q} 2\n", m.name),
		fmt.Sprintf("freshet_mirror_syncs_total{project=%q,reason=\"upstream_inconsistent\",result=\"failed\"} 2\n", m.name),
	} {
		if !strings.Contains(metrics, line) {
			m.Errorf("the metrics lack %s", line)
		}
	}
	m.appear(nil)
	b.synced(m.T, m.name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
	m.serves(b)
	m.isNewest(b)
}

// One byte of a package is another one at the upstream that is asked first, with the same
// size and time: it is found before anything is published, and had from the next one.
func TestMirrorFlipped(t *testing.T) {
	parallel(t)
	for _, first := range []string{"rsync", "http"} {
		t.Run(first, func(t *testing.T) {
			good, bad := t.TempDir(), t.TempDir()
			urls := []string{rsynctest.Serve(t, bad), nginxtest.Serve(t, good)}
			if first == "http" {
				urls = []string{nginxtest.Serve(t, bad), rsynctest.Serve(t, good)}
			}
			var tables strings.Builder
			var masters []*master
			for _, k := range kindtest.Upstreams() {
				if k.Name == "plain" {
					continue // nothing says what is right
				}
				m := newMaster(t, k, bad)
				m.next()
				m.appear(nil)
				tables.WriteString(m.table("schedule = \"never\"\nmax-shrink = 100", slices.Clone(urls)...))
				masters = append(masters, m)
			}
			b := startBoxes(t, t.TempDir(), tables.String(), "")
			for _, m := range masters {
				if err := os.MkdirAll(filepath.Join(good, m.name), 0o755); err != nil {
					t.Fatal(err)
				}
				for n := range 2 {
					name := "" // at first all is well
					if n > 0 {
						name = m.newPackage()
					}
					if err := appear(t.Context(), m.dir, filepath.Join(good, m.name), nil); err != nil {
						t.Fatal(err)
					}
					if name != "" {
						flip(t, filepath.Join(m.up, name))
					}
					r := b.synced(t, m.name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
					m.serves(b)
					m.isNewest(b)
					if (r.Refetched > 0) != (n > 0) {
						t.Errorf("%s: %d files were fetched again: %+v", m.name, r.Refetched, r)
					}
				}
			}
		})
	}
}

// flip changes one byte of a file, and neither its size nor its time.
func flip(t *testing.T, name string) {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// What goes back, has lost more than two fifths, or is signed by others is refused, and
// taken with an operator's word.
func TestMirrorOperatorsWord(t *testing.T) {
	parallel(t)
	peertest.Require(t, "rpmbuild", "createrepo_c", "gpg", "rsync")
	up := t.TempDir()
	url := rsynctest.Serve(t, up)
	var tables strings.Builder
	masters := make(map[string]*master)
	for _, k := range kindtest.Upstreams() {
		m := newMaster(t, k, up)
		m.next()
		m.appear(nil)
		tables.WriteString(m.table("schedule = \"never\"", url))
		masters[k.Name] = m
	}
	// Two who publish the same, each with a key of his own.
	mine, theirs := t.TempDir(), t.TempDir()
	for i, dir := range []string{mine, theirs} {
		if err := publishRPM(t, dir)(i + 1); err != nil {
			t.Fatal(err)
		}
	}
	signed := filepath.Join(up, "signed")
	if err := os.CopyFS(signed, os.DirFS(mine)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&tables, "[mirror.projects.signed]\nkind = \"rpm\"\nupstreams = [%q]\nschedule = \"never\"\nrepositories = [\".\"]\nkeys = [%q]\n", url+"signed/", mine+"/key.asc")
	b := startBoxes(t, t.TempDir(), tables.String(), "")
	refused := func(project string, reason mirrorapi.Reason, word mirrorapi.SyncRequest) {
		t.Helper()
		before := b.generation(project)
		for range 2 {
			b.synced(t, project, mirrorapi.SyncRequest{}, mirrorapi.Refused, reason)
		}
		if b.generation(project) != before {
			t.Errorf("%s: another generation is served", project)
		}
		if m := masters[project]; m != nil {
			m.serves(b)
		}
		b.synced(t, project, word, mirrorapi.Published, "")
		b.synced(t, project, mirrorapi.SyncRequest{}, mirrorapi.Unchanged, "") // the word is for once
	}

	for _, name := range []string{"rpm", "deb", "arch", "ostree"} {
		m := masters[name]
		b.synced(t, name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
		old := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(old, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := appear(t.Context(), m.dir, old, nil); err != nil {
			t.Fatal(err)
		}
		m.next()
		m.appear(nil)
		b.synced(t, name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
		m.dir = old
		m.appear(nil)
		refused(name, mirrorapi.ReasonRollback, mirrorapi.SyncRequest{Rollback: true})
		m.serves(b)
		m.isNewest(b)
	}

	for kind, lose := range map[string]string{
		"plain":  "rm -r dir",
		"images": "rm iso/*.iso; echo the same > iso/stays.iso; cd iso; sha256sum stays.iso > .sums; mv .sums SHA256SUMS",
	} {
		m := masters[kind]
		b.synced(t, kind, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
		peertest.Run(t, m.up, nil, "sh", "-ec", lose)
		refused(kind, mirrorapi.ReasonShrink, mirrorapi.SyncRequest{Shrink: true})
		m.serves(b)
	}

	b.synced(t, "signed", mirrorapi.SyncRequest{}, mirrorapi.Published, "")
	if err := os.CopyFS(signed+".new", os.DirFS(theirs)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Rename(signed, signed+".old"), os.Rename(signed+".new", signed)); err != nil {
		t.Fatal(err)
	}
	before := b.generation("signed")
	for _, word := range []mirrorapi.SyncRequest{{}, {Force: true, Rollback: true, Shrink: true}} {
		b.synced(t, "signed", word, mirrorapi.Refused, mirrorapi.ReasonSignature)
	}
	if b.generation("signed") != before {
		t.Error("what nobody signed is served")
	}
	// The operator's word is the key.
	b.kill()
	text, err := os.ReadFile(b.config)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), mine+"/key.asc", theirs+"/key.asc"))
	if err := os.WriteFile(b.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.start()
	// A project with other settings is looked at by itself, too, maybe before the order.
	if r := b.report(t, "signed", mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published && r.Result != mirrorapi.Unchanged || r.Generation == before {
		t.Errorf("with the key: %+v", r)
	}
}

// A mirror whose disk is full to the last byte starts again, and serves.
func TestMirrorStartsOnFullDisk(t *testing.T) {
	parallel(t)
	k := kindtest.Upstreams()[slices.IndexFunc(kindtest.Upstreams(), func(k kindtest.Upstream) bool { return k.Name == "alpine" })]
	up, disk := t.TempDir(), mount(t, "64m")
	m := newMaster(t, k, up)
	m.next()
	m.appear(nil)
	if os.Geteuid() == 0 { // rsync becomes nobody
		for top := disk; len(top) > len(os.TempDir()); top = filepath.Dir(top) {
			_ = os.Chmod(top, 0o755)
		}
	}
	table, listen := m.table("schedule = \"never\"", nginxtest.Serve(t, up)), freeAddr(t)
	b := startBoxes(t, disk, fmt.Sprintf("[mirror.rsyncd]\nlisten = %q\nmessage = \"hello\"\n%s", listen, table), "")
	b.synced(t, m.name, mirrorapi.SyncRequest{}, mirrorapi.Published, "")
	m.next()
	m.appear(nil)
	b.kill()
	_ = os.WriteFile(filepath.Join(disk, "hog"), make([]byte, 64<<20), 0o600) // as much as fits
	b.start()
	if _, err := newWalker("http://"+b.listen+"/"+m.name+"/").walk(t.Context(), m.Config); err != nil {
		t.Error(err)
	}
	user := newClient(t)
	if out, err := user.try("rsync", "-r", "--list-only", "rsync://"+listen+"/"+m.name+"/"); err != nil || !strings.Contains(out, "APKINDEX.tar.gz") {
		t.Errorf("by rsync: %v\n%s", err, out)
	}
	// An order that cannot be kept is refused with a reason.
	_, err := b.api().Hold(t.Context(), m.name, mirrorapi.HoldRequest{Reason: "to see"})
	if refused, ok := errors.AsType[*mirrorapi.Error](err); !ok || refused.Reason != string(mirrorapi.ReasonNoSpace) || !strings.Contains(refused.Message, "make room") {
		t.Errorf("an order on a full disk: %v", err)
	}
	if err := os.Remove(filepath.Join(disk, "hog")); err != nil {
		t.Fatal(err)
	}
	if r := b.report(t, m.name, mirrorapi.SyncRequest{}); r.Result != mirrorapi.Published && r.Result != mirrorapi.Unchanged {
		t.Errorf("with room again: %+v", r)
	}
	m.isNewest(b)
}
