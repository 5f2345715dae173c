package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// maxSample is the largest file in a sample, in bytes.
const maxSample = 20_000_000

// sampleTree copies a mixed sample of this machine's files, programs, libraries
// and data, of about so many bytes.
func sampleTree(dir string, size int64) error {
	type candidate struct {
		path string
		info fs.FileInfo
	}
	var all []candidate
	for _, root := range []string{"/usr/lib/x86_64-linux-gnu", "/usr/lib/jvm", "/usr/lib/gcc", "/usr/share", "/usr/bin", "/usr/local/go/src", "/usr/lib/python3"} {
		if err := walkFiles(root, func(path string, info fs.FileInfo) error {
			if info.Size() > 0 && info.Size() <= maxSample {
				all = append(all, candidate{path, info})
			}
			return nil
		}); err != nil {
			return err
		}
	}
	random := rand.New(rand.NewPCG(1, 1))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var total int64
	for _, c := range all {
		if total+c.info.Size() > size {
			continue
		}
		content, err := os.ReadFile(c.path)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, "files", c.path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(target, content, c.info.Mode().Perm()|0o444); err != nil {
			return err
		}
		total += c.info.Size()
	}
	if total < size*9/10 {
		return fmt.Errorf("this machine has files for %d of %d bytes only", total, size)
	}
	return nil
}

// changeTree does what a new version does: 15 % of the files change at places
// throughout and grow a little, 2 % go, 2 % are new.
func changeTree(dir string) error {
	random := rand.New(rand.NewPCG(2, 2))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		return b
	}
	return walkFiles(dir, func(path string, info fs.FileInfo) error {
		x := random.Float64()
		if x >= 0.19 {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		switch {
		case x < 0.02:
			return os.Remove(path)
		case x < 0.17:
			for range max(3, len(content)/4000) {
				content[random.IntN(len(content))] = byte(random.Uint32())
			}
			at := random.IntN(len(content))
			content = bytes.Join([][]byte{content[:at], noise(min(700, len(content)/10+1)), content[at:]}, nil)
			return os.WriteFile(path, content, info.Mode())
		}
		return os.WriteFile(path+".new", append(noise(3000), content[:min(len(content), 200_000)]...), 0o644)
	})
}
