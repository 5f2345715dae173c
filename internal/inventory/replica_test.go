package inventory_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"freshet/internal/inventory"

	"pgregory.net/rapid"
)

// pair is an inventory, and one that follows it.
type pair struct {
	theirs, ours inventory.Inventory
	replica      *inventory.Replica
	last         inventory.Edition
	n            int
}

func newPair() *pair {
	p := new(pair)
	p.replica = inventory.NewReplica(&p.ours)
	return p
}

// since is what has changed since the edition that was sent last, or all if there is none.
func (p *pair) since(t testing.TB) (content []byte, next inventory.Edition) {
	t.Helper()
	var b bytes.Buffer
	next = p.theirs.Edition()
	err := next.Write(&b)
	if p.replica.Tag() != "" {
		b.Reset()
		err = next.WriteSince(&b, p.last, p.replica.Tag())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), next
}

// follow sends the next edition, and returns how long it was.
func (p *pair) follow(t testing.TB) int {
	t.Helper()
	content, next := p.since(t)
	p.n++
	if _, err := p.replica.Take(bytes.NewReader(content), fmt.Sprint(p.n), false); err != nil {
		t.Fatal(err)
	}
	p.last = next
	return len(content)
}

// Whatever changes, and however it is told, a replica knows what the other knows.
func TestReplica(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, w := newPair(), make(world)
		now := time.Unix(1_700_000_000, 0)
		// Its numbers of mirrors are others.
		if _, err := p.ours.Holder("b"); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 10).Draw(rt, "updates") {
			name := rapid.SampledFrom([]string{"", "x", "b", "a"}).Draw(rt, "holder")
			h, err := p.theirs.Holder(name)
			if err != nil {
				t.Fatal(err)
			}
			project := rapid.SampledFrom([]string{"p", "q"}).Draw(rt, "project")
			tree := p.theirs.Project(project)
			now = now.Add(time.Minute)
			entries := w.listing(rt, name, now)
			w[name] = make(map[string]inventory.Entry)
			for _, e := range entries {
				w[name][e.Path] = e
			}
			switch rapid.SampledFrom([]string{"replace", "replace", "apply", "drop", "forget"}).Draw(rt, "what") {
			case "replace":
				_, err = tree.Replace(h, inventory.Listing{At: now, Entries: listed(entries...)})
			case "apply":
				_, err = tree.Apply(h, inventory.Delta{At: now, Entries: listed(entries...)})
			case "drop":
				tree.Drop(h)
			default:
				p.theirs.DropProject(project)
			}
			if err != nil && !errors.Is(err, inventory.ErrShrunk) {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "follow") {
				p.follow(t)
			}
		}
		p.follow(t)
		// A project that is gone is one of which nothing is known.
		for _, project := range p.ours.Projects() {
			p.theirs.Project(project)
		}
		for _, project := range p.theirs.Projects() {
			p.ours.Project(project)
		}
		if ours, theirs := bytesOf(t, &p.ours), bytesOf(t, &p.theirs); !bytes.Equal(ours, theirs) {
			rt.Fatalf("%d bytes, and not the %d", len(ours), len(theirs))
		}
		for _, project := range p.ours.Projects() {
			ours, theirs := p.ours.Project(project).View(), p.theirs.Project(project).View()
			for h, s := range theirs.Standings() {
				other, _ := p.ours.Lookup(p.theirs.Name(h))
				if got := ours.Standing(other); got.Files != s.Files {
					rt.Fatalf("%s: %q has %d files, not %d", project, p.theirs.Name(h), got.Files, s.Files)
				}
			}
		}
	})
}

// A change costs what has changed.
func TestSinceIsShort(t *testing.T) {
	p := newPair()
	all := files(5000)
	h, _ := p.theirs.Holder("m")
	replace(t, p.theirs.Project("p"), inventory.Origin, all...)
	whole := p.follow(t)
	replace(t, p.theirs.Project("p"), h, all[:100]...)
	p.follow(t)
	if _, err := p.theirs.Project("p").Apply(h, inventory.Delta{Entries: listed(all[200])}); err != nil {
		t.Fatal(err)
	}
	if n := p.follow(t); n > whole/5 {
		t.Errorf("one file: %d bytes, and all are %d", n, whole)
	}
	replace(t, p.theirs.Project("p"), h, append(all[:100:100], all[200])...)
	if n := p.follow(t); n > 200 {
		t.Errorf("a listing without news: %d bytes", n)
	}
	if n := p.follow(t); n > 100 {
		t.Errorf("nothing: %d bytes", n)
	}
}

// What is cut, damaged or of another base changes nothing.
func TestReplicaRefuses(t *testing.T) {
	p := newPair()
	all := files(300)
	h, _ := p.theirs.Holder("m")
	replace(t, p.theirs.Project("p"), inventory.Origin, all...)
	p.follow(t)
	replace(t, p.theirs.Project("p"), h, all...)
	content, _ := p.since(t)
	before, serial := bytesOf(t, &p.ours), p.ours.Serial()
	random := rand.New(rand.NewPCG(5, 6))
	for n := range len(content) {
		if n > 300 && random.IntN(20) > 0 {
			continue
		}
		damaged := bytes.Clone(content)
		damaged[n] ^= 1 << random.IntN(8)
		for _, c := range [][]byte{content[:n], damaged} {
			if _, err := p.replica.Take(bytes.NewReader(c), "x", false); !errors.Is(err, inventory.ErrFormat) {
				t.Fatalf("byte %d of %d: %v", n, len(content), err)
			}
		}
	}
	if _, err := inventory.NewReplica(&p.ours).Take(bytes.NewReader(content), "x", true); !errors.Is(err, inventory.ErrGap) {
		t.Errorf("who has nothing took what has changed: %v", err)
	}
	var b bytes.Buffer
	if err := p.theirs.Edition().WriteSince(&b, p.last, "other"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.replica.Take(&b, "x", true); !errors.Is(err, inventory.ErrGap) {
		t.Errorf("another base: %v", err)
	}
	if _, err := inventory.Read(bytes.NewReader(content)); !errors.Is(err, inventory.ErrGap) {
		t.Errorf("read as a file: %v", err)
	}
	if p.replica.Tag() != "1" || p.ours.Serial() != serial || !bytes.Equal(bytesOf(t, &p.ours), before) {
		t.Error("what was refused has changed something")
	}
}

// A whole edition that has lost most is taken by force only; what has changed is believed.
func TestReplicaShrunk(t *testing.T) {
	p := newPair()
	replace(t, p.theirs.Project("p"), inventory.Origin, files(100)...)
	p.follow(t)
	var little inventory.Inventory
	replace(t, little.Project("p"), inventory.Origin, files(50)...)
	content := bytesOf(t, &little)
	if _, err := p.replica.Take(bytes.NewReader(content), "2", false); !errors.Is(err, inventory.ErrShrunk) {
		t.Error(err)
	}
	if n := p.ours.Project("p").View().Len(); n != 100 || p.replica.Tag() != "1" {
		t.Errorf("%d files of edition %q", n, p.replica.Tag())
	}
	if _, err := p.replica.Take(bytes.NewReader(content), "2", true); err != nil {
		t.Error(err)
	}
	if n := p.ours.Project("p").View().Len(); n != 50 || p.replica.Tag() != "2" {
		t.Errorf("%d files of edition %q", n, p.replica.Tag())
	}
}

// What was seen here holds until the mirror is listed again, whatever else is told.
func TestReplicaDoubts(t *testing.T) {
	p := newPair()
	all := files(20)
	tree, ours := p.theirs.Project("p"), p.ours.Project("p")
	m, _ := p.theirs.Holder("m")
	o, _ := p.theirs.Holder("o")
	at := time.Unix(1_700_000_000, 0)
	list := func(h inventory.Holder) {
		t.Helper()
		at = at.Add(time.Minute)
		if _, err := tree.Replace(h, inventory.Listing{At: at, Entries: listed(all...)}); err != nil {
			t.Fatal(err)
		}
		p.follow(t)
	}
	list(inventory.Origin)
	list(m)
	h, _ := p.ours.Lookup("m")
	has := func(want bool) {
		t.Helper()
		if f, _ := ours.Find(all[3].Path); f.Holders.Has(h) != want || ours.View().Standing(h).Files != map[bool]int{true: 20, false: 19}[want] {
			t.Errorf("held by %v, of %+v; want %t", f.Holders.Len(), ours.View().Standing(h), want)
		}
	}
	has(true)
	p.replica.Doubt("p", h, all[3].Path)
	has(false)
	list(o) // the same folders
	has(false)
	list(m)
	has(true)
	list(o)
	has(true)
}

// Whatever comes, the replica is what the files say, or as it was. The input is what
// FuzzRead takes.
func FuzzReplica(f *testing.F) {
	p := newPair()
	replace(f, p.theirs.Project("p"), inventory.Origin, files(14)...)
	p.follow(f)
	h, _ := p.theirs.Holder("m")
	replace(f, p.theirs.Project("p"), h, files(9)...)
	replace(f, p.theirs.Project("p"), inventory.Origin, files(11)[2:]...)
	content, _ := p.since(f)
	f.Add(withoutSums(content))
	f.Add(withoutSums(bytesOf(f, sample(f, 14))))
	whole := bytesOf(f, &p.ours)
	f.Fuzz(func(t *testing.T, data []byte) {
		var v inventory.Inventory
		replica := inventory.NewReplica(&v)
		if _, err := replica.Take(bytes.NewReader(whole), "1", false); err != nil {
			t.Fatal(err)
		}
		if _, err := replica.Take(bytes.NewReader(withSums(data)), "2", true); err != nil {
			if !errors.Is(err, inventory.ErrFormat) && !errors.Is(err, inventory.ErrGap) {
				t.Fatal(err)
			}
			if !bytes.Equal(bytesOf(t, &v), whole) {
				t.Fatal("what was refused has changed something")
			}
			return
		}
		first := bytesOf(t, &v)
		again, err := inventory.Read(bytes.NewReader(first))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range v.Projects() {
			for h, s := range v.Project(name).View().Standings() {
				other, _ := again.Lookup(v.Name(h))
				if got := again.Project(name).View().Standing(other); h != inventory.Origin && got.Files != s.Files {
					t.Fatalf("%q has %d files, counted as %d", v.Name(h), got.Files, s.Files)
				}
			}
		}
	})
}
