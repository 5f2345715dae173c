package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/layout"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/kindtest"
	"freshet/internal/mirror/nginxtest"
	"freshet/internal/peertest"
	"freshet/internal/rsync/rsynctest"
)

// mirrorSoakEnv is how long TestMirrorSoak takes, "15m".
const mirrorSoakEnv = "FRESHET_MIRROR_SOAK"

// The real clients update through a mirror, again and again, while its upstreams publish
// file by file, in good order and bad; while it is killed, its disk is full and its
// upstreams do not answer. None of them ever misses a file, gets one that is not the one
// of its index, or goes back.
func TestMirrorSoak(t *testing.T) {
	onlyInAcceptance(t)
	parallel(t)
	length := time.Minute
	if text := os.Getenv(mirrorSoakEnv); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := &mirrorSoak{T: t, up: t.TempDir(), pair: t.TempDir(), disk: mount(t, "600m")}
	donor := httptest.NewTLSServer(nil)
	defer donor.Close()
	writePair(t, s.pair, donor.TLS.Certificates[0])
	for _, p := range []*soakProject{
		{eco: dnfRepository(), kind: "rpm", more: `keys = ["KEY"]`, rsync: true},
		{eco: zypperRepository(), kind: "rpm", plainOnly: true},
		{eco: aptRepository(), kind: "deb", more: `keys = ["KEY"]`, rsync: true},
		{eco: pacmanRepository(), kind: "arch", more: `repositories = ["mine.db"]`, plainOnly: true},
		{eco: ostreeRepository(), kind: "ostree"},
		{eco: flatpakRepository(), kind: "ostree", rsync: true, plainOnly: true},
		{eco: s.walked("alpine"), kind: "alpine"},
		{eco: s.walked("images"), kind: "images", rsync: true},
	} {
		peertest.Require(t, p.eco.programs...)
		s.add(p)
	}
	s.serve()
	s.chaos(length)
	s.settle()
}

// mirrorSoak is a mirror with projects of all kinds, and what is done to it.
type mirrorSoak struct {
	*testing.T
	up, pair, disk string
	projects       []*soakProject
	b              *boxed
	taps           []*tap
	rsyncd         string

	kills, full, away, switches atomic.Int64
}

// soakProject is one of them.
type soakProject struct {
	eco        ecosystem
	kind, more string
	rsync      bool // its upstream is an rsync server
	plainOnly  bool // its client trusts no certificate that is not the system's

	master, up string // where it is made, and what the mirror sees of it
	publish    func(version int) error
	version    atomic.Int64 // that is whole in up

	good, cut, mixed atomic.Int64
}

func (p *soakProject) name() string { return p.eco.name }

// walked is the kind of an upstream of which there is no client in Debian: it is walked
// through from the index to every package.
func (s *mirrorSoak) walked(name string) ecosystem {
	for _, k := range kindtest.Upstreams() {
		if k.Name != name {
			continue
		}
		return ecosystem{
			name: name, programs: k.Needs, payload: func(int) string { return "" },
			publisher: func(t *testing.T, dir string) func(int) error {
				return func(version int) error { k.Publish(t, dir, version); return nil }
			},
			install: func(_ *client, repo, _ string) (string, error) {
				w := newWalker(repo)
				_, err := w.walk(s.Context(), k.Config)
				return "version 0", err
			},
		}
	}
	s.Fatalf("there is no upstream of kind %s", name)
	return ecosystem{}
}

func (s *mirrorSoak) add(p *soakProject) {
	p.master, p.up = s.TempDir(), filepath.Join(s.up, p.name())
	if err := os.MkdirAll(p.up, 0o755); err != nil {
		s.Fatal(err)
	}
	p.publish = p.eco.publisher(s.T, p.master)
	writeCA(s.T, p.master, s.pair)
	s.projects = append(s.projects, p)
	if err := p.next(s.Context(), 1, nil); err != nil {
		s.Fatal(err)
	}
}

// serve starts upstream's servers, and the mirror.
func (s *mirrorSoak) serve() {
	byRsync := startTap(s.T, strings.TrimSuffix(strings.TrimPrefix(rsynctest.Serve(s.T, s.up), "rsync://"), "/m/"))
	byHTTP := startTap(s.T, strings.TrimSuffix(strings.TrimPrefix(nginxtest.Serve(s.T, s.up), "http://"), "/"))
	s.taps, s.rsyncd = []*tap{byRsync, byHTTP}, freeAddr(s.T)
	var tables strings.Builder
	fmt.Fprintf(&tables, "[mirror.rsyncd]\nlisten = %q\n", s.rsyncd)
	for _, p := range s.projects {
		url := "http://" + byHTTP.ln.Addr().String() + "/"
		if p.rsync {
			url = "rsync://" + byRsync.ln.Addr().String() + "/m/"
		}
		fmt.Fprintf(&tables, "[mirror.projects.%s]\nkind = %q\nupstreams = [%q]\nschedule = \"every 1m\"\nmax-shrink = 90\ngrace = \"5m\"\n%s\n",
			p.name(), p.kind, url+p.name()+"/", strings.ReplaceAll(p.more, "KEY", p.master+"/key.asc"))
	}
	secure := freeAddr(s.T)
	top := fmt.Sprintf("listen-tls = %q\n[[mirror.tls.certificates]]\ncert = %q\nkey = %q\n", secure, s.pair+"/cert.pem", s.pair+"/key.pem")
	s.b = startBoxes(s.T, s.disk, tables.String(), top)
	s.b.listenTLS = secure
	for _, p := range s.projects {
		if r := s.sync(p); r == nil || r.Result != mirrorapi.Published && r.Result != mirrorapi.Unchanged {
			s.Fatalf("%s: %+v", p.name(), r)
		}
	}
}

// sync has a project synced, and returns the report; nil if the mirror ended before.
func (s *mirrorSoak) sync(p *soakProject) *mirrorapi.Report {
	for e, err := range s.b.api().SyncWaiting(s.Context(), p.name(), mirrorapi.SyncRequest{}) {
		if err != nil {
			return nil
		}
		if e.Report != nil {
			return e.Report
		}
	}
	return nil
}

// chaos is all that happens at once.
func (s *mirrorSoak) chaos(length time.Duration) {
	ctx, cancel := context.WithTimeout(s.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i, p := range s.projects {
		wg.Go(func() { s.publishes(ctx, p, rand.New(rand.NewPCG(uint64(i), 1))) })
		wg.Go(func() { s.updates(ctx, p, rand.New(rand.NewPCG(uint64(i), 2))) })
		wg.Go(func() { s.syncs(ctx, p, rand.New(rand.NewPCG(uint64(i), 3))) })
	}
	wg.Go(func() { s.copies(ctx, s.projects[0]) })
	wg.Go(func() { s.trouble(ctx) })
	wg.Wait()
}

// publishes publishes version after version.
func (s *mirrorSoak) publishes(ctx context.Context, p *soakProject, random *rand.Rand) {
	for version := 2; wait(ctx, time.Second+randomly(random, 8*time.Second)); version++ {
		if err := p.next(s.Context(), version, random); err != nil && ctx.Err() == nil {
			s.Errorf("%s: %v", p.name(), err)
			return
		}
	}
}

// next makes a version, and lets it appear file by file.
func (p *soakProject) next(ctx context.Context, version int, random *rand.Rand) error {
	if gone := p.eco.payload(version - 3); version > 3 && strings.HasPrefix(gone, "/") {
		err := filepath.WalkDir(p.master, func(name string, _ fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(name, gone) {
				err = os.Remove(name)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := p.publish(version); err != nil {
		return err
	}
	if err := appear(ctx, p.master, p.up, random); err != nil {
		return err
	}
	p.version.Store(int64(version))
	return nil
}

// appear makes a tree what another is, as those do who publish: file by file, with pauses,
// what is new before or after what names it, some slowly in place, and what is gone at
// the beginning or at the end. Without random it is quick.
func appear(ctx context.Context, from, to string, random *rand.Rand) error {
	want, err := filesIn(from)
	if err != nil {
		return err
	}
	have, err := filesIn(to)
	if err != nil {
		return err
	}
	var changed [3][]string // by class
	n := 0
	for name, info := range want {
		if old := have[name]; old == nil || old.Size() != info.Size() || !old.ModTime().Equal(info.ModTime()) {
			class := layout.Tree(name).Class
			changed[class] = append(changed[class], name)
			n++
		}
	}
	orders := [][]layout.Class{
		{layout.Payload, layout.Index, layout.Pointer},
		{layout.Index, layout.Payload, layout.Pointer},
		{layout.Index, layout.Pointer, layout.Payload},
		{layout.Pointer, layout.Payload, layout.Index},
	}
	order, early, slow := orders[0], false, false
	if random != nil {
		order, early, slow = orders[random.IntN(len(orders))], random.IntN(3) == 0, true
	}
	remove := func() error {
		for name := range have {
			if want[name] == nil {
				if err := os.Remove(filepath.Join(to, name)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if early {
		if err := remove(); err != nil {
			return err
		}
	}
	for _, class := range order {
		for _, name := range changed[class] {
			if slow {
				wait(ctx, randomly(random, 2*time.Second)/time.Duration(n))
			}
			halfway := slow && random.IntN(4) == 0
			if err := putFile(ctx, filepath.Join(from, name), filepath.Join(to, name), want[name], halfway); err != nil {
				return err
			}
		}
	}
	if !early {
		return remove()
	}
	return nil
}

// putFile copies a file; halfway: in its place, and for a moment there is only half of it.
func putFile(ctx context.Context, from, to string, info fs.FileInfo, halfway bool) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if halfway {
		if err := os.WriteFile(to, data[:len(data)/2], 0o644); err != nil {
			return err
		}
		wait(ctx, 200*time.Millisecond)
	}
	aside := filepath.Join(filepath.Dir(to), "."+filepath.Base(to)+".Xy12Zz") // as rsync does
	return errors.Join(os.WriteFile(aside, data, 0o644), os.Chtimes(aside, info.ModTime(), info.ModTime()), os.Rename(aside, to))
}

func filesIn(dir string) (map[string]fs.FileInfo, error) {
	files := make(map[string]fs.FileInfo)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files[rel], err = os.Stat(name) // of a link what it leads to
		return err
	})
	return files, err
}

// missing is what a client says of a file that is not there, which it must never say, and
// mixed what it says of files that are not of one version.
var (
	missing = regexp.MustCompile(`(?i)\b404\b|not found on`)
	mixed   = regexp.MustCompile(`(?i)mismatch|checksum|signature verification failed|bad ?sig|hash sum|corrupt|unexpected size`)
)

// updates is a client that updates again and again.
func (s *mirrorSoak) updates(ctx context.Context, p *soakProject, random *rand.Rand) {
	var user *client
	base, before := "", 0
	for wait(ctx, randomly(random, time.Second)) {
		if user == nil {
			user = newClient(s.T)
			base = "http://" + s.b.listen
			if !p.plainOnly && random.IntN(2) == 0 {
				base = "https://" + s.b.listenTLS
			}
			if p.eco.name == "alpine" || p.eco.name == "images" {
				base = "http://" + s.b.listen
			}
		}
		began, from := s.b.now(), s.b.generation(p.name())
		got, err := p.eco.install(user, base+"/"+p.name()+"/", p.master)
		version := 0
		if err == nil {
			_, err = fmt.Sscanf(got, "version %d", &version)
		}
		switch {
		case err == nil && version >= before:
			before = version
			p.good.Add(1)
		case err == nil:
			s.Errorf("%s has version %d after %d", p.name(), version, before)
		case !missing.MatchString(err.Error()) && (s.b.now() != began || began%2 == 0): // it was killed meanwhile
			user = nil // who is interrupted may leave locks behind
			p.cut.Add(1)
			if mixed.MatchString(err.Error()) {
				p.mixed.Add(1)
				s.Logf("%s, around a kill: %v", p.name(), err)
			}
		case ctx.Err() == nil:
			s.Errorf("%s, from generation %s to %s: %v", p.name(), from, s.b.generation(p.name()), err)
			user = nil
		}
	}
}

// copies is a client of the rsync server, whose copy must be whole each time.
func (s *mirrorSoak) copies(ctx context.Context, p *soakProject) {
	user, to := newClient(s.T), s.TempDir()
	n, before := 0, 0
	for wait(ctx, time.Second) {
		began := s.b.now()
		out, err := user.try("rsync", "-a", "--delete", "--timeout=30", "rsync://"+s.rsyncd+"/"+p.name()+"/", to+"/")
		if err == nil {
			tree := kindtest.FolderTree(to)
			_, err = kindtest.Visit(ctx, kind.Config{Format: kind.RPM, Repositories: []string{"."}}, tree, tree.Open)
		}
		if err != nil && ctx.Err() == nil && s.b.now() == began && began%2 == 1 {
			s.Errorf("rsync: %v\n%s", err, out)
		}
		if err != nil {
			continue
		}
		n++
		version := 0
		for name := range filesOf(s.T, to) {
			var of int
			if _, err := fmt.Sscanf(filepath.Base(name), "freshet-hello-%d-1.noarch.rpm", &of); err == nil {
				version = max(version, of)
			}
		}
		if version < before {
			s.Errorf("rsync has version %d after %d", version, before)
		}
		before = version
	}
	s.Attr("rsync", fmt.Sprintf("%d copies, each whole", n))
}

// syncs has a project synced, now and then.
func (s *mirrorSoak) syncs(ctx context.Context, p *soakProject, random *rand.Rand) {
	for wait(ctx, randomly(random, 3*time.Second)) {
		switch r := s.sync(p); {
		case r == nil:
		case r.Result == mirrorapi.Published:
			s.switches.Add(1)
		case r.Reason == mirrorapi.ReasonInternal, r.Reason == mirrorapi.ReasonRollback, r.Reason == mirrorapi.ReasonShrink:
			s.Errorf("%s: %+v", p.name(), r)
		}
	}
}

// trouble does to the mirror what the world does.
func (s *mirrorSoak) trouble(ctx context.Context) {
	random := rand.New(rand.NewPCG(4, 4))
	hog := filepath.Join(s.disk, "hog")
	calm := func() {
		_ = os.Remove(hog) // it may not be there
		for _, p := range s.taps {
			p.mood.Store(tapOpen)
		}
	}
	defer calm()
	for wait(ctx, time.Second+randomly(random, 5*time.Second)) {
		switch random.IntN(6) {
		case 0, 1:
			s.b.kill()
			s.b.start()
			s.kills.Add(1)
		case 2:
			_ = os.WriteFile(hog, make([]byte, 600<<20), 0o600) // as much as fits
			s.full.Add(1)
		case 3:
			s.taps[random.IntN(len(s.taps))].mood.Store(tapCut)
			s.away.Add(1)
		case 4:
			s.taps[random.IntN(len(s.taps))].mood.Store(tapFrozen)
			s.away.Add(1)
		default:
			calm()
		}
	}
}

// settle waits until all is well again, and tells what was.
func (s *mirrorSoak) settle() {
	for _, p := range s.projects {
		user := newClient(s.T)
		want := fmt.Sprintf("version %d", p.version.Load())
		if p.eco.payload(1) == "" {
			want = "version 0"
		}
		eventually(s.T, p.name()+" has "+want, patience, func() error {
			r := s.sync(p)
			if r == nil || r.Result != mirrorapi.Unchanged && r.Result != mirrorapi.Published {
				return fmt.Errorf("the sync: %+v", r)
			}
			got, err := p.eco.install(user, "http://"+s.b.listen+"/"+p.name()+"/", p.master)
			if err == nil && got != want {
				err = fmt.Errorf("installed %q", got)
			}
			return err
		})
		s.Attr(p.name(), fmt.Sprintf("%d updates, %d cut by a kill (%d of them met files of two versions); %d versions", p.good.Load(), p.cut.Load(), p.mixed.Load(), p.version.Load()))
		if p.good.Load() == 0 {
			s.Errorf("%s was never updated", p.name())
		}
	}
	s.Attr("trouble", fmt.Sprintf("%d kills, %d times a full disk, %d times no upstream; %d generations", s.kills.Load(), s.full.Load(), s.away.Load(), s.switches.Load()))
}

// mount returns a folder on a disk of its own; without the right to mount one, just a
// folder.
func mount(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Logf("no disk of its own: %v", err)
		return dir
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func randomly(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(most)))
}

// wait waits, and reports whether ctx has not ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
