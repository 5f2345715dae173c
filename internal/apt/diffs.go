package apt

import (
	"bytes"
	"fmt"
	"io"
	"iter"
)

// maxDiffs is how many differences one index may list. Debian keeps those of two weeks.
const maxDiffs = 10_000

// Diffs reads the list of the differences between versions of an index, such as
// Packages.diff/Index, and yields the files that clients download. Their paths are
// relative to the folder of the list, and have no slash. Of lists from before 2016, which
// tell nothing of the files as they lie there, it yields none: clients do without.
func Diffs(r io.Reader) iter.Seq2[IndexEntry, error] {
	return index("Index of differences", r, func() stanza { return &diffs{} })
}

// diffs is the one stanza of such a list.
type diffs struct{ files []IndexEntry }

func (d *diffs) field(name, value []byte) (bool, error) {
	if !is(name, "SHA256-Download") {
		return false, nil
	}
	if len(value) > 0 {
		return true, d.more(value)
	}
	return true, nil
}

// more reads "checksum size name".
func (d *diffs) more(line []byte) error {
	columns := bytes.Fields(line)
	if len(columns) != 3 {
		return fmt.Errorf("%d columns of a file, not 3", len(columns))
	}
	sum, err := sha256Sum(columns[0])
	if err != nil {
		return err
	}
	size, err := fileSize(columns[1])
	if err != nil {
		return err
	}
	name := string(columns[2])
	if clean, err := archivePath(name); err != nil || clean != name || name == "." || bytes.ContainsRune(columns[2], '/') {
		return fmt.Errorf("%.100q is no name of a file", name)
	}
	if len(d.files) == maxDiffs {
		return fmt.Errorf("more than %d files", maxDiffs)
	}
	d.files = append(d.files, IndexEntry{Path: name, Size: size, SHA256: sum})
	return nil
}

func (d *diffs) entries() ([]IndexEntry, error) {
	files := d.files
	*d = diffs{}
	return files, nil
}
