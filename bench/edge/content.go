package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	objects  = 2000
	kilobyte = "/files/kilobyte.rpm"
	large    = "/files/large.rpm"

	tenMegabytes = "/files/ten.rpm"
)

// objectPath is the path of a small object. The names are those of immutable
// files, as most requests to a repository are.
func objectPath(i int) string { return fmt.Sprintf("/files/%02x/object-%04d.rpm", i%256, i) }

// writeContent makes the files: small ones of 1 to 30 kB whose sizes are
// log-normal with a median of 3.4 kB, one of 1 kB, one of 100 MB.
func writeContent(dir string) error {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range objects {
		size := int(3400 * math.Exp(0.8*random.NormFloat64()))
		if err := writeFile(filepath.Join(dir, "www", objectPath(i)), max(1000, min(size, 30000)), uint64(i)); err != nil {
			return err
		}
	}
	if err := writeFile(filepath.Join(dir, "www", kilobyte), 1024, 1); err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "www", tenMegabytes), 10_000_000, 4); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, "www", large), 100_000_000, 2)
}

func writeFile(name string, size int, seed uint64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(seed, 3))
	b := make([]byte, size+8)
	for i := 0; i < size; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], random.Uint64())
	}
	return os.WriteFile(name, b[:size], 0o644)
}
