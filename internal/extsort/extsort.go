// Package extsort sorts more records than fit into memory.
//
// Records are kept in memory up to a limit; then they are sorted and written to a
// file without a name, which the system removes with the process. What was written
// and what is in memory is merged while it is read.
package extsort

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
)

// DefaultMemory is the limit of a Sorter that is told none, in bytes.
const DefaultMemory = 8 << 20

// perRecord is what a record takes in memory beside its bytes.
const perRecord = 40

// Sorter collects records and yields them in order. The zero Sorter works, with its
// files in the folder for temporary files. It is not safe for concurrent use.
type Sorter struct {
	// Dir is the folder of its files; empty: the one for temporary files.
	Dir string
	// Memory is how many bytes of records are kept in memory; 0: DefaultMemory.
	Memory int

	held  []Record
	bytes int
	runs  []run
}

// Record is a key with a value.
type Record struct {
	Key   string
	Value []byte
}

// run is a file of sorted records.
type run struct {
	file *os.File
	size int64
}

// Add adds a record. The value is copied.
func (s *Sorter) Add(key string, value []byte) error {
	s.held = append(s.held, Record{Key: strings.Clone(key), Value: slices.Clone(value)})
	s.bytes += len(key) + len(value) + perRecord
	limit := s.Memory
	if limit <= 0 {
		limit = DefaultMemory
	}
	if s.bytes < limit {
		return nil
	}
	return s.spill()
}

// All yields all records, sorted by the bytes of their keys; those of the same key
// in the order in which they were added. A value is valid until the next one is
// asked for. It may be called again, also after more was added, but nothing may be
// added meanwhile.
func (s *Sorter) All() iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s.sort()
		var m merge
		for i, r := range s.runs {
			m = append(m, &source{order: i, from: bufio.NewReaderSize(io.NewSectionReader(r.file, 0, r.size), 1<<16)})
		}
		m = append(m, &source{order: len(s.runs), held: s.held})
		if err := m.start(); err != nil {
			yield(Record{}, err)
			return
		}
		for len(m) > 0 {
			if !yield(m[0].head, nil) {
				return
			}
			if err := m.advance(); err != nil {
				yield(Record{}, err)
				return
			}
		}
	}
}

// Close gives back what the sorter holds. It is empty then, and may be used again.
func (s *Sorter) Close() error {
	var err error
	for _, r := range s.runs {
		err = errors.Join(err, r.file.Close())
	}
	s.held, s.bytes, s.runs = nil, 0, nil
	return err
}

func (s *Sorter) sort() {
	byKey := func(a, b Record) int { return strings.Compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(s.held, byKey) {
		slices.SortStableFunc(s.held, byKey)
	}
}

// spill writes what is in memory to a file.
func (s *Sorter) spill() error {
	s.sort()
	f, err := os.CreateTemp(s.Dir, "extsort-")
	if err != nil {
		return fmt.Errorf("sort more than %d bytes of records: %w", s.bytes, err)
	}
	size, err := writeRun(f, s.held)
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return fmt.Errorf("write sorted records: %w", errors.Join(err, f.Close()))
	}
	s.runs = append(s.runs, run{f, size})
	clear(s.held) // or the capacity would hold the strings
	s.held, s.bytes = s.held[:0], 0
	return nil
}

func writeRun(f io.Writer, records []Record) (size int64, err error) {
	w := bufio.NewWriterSize(f, 1<<16)
	var line []byte
	for _, r := range records {
		line = binary.AppendUvarint(line[:0], uint64(len(r.Key)))
		line = binary.AppendUvarint(line, uint64(len(r.Value)))
		line = append(append(line, r.Key...), r.Value...)
		size += int64(len(line))
		if _, err := w.Write(line); err != nil {
			return 0, err
		}
	}
	return size, w.Flush()
}

// source is a run or what is in memory, with the first record that is not yielded.
type source struct {
	order int // of adding: that of an earlier one goes first
	head  Record
	from  *bufio.Reader // nil: held
	held  []Record
	buf   []byte
}

// next reads the next record; io.EOF at the end.
func (s *source) next() error {
	if s.from == nil {
		if len(s.held) == 0 {
			return io.EOF
		}
		s.head, s.held = s.held[0], s.held[1:]
		return nil
	}
	key, err := binary.ReadUvarint(s.from)
	if err != nil {
		return err
	}
	value, err := binary.ReadUvarint(s.from)
	if err != nil {
		return noEOF(err)
	}
	s.buf = slices.Grow(s.buf[:0], int(key+value))[:key+value]
	if _, err := io.ReadFull(s.from, s.buf); err != nil {
		return noEOF(err)
	}
	s.head = Record{Key: string(s.buf[:key]), Value: s.buf[key:]}
	return nil
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// merge is a heap of sources by their heads.
type merge []*source

func (m merge) Len() int      { return len(m) }
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m merge) Less(i, j int) bool {
	if c := strings.Compare(m[i].head.Key, m[j].head.Key); c != 0 {
		return c < 0
	}
	return m[i].order < m[j].order
}
func (m *merge) Push(x any) { *m = append(*m, x.(*source)) }
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func (m *merge) start() error {
	all := *m
	*m = all[:0]
	for _, s := range all {
		switch err := s.next(); {
		case err == nil:
			*m = append(*m, s)
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("read sorted records: %w", err)
		}
	}
	heap.Init(m)
	return nil
}

// advance replaces the first record by the one behind it.
func (m *merge) advance() error {
	switch err := (*m)[0].next(); {
	case err == nil:
		heap.Fix(m, 0)
	case errors.Is(err, io.EOF):
		heap.Pop(m)
	default:
		return fmt.Errorf("read sorted records: %w", err)
	}
	return nil
}
