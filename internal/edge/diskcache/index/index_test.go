package index

import (
	"crypto/sha256"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func key(n int) Key {
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	return Key(sum[:16])
}

func (x *Index) put(k Key, item Item) bool {
	return x.Update(k, func(Item, bool) (Item, Action) { return item, Put })
}

func (x *Index) drop(k Key, how Action) {
	x.Update(k, func(Item, bool) (Item, Action) { return Item{}, how })
}

func (x *Index) get(k Key) (item Item, ok bool) {
	ok = x.View(k, false, func(it Item) { item = it })
	return item, ok
}

// The index behaves as a map does, whatever is done to it, and so does one that
// was loaded from its dump.
func TestLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x Index
		defer x.Clear()
		want := make(map[Key]Item)
		// Few shards and neighbouring tags, so that probes are long and wrap.
		keys := rapid.Custom(func(t *rapid.T) Key {
			return Key{0, 0, byte(rapid.IntRange(0, 3).Draw(t, "high")) * 85, 8: byte(rapid.IntRange(2, 200).Draw(t, "low"))}
		})
		items := rapid.Custom(func(t *rapid.T) Item {
			return Item{
				Seg: rapid.Uint32Range(0, MaxSegments-1).Draw(t, "seg"), Off: rapid.Uint32Range(0, MaxOff-1).Draw(t, "off"),
				Len: rapid.Uint16().Draw(t, "len"), Blocks: rapid.Uint32().Draw(t, "blocks"),
				Rev: rapid.Uint16().Draw(t, "rev"), Flags: rapid.Byte().Draw(t, "flags"), Uses: rapid.ByteRange(0, MaxUses).Draw(t, "uses"),
			}
		})
		put := func(t *rapid.T) {
			k, item := keys.Draw(t, "key"), items.Draw(t, "item")
			x.put(k, item)
			want[k] = item
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": put, "put more": put, "put even more": put,
			"drop": func(t *rapid.T) {
				k := keys.Draw(t, "key")
				x.drop(k, Drop)
				delete(want, k)
			},
			"filter": func(t *rapid.T) {
				bit := rapid.Byte().Draw(t, "bit")
				x.Filter(0, func(it Item) bool { return it.Flags&bit == 0 })
				for k, it := range want {
					if it.Flags&bit != 0 {
						delete(want, k)
					}
				}
			},
			"reload": func(t *rapid.T) {
				dump := x.Dump(0, nil)
				x.Clear()
				if n, err := x.Load(0, dump); err != nil || n != len(dump) {
					t.Fatal(n, err)
				}
			},
			"": func(t *rapid.T) {
				if x.Len() != len(want) {
					t.Fatalf("%d objects, want %d", x.Len(), len(want))
				}
				for k, item := range want {
					if got, ok := x.get(k); !ok || got != item {
						t.Fatalf("%x: %+v %v, want %+v", k, got, ok, item)
					}
				}
				n := 0
				x.Range(0, func(Item) { n++ })
				if n != len(want) {
					t.Fatalf("%d items in the range, want %d", n, len(want))
				}
			},
		})
	})
}

func TestUsesAreCounted(t *testing.T) {
	var x Index
	defer x.Clear()
	x.put(key(1), Item{Rev: 0xffff, Flags: 7})
	for range 5 {
		x.View(key(1), true, func(Item) {})
	}
	if it, _ := x.get(key(1)); it.Uses != MaxUses || it.Flags != 7 || it.Rev != 0xffff {
		t.Errorf("%+v", it)
	}
}

func TestGhosts(t *testing.T) {
	var x Index
	defer x.Clear()
	const n = 50_000
	for i := range n {
		x.put(key(i), Item{})
	}
	for i := range n / 2 {
		x.drop(key(i), DropToGhost)
	}
	for i := n; i < n+n/4; i++ { // tables grow, ghosts move
		x.put(key(i), Item{})
	}
	known := 0
	for i := range n / 2 {
		if x.Ghost(key(i)) {
			known++
		}
	}
	if known < n*45/100 {
		t.Errorf("%d of %d are remembered", known, n/2)
	}
	if x.Ghost(key(n)) {
		t.Error("an object is a ghost")
	}
	x.put(key(n/2-1), Item{})
	if x.Ghost(key(n/2 - 1)) {
		t.Error("one that came back is a ghost still")
	}
	// Those from long ago are forgotten.
	for i := n; i < 6*n; i++ {
		x.put(key(i), Item{})
		x.drop(key(i), DropToGhost)
	}
	for i := range n / 2 {
		if x.Ghost(key(i)) {
			known--
		}
	}
	if known < n*40/100 {
		t.Error("old ghosts stay")
	}
}

func TestConcurrentUse(t *testing.T) {
	var x Index
	defer x.Clear()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 20_000 {
				k := key(i * (g + 1) % 3000)
				switch i % 5 {
				case 0:
					x.put(k, Item{Off: uint32(k[3])})
				case 1:
					x.drop(k, DropToGhost)
				case 2:
					x.Ghost(k)
				default:
					x.View(k, true, func(it Item) {
						if it.Off != uint32(k[3]) {
							t.Errorf("%x: %+v", k, it)
						}
					})
				}
				if i%1000 == 0 {
					x.Dump(k.shard(), nil)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzLoad(f *testing.F) {
	var x Index
	x.put(Key{}, Item{Off: 1})
	f.Add(x.Dump(0, nil))
	f.Add([]byte{})
	x.Clear()
	f.Fuzz(func(t *testing.T, data []byte) {
		var x Index
		defer x.Clear()
		if n, err := x.Load(0, data); err == nil {
			if n > len(data) {
				t.Error(n)
			}
			x.View(Key{}, true, func(Item) {})
			x.put(Key{0, 0, 1}, Item{})
		}
	})
}

// rss is the memory of this process that is its own.
func rss(tb testing.TB) int {
	tb.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		tb.Skip(err)
	}
	_, after, _ := strings.Cut(string(status), "RssAnon:")
	kb, err := strconv.Atoi(strings.Fields(after)[0])
	if err != nil {
		tb.Fatal(err)
	}
	return kb << 10
}

func fast(n int) Key {
	a, b := uint64(n)*0x9e3779b97f4a7c15, uint64(n)*0xc2b2ae3d27d4eb4f
	a ^= a >> 29
	b ^= b >> 31
	var k Key
	binary.BigEndian.PutUint64(k[:], a*0xbf58476d1ce4e5b9)
	binary.BigEndian.PutUint64(k[8:], b)
	return k
}

// Ten million objects, with as many ghosts.
func BenchmarkIndex10M(b *testing.B) {
	const n = 10_000_000
	var x Index
	defer x.Clear()
	before := rss(b)
	for i := range n {
		x.put(fast(i), Item{Off: uint32(i)})
	}
	objects := rss(b) - before
	for i := n; i < 2*n; i++ {
		x.put(fast(i), Item{Off: uint32(i)})
		x.drop(fast(i-n), DropToGhost)
	}
	all := rss(b) - before
	b.ReportAllocs()
	i, sum := 0, uint32(0)
	for b.Loop() {
		x.View(fast(n+i%n), true, func(it Item) { sum += it.Off })
		i += 7919
	}
	b.ReportMetric(float64(objects)/n, "B/object")
	b.ReportMetric(float64(all)/n, "B/object+ghost")
}
