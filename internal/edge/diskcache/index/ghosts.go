package index

// ghosts remembers tags for a while: until as many others have come as the
// shard has objects, or a little less. A bucket has four places; the oldest
// gives way. The zero value remembers nothing.
//
// A place is 40 bits of the tag, and when it came: the count of tags added
// before, modulo 2^24.
type ghosts struct {
	mem   []byte
	words []uint64
	now   uint64 // tags added so far, from 1 on
}

const (
	ways     = 4
	timeBits = 24
	timeMask = 1<<timeBits - 1
)

func (g *ghosts) bucket(tag uint64) []uint64 {
	b := home(tag&^timeMask, len(g.words)/ways) * ways
	return g.words[b : b+ways]
}

// age is how many tags were added after the one of a place.
func (g *ghosts) age(word uint64) uint64 { return (g.now - word) & timeMask }

// add remembers a tag. slots is the size of the table, so much room there is
// for ghosts; memory is taken at the first.
func (g *ghosts) add(tag uint64, slots int) {
	if g.words == nil && !g.make(slots) {
		return
	}
	g.now++
	bucket := g.bucket(tag)
	oldest := 0
	for i, word := range bucket {
		if word == 0 || word>>timeBits == tag>>timeBits {
			oldest = i
			break
		}
		if g.age(word) > g.age(bucket[oldest]) {
			oldest = i
		}
	}
	bucket[oldest] = tag&^timeMask | g.now&timeMask
}

func (g *ghosts) place(tag uint64) *uint64 {
	if g.words != nil {
		for i, word := range g.bucket(tag) {
			if word != 0 && word>>timeBits == tag>>timeBits {
				return &g.bucket(tag)[i]
			}
		}
	}
	return nil
}

// has reports whether the tag was added and no more than n others after it.
func (g *ghosts) has(tag uint64, n int) bool {
	p := g.place(tag)
	return p != nil && g.age(*p) <= uint64(max(n, 16))
}

func (g *ghosts) remove(tag uint64) {
	if p := g.place(tag); p != nil {
		*p = 0
	}
}

func (g *ghosts) make(slots int) bool {
	mem, words, ok := allocate((slots + ways - 1) / ways * ways * 8)
	if ok {
		g.mem, g.words = mem, words
	}
	return ok
}

// resize follows the table.
func (g *ghosts) resize(slots int) {
	if g.words == nil {
		return
	}
	old := *g
	if *g = (ghosts{now: old.now}); g.make(slots) {
		for _, word := range old.words {
			if word == 0 {
				continue
			}
			for i, place := range g.bucket(word) {
				if place == 0 {
					g.bucket(word)[i] = word
					break
				}
			}
		}
	}
	release(old.mem)
}

func (g *ghosts) free() {
	release(g.mem)
	*g = ghosts{}
}
