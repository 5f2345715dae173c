package upkeep

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"freshet/internal/durable"
	"freshet/internal/ostree"
)

// rememberedFile is what a sound check leaves for the next incremental one.
const rememberedFile = ".fsck"

// rememberedHead is its first line.
const rememberedHead = "freshet-fsck 1\n"

// remembered is what a sound check has seen: it need not be looked at again.
type remembered struct {
	commits map[ostree.Checksum]bool
	deltas  map[ostree.DeltaName]ostree.Checksum // with the checksums of the superblocks
}

func (m *remembered) any() bool { return len(m.commits) > 0 }

func (m *remembered) addCommit(sum ostree.Checksum) {
	if m.commits == nil {
		m.commits = map[ostree.Checksum]bool{}
	}
	m.commits[sum] = true
}

func (m *remembered) addDelta(name ostree.DeltaName, superblock ostree.Checksum) {
	if m.deltas == nil {
		m.deltas = map[ostree.DeltaName]ostree.Checksum{}
	}
	m.deltas[name] = superblock
}

// readRemembered reads what write wrote; nothing when there is no such file. One
// that cannot be read as such is as good as none.
func readRemembered(root *os.Root) (remembered, error) {
	f, err := root.Open(rememberedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return remembered{}, nil
	}
	if err != nil {
		return remembered{}, err
	}
	m, err := parseRemembered(f)
	return m, errors.Join(err, f.Close())
}

func parseRemembered(r io.Reader) (remembered, error) {
	lines := bufio.NewReader(r)
	if head, err := lines.ReadString('\n'); err != nil || head != rememberedHead {
		return remembered{}, ignoreEOF(err)
	}
	var m remembered
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return remembered{}, ignoreEOF(err) // without its end it is not whole
		}
		word, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch word {
		case "commit":
			sum, err := ostree.ParseChecksum(value)
			if err != nil {
				return remembered{}, nil //nolint:nilerr // documented
			}
			m.addCommit(sum)
		case "delta":
			name, hex, _ := strings.Cut(value, " ")
			delta, err := ostree.ParseDeltaHex(name)
			sum, sumErr := ostree.ParseChecksum(hex)
			if err != nil || sumErr != nil {
				return remembered{}, nil //nolint:nilerr // documented
			}
			m.addDelta(delta, sum)
		case "end":
			return m, nil
		default:
			return remembered{}, nil
		}
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// write puts it into the repository, durably.
func (m *remembered) write(dir durable.Dir) error {
	return dir.Write(rememberedFile, 0o644, func(w io.Writer) error {
		b := bufio.NewWriter(w)
		_, _ = b.WriteString(rememberedHead) // Flush tells
		for _, sum := range sortedKeys(m.commits, ostree.Checksum.Compare) {
			_, _ = fmt.Fprintf(b, "commit %s\n", sum)
		}
		for _, name := range sortedKeys(m.deltas, ostree.DeltaName.Compare) {
			_, _ = fmt.Fprintf(b, "delta %s %s\n", name.Hex(), m.deltas[name])
		}
		_, _ = b.WriteString("end\n")
		return b.Flush()
	})
}

func sortedKeys[K comparable, V any](m map[K]V, compare func(K, K) int) []K {
	keys := make([]K, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compare)
	return keys
}
