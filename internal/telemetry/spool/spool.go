package spool

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"freshet/api/watchapi"
	"freshet/internal/durable"
)

// Options bound a spool. What is zero has its default.
type Options struct {
	// Bytes is how much it may take of the disk; default 1 GiB. Age is how old a batch may
	// be; default seven days.
	Bytes int64
	Age   time.Duration
	// Files is how many batches it may have before some are merged; default 2,048.
	Files int
	// Node and Role are those of the batches.
	Node, Role string
	Log        *slog.Logger
}

func (o Options) withDefaults() Options {
	o.Bytes = cmp.Or(o.Bytes, 1<<30)
	o.Age = cmp.Or(o.Age, 7*24*time.Hour)
	o.Files = cmp.Or(o.Files, 2048)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Spool is a folder of batches. Its methods may be called by several goroutines at once,
// but only one is to deliver batches.
type Spool struct {
	o     Options
	dir   durable.Dir
	epoch string

	mu      sync.Mutex
	lock    io.Closer // nil: another process has the spool
	told    Sum       // of what was dropped, for the next batch
	seq     int64     // the last number that was used
	items   []item
	bytes   int64
	dropped Dropped
	refused int
	news    chan struct{}
}

// item is a batch on the disk.
type item struct {
	epoch       string
	first, last int64
	size        int64
	coarse      bool // its minutes are hours
	full        bool // too large to be merged with any other
}

// Dropped is what was not delivered, since the start.
type Dropped struct{ Batches, Requests, Bytes int64 }

const (
	suffix        = ".batch"
	refusedFolder = "refused"
	lockName      = ".lock"
	// maxRefused is how many refused batches are kept.
	maxRefused = 100
	epochBytes = 4
)

// Open opens the spool in a folder, which is made if it is not there. While another process
// has it open, one that ends and lets this one take its place, batches can be added, and
// none is delivered or merged. The caller closes it.
func Open(path string, o Options) (_ *Spool, err error) {
	o = o.withDefaults()
	dir, err := durable.Open(path)
	if err != nil {
		return nil, err
	}
	s := &Spool{o: o, dir: dir, news: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := dir.MkdirAll(refusedFolder, 0o700); err != nil {
		return nil, err
	}
	random := make([]byte, epochBytes)
	_, _ = rand.Read(random) // never fails
	s.epoch = fmt.Sprintf("%014x%s", time.Now().UnixMicro(), hex.EncodeToString(random))
	if _, err = s.own(); err != nil {
		return nil, err
	}
	return s, nil
}

// own takes the lock, unless this spool or another has it, and then reads what is there. It
// reports whether it is this one's.
func (s *Spool) own() (bool, error) {
	if s.lock != nil {
		return true, nil
	}
	lock, err := s.dir.Lock(lockName)
	if errors.Is(err, durable.ErrInUse) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if _, err := s.dir.Sweep("."); err != nil {
		return false, errors.Join(err, lock.Close())
	}
	if err := s.load(); err != nil {
		return false, errors.Join(err, lock.Close())
	}
	s.lock = lock
	return true, nil
}

// Close gives the folder back.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.lock != nil {
		err = s.lock.Close()
		s.lock = nil
	}
	return errors.Join(err, s.dir.Root.Close())
}

// load reads the names of the batches, and ends those that a merged one covers.
func (s *Spool) load() error {
	entries, err := fs.ReadDir(s.dir.Root.FS(), ".")
	if err != nil {
		return err
	}
	s.items, s.bytes = nil, 0
	for _, e := range entries {
		it, ok := parse(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue
		}
		it.size = info.Size()
		s.items = append(s.items, it)
	}
	// Of those that begin with the same number, the one that covers most comes first.
	slices.SortFunc(s.items, func(a, b item) int {
		return cmp.Or(strings.Compare(a.epoch, b.epoch), cmp.Compare(a.first, b.first), -cmp.Compare(a.last, b.last))
	})
	kept := s.items[:0]
	for _, it := range s.items {
		if n := len(kept); n > 0 && kept[n-1].epoch == it.epoch && kept[n-1].last >= it.last {
			if err := s.dir.Remove(it.name()); err != nil {
				return err
			}
			continue
		}
		kept = append(kept, it)
		s.bytes += it.size
	}
	s.items = kept
	return nil
}

func (it item) name() string {
	return fmt.Sprintf("%s-%010d-%010d%s", it.epoch, it.first, it.last, suffix)
}

// parse reads the name of a batch.
func parse(name string) (it item, ok bool) {
	text, ok := strings.CutSuffix(name, suffix)
	parts := strings.Split(text, "-")
	if !ok || len(parts) != 3 || len(parts[0]) == 0 {
		return it, false
	}
	it.epoch = parts[0]
	var errFirst, errLast error
	it.first, errFirst = strconv.ParseInt(parts[1], 10, 64)
	it.last, errLast = strconv.ParseInt(parts[2], 10, 64)
	return it, errFirst == nil && errLast == nil && it.first > 0 && it.last >= it.first && it.name() == name
}

// made is when the epoch of a batch began.
func (it item) made() time.Time {
	if len(it.epoch) <= 2*epochBytes {
		return time.Time{}
	}
	us, err := strconv.ParseInt(it.epoch[:len(it.epoch)-2*epochBytes], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMicro(us)
}

// Add makes a batch of lines durable. After an error it is not there, and its lines may be
// added again. If there is no room, older batches are merged or dropped.
func (s *Spool) Add(begun, ended time.Time, lines []watchapi.Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var doomed []doomed
	owned, err := s.own()
	if err != nil {
		return err
	}
	if owned {
		doomed = s.makeRoom(ended)
	}
	var told Sum
	for _, l := range s.told.droppedLines() {
		told.Add(l)
	}
	for i := range doomed {
		for _, l := range doomed[i].told {
			told.Add(l)
		}
	}
	lines = append(slices.Clip(lines), told.Lines()...)
	id := watchapi.ID{Node: s.o.Node, Epoch: s.epoch, First: s.seq + 1, Last: s.seq + 1}
	body, err := Encode(watchapi.Head{ID: id, Role: s.o.Role, Begun: begun.UnixMilli(), Ended: ended.UnixMilli()}, lines)
	if err != nil {
		return err
	}
	it := item{epoch: s.epoch, first: id.First, last: id.Last, size: int64(len(body))}
	if err := s.dir.WriteFile(it.name(), body, 0o600); err != nil {
		if _, missing := s.dir.Root.Lstat(it.name()); missing != nil {
			return err
		}
		// It is there, and only might not outlive a loss of power.
		s.o.Log.Error("a batch of telemetry may not be durable", slog.Any("error", err))
	}
	s.seq++
	s.items = append(s.items, it)
	s.bytes += it.size
	s.told = Sum{}
	s.drop(doomed)
	select {
	case s.news <- struct{}{}:
	default:
	}
	return nil
}

// News is told when there may be something to deliver.
func (s *Spool) News() <-chan struct{} { return s.news }

// Batch is a batch that is to be delivered.
type Batch struct {
	watchapi.ID
	// Body is the batch, compressed.
	Body []byte
	item item
}

// Next returns the oldest batch; false if there is none. One that cannot be read is set
// aside.
func (s *Spool) Next() (Batch, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owned, err := s.own(); !owned {
		if err != nil {
			s.o.Log.Error("batches of telemetry cannot be delivered", slog.Any("error", err))
		}
		return Batch{}, false
	}
	for len(s.items) > 0 {
		it := s.items[0]
		body, err := s.dir.Root.ReadFile(it.name())
		if err == nil {
			// The node may have had another name when it was written.
			var id watchapi.ID
			if id, err = idOf(body); err == nil {
				return Batch{ID: id, Body: body, item: it}, true
			}
		}
		s.o.Log.Error("a batch of telemetry cannot be read, and is not delivered", slog.String("file", it.name()), slog.Any("error", err))
		s.refuse(it, "unreadable")
	}
	return Batch{}, false
}

// Done ends the batch that [Spool.Next] has returned: a watch has it.
func (s *Spool) Done(b Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) == 0 || s.items[0] != b.item {
		return
	}
	if err := s.dir.Remove(b.item.name()); err != nil {
		// It is delivered once more after the next start, and known there.
		s.o.Log.Warn("a batch of telemetry that was delivered cannot be removed", slog.Any("error", err))
	}
	s.forget(0)
}

// Refuse sets the batch aside that [Spool.Next] has returned: a watch does not want it.
func (s *Spool) Refuse(b Batch, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.items) > 0 && s.items[0] == b.item {
		s.refuse(b.item, reason)
	}
}

// Stat is what a spool has.
type Stat struct {
	Batches int
	Bytes   int64
	// Refused is how many batches were set aside since the start.
	Refused int
	Dropped Dropped
}

// Stat tells what the spool has.
func (s *Spool) Stat() Stat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stat{Batches: len(s.items), Bytes: s.bytes, Refused: s.refused, Dropped: s.dropped}
}

// forget takes an item out of the list.
func (s *Spool) forget(i int) {
	s.bytes -= s.items[i].size
	s.items = slices.Delete(s.items, i, i+1)
}

// refuse moves the oldest batch into the folder of those that were refused.
func (s *Spool) refuse(it item, reason string) {
	var sum Sum
	if _, err := s.read(it, &sum); err != nil {
		sum = Sum{}
	}
	for _, l := range it.gone(reasonRefused, &sum) {
		s.told.Add(l)
	}
	err := s.dir.Rename(it.name(), refusedFolder+"/"+reason+"-"+it.name())
	if err == nil {
		err = s.dir.SyncDir(".")
	}
	if err != nil {
		s.o.Log.Error("a batch of telemetry that was refused cannot be kept", slog.Any("error", err))
		_ = s.dir.Remove(it.name()) // lest it holds up all others
	}
	s.forget(0)
	s.refused++
	names, err := fs.ReadDir(s.dir.Root.FS(), refusedFolder)
	if err != nil {
		return
	}
	for i := range len(names) - maxRefused {
		_ = s.dir.Remove(refusedFolder + "/" + names[i].Name()) // it is tried again with the next
	}
}
