package inventory_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"freshet/internal/inventory"
)

// block is one of a file, without its sum.
func block(kind byte, content []byte) []byte {
	b := binary.LittleEndian.AppendUint32([]byte{kind}, uint32(len(content)))
	return append(b, content...)
}

// text is a text with its length.
func text(s string) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(s))), s...)
}

// projectOf is the block of a project that mirror 1 was listed for at a time.
func projectOf(name string, micros int64) []byte {
	b := append(text(name), 1, 1)
	return block(2, append(binary.AppendVarint(b, micros), 0))
}

// What no inventory writes is refused before it takes much time or memory.
func TestRefusesHostile(t *testing.T) {
	const now = 1_700_000_000_000_000
	head := append([]byte("FRSHINV1"), block(1, append([]byte{1}, text("m")...))...)
	file := func(blocks ...[]byte) []byte {
		return bytes.Join(append([][]byte{head}, blocks...), nil)
	}
	// A file of a million versions: walking back from each to its name would take days.
	again := append([]byte{0, 0}, binary.AppendUvarint(nil, 1_000_001)...)
	again = append(again, 0, 0, 1, 'f', 0, 0, 0, 0, 0, 1)
	for range 1_000_000 {
		again = append(again, 2, 1, 0, 0, 0, 0, 1)
	}
	many := make([][]byte, 1<<16)
	for i := range many {
		many[i] = projectOf(fmt.Sprint(i), now)
	}
	for name, content := range map[string][]byte{
		"versions":       file(projectOf("p", now), block(3, []byte{1, 2}), block(4, again), block(5, []byte{0xc1, 0x84, 0x3d})),
		"projects":       file(append(many, block(5, []byte{0}))...),
		"sets of nobody": file(projectOf("p", now), block(3, make([]byte, 1<<20)), block(5, []byte{0})),
		"the far future": file(projectOf("p", time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()), block(5, []byte{0})),
	} {
		begin := time.Now()
		if _, err := inventory.Read(bytes.NewReader(withSums(content))); !errors.Is(err, inventory.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		} else {
			t.Logf("%s: %v, after %v", name, err, time.Since(begin))
		}
	}
	// The same with nothing wrong, so that it is refused for that alone.
	sound := file(projectOf("p", now), block(3, []byte{1, 2}), block(4, append([]byte{0, 0, 1, 0, 0, 1}, 'f', 0, 0, 0, 0, 0, 1)), block(5, []byte{1}))
	if _, err := inventory.Read(bytes.NewReader(withSums(sound))); err != nil {
		t.Error(err)
	}
}
