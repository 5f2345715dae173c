package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// delay is how long a line may wait for others.
	delay = 200 * time.Millisecond
	// bufferBytes is how much a shard collects. It is more than the longest
	// line: what is longer is written by itself.
	bufferBytes = 64 << 10
	// burst is how many full buffers wait for the writer to wake up: to write
	// them costs less than to wake it, and what the runtime does about a thread
	// that waits for the disk.
	burst = 32
	// queueLength is how many full buffers may wait for the disk.
	queueLength = 3 * burst
	// maxShards bounds the memory: a buffer each.
	maxShards = 16
)

// Options says where lines go and how they look.
type Options struct {
	Format    Format
	Addresses Addresses
	// Level is the least severe level that is written. The zero value is info:
	// everything.
	Level slog.Level
	// Writer takes the lines, many at once, from one goroutine. Nil: Path.
	Writer io.Writer
	// Path is the file that lines are appended to. [Log.Reopen] opens it anew.
	Path string
	// Failed is told when lines cannot be written, and again with nil when they
	// can; it is called by one goroutine. Nil: nobody is told.
	Failed func(error)
}

// Log writes access records. A nil Log writes nothing. It is safe for
// concurrent use, and nothing but [Log.Close] waits for the disk.
//
// Lines may stand out of order by as much as a fifth of a second.
type Log struct {
	opt     Options
	role    string
	core    *core
	shards  []shard
	mask    uint32
	near    sync.Pool     // of *shard: what a processor puts here it gets again
	lent    atomic.Uint32 // how often one got none
	dropped *atomic.Int64
}

// core is what the logs of the roles of one process share.
type core struct {
	opt     Options
	full    chan *[]byte
	free    sync.Pool     // of *[]byte
	many    chan struct{} // a burst waits
	reopen  chan struct{}
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
	dropped atomic.Int64

	mu   sync.Mutex
	logs []*Log

	// These are the writer's.
	w       io.Writer
	file    *os.File
	failing bool
	torn    bool // the file ends within a line
}

type shard struct {
	mu    sync.Mutex
	enc   encoder
	buf   *[]byte
	lines int64    // in buf
	_     [64]byte // the next one is another processor's
}

// Open begins a log. The caller closes it.
func Open(opt Options) (*Log, error) {
	c := &core{
		opt: opt, w: opt.Writer, full: make(chan *[]byte, queueLength),
		many: make(chan struct{}, 1), reopen: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	if c.w == nil {
		if err := c.open(); err != nil {
			return nil, err
		}
	}
	l := c.newLog("")
	go c.run()
	return l, nil
}

func (c *core) newLog(role string) *Log {
	// A power of two, so that a mask chooses.
	n := 1 << bits.Len(uint(min(runtime.GOMAXPROCS(0), maxShards)-1))
	l := &Log{opt: c.opt, role: role, core: c, shards: make([]shard, n), mask: uint32(n - 1), dropped: &c.dropped}
	for i := range l.shards {
		l.shards[i].enc = encoder{format: c.opt.Format, addresses: c.opt.Addresses, role: role}
	}
	c.mu.Lock()
	c.logs = append(c.logs, l)
	c.mu.Unlock()
	return l
}

// For returns the log of a role: the same, with the role's name in each line
// of formats that have a place for it. It lives as long as l.
func (l *Log) For(role string) *Log {
	if l == nil {
		return nil
	}
	return l.core.newLog(role)
}

// Write writes a record, which it does not keep. It waits for nothing.
func (l *Log) Write(r *Record) {
	if l == nil || r.Level() < l.opt.Level {
		return
	}
	s := l.lock()
	*s.buf = s.enc.append(*s.buf, r)
	l.unlock(s)
}

// WriteLine writes a line that is not made of a record: line has its end, and is
// not kept. It waits for nothing.
func (l *Log) WriteLine(line []byte) {
	if l == nil {
		return
	}
	s := l.lock()
	*s.buf = append(*s.buf, line...)
	l.unlock(s)
}

// lock returns a shard, for a line to be appended to its buffer: the one that was
// last used on this processor, whose cache has the end of the buffer.
func (l *Log) lock() *shard {
	s, ok := l.near.Get().(*shard)
	if !ok {
		s = &l.shards[l.lent.Add(1)&l.mask]
	}
	s.mu.Lock()
	if s.buf == nil {
		s.buf = l.core.buffer()
	}
	return s
}

// unlock counts the line that was appended, and gives the shard back.
func (l *Log) unlock(s *shard) {
	s.lines++
	if len(*s.buf) >= bufferBytes-lineRoom {
		l.core.hand(s)
	}
	s.mu.Unlock()
	l.near.Put(s)
}

// lineRoom is kept free in a buffer for one more line, most of the time.
const lineRoom = 2 << 10

func (c *core) buffer() *[]byte {
	if b, ok := c.free.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, bufferBytes)
	return &b
}

// hand gives the shard's lines to the writer, or drops them if too many wait.
// The shard is locked.
func (c *core) hand(s *shard) {
	if s.lines == 0 {
		return
	}
	select {
	case c.full <- s.buf:
		s.buf = nil
		if len(c.full) >= burst {
			select {
			case c.many <- struct{}{}:
			default: // the writer knows
			}
		}
	default:
		c.dropped.Add(s.lines)
		*s.buf = (*s.buf)[:0]
	}
	s.lines = 0
}

// Dropped counts the lines that were not written because the disk did not take
// them.
func (l *Log) Dropped() int64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// Reopen opens the file anew, soon: whoever rotates logs renames it before.
func (l *Log) Reopen() {
	if l == nil {
		return
	}
	select {
	case l.core.reopen <- struct{}{}:
	default: // it is going to be
	}
}

// Close writes what waits, and closes the file. Records that are written
// afterwards are lost.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.core.once.Do(func() { close(l.core.stop) })
	<-l.core.stopped
	if f := l.core.file; f != nil {
		l.core.file = nil
		return f.Close()
	}
	return nil
}

// run writes until the log is closed.
func (c *core) run() {
	defer close(c.stopped)
	tick := time.NewTicker(delay)
	defer tick.Stop()
	for {
		select {
		case <-c.many:
			c.drain()
		case <-tick.C:
			c.sweep()
		case <-c.reopen:
			c.sweep() // what was logged before belongs into the old file
			if c.opt.Writer == nil {
				c.told(c.open())
			}
		case <-c.stop:
			c.sweep()
			return
		}
	}
}

// sweep writes all that waits.
func (c *core) sweep() {
	c.mu.Lock()
	logs := c.logs
	c.mu.Unlock()
	for _, l := range logs {
		for i := range l.shards {
			s := &l.shards[i]
			s.mu.Lock()
			b := s.buf
			if s.lines > 0 {
				s.buf = nil
			} else {
				b = nil
			}
			s.lines = 0
			s.mu.Unlock()
			c.drain() // these lines are older
			if b != nil {
				c.write(b)
			}
		}
	}
	c.drain()
}

// drain writes the buffers that are full by now: a disk that is slower than those
// who log keeps the writer from nothing else.
func (c *core) drain() {
	for range len(c.full) { // nobody else takes of them
		c.write(<-c.full)
	}
}

// write writes the lines of a buffer and takes it back.
func (c *core) write(b *[]byte) {
	rest := *b
	err := c.endLine()
	if err == nil {
		var n int
		n, err = c.w.Write(rest)
		c.torn = err != nil && n > 0 && rest[n-1] != '\n'
		rest = rest[n:]
	}
	if err != nil {
		c.dropped.Add(int64(bytes.Count(rest, []byte{'\n'})))
	}
	c.told(err)
	if cap(*b) <= 2*bufferBytes {
		*b = (*b)[:0]
		c.free.Put(b)
	}
}

// endLine ends the line at which the disk got full, so that it costs no other one.
func (c *core) endLine() error {
	if !c.torn {
		return nil
	}
	_, err := c.w.Write([]byte{'\n'})
	c.torn = err != nil
	return err
}

// told passes on whether lines can be written, when that changed.
func (c *core) told(err error) {
	if failing := err != nil; failing != c.failing {
		c.failing = failing
		if c.opt.Failed != nil {
			c.opt.Failed(err)
		}
	}
}

// open opens the file and closes the one before. On failure that one stays.
func (c *core) open() error {
	f, err := os.OpenFile(c.opt.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open the access log: %w", err)
	}
	if info, err := f.Stat(); err == nil && info.Size() == 0 {
		c.torn = false // it is another file
	}
	old := c.file
	c.file, c.w = f, f
	if old == nil {
		return nil
	}
	if err := old.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close the old access log: %w", err)
	}
	return nil
}

// Slog writes a record to a logger, for those who have no [Log].
func Slog(ctx context.Context, log *slog.Logger, r *Record) {
	level := r.Level()
	if !log.Enabled(ctx, level) {
		return
	}
	record := slog.NewRecord(r.end(), level, Message, 0)
	var attrs [24]slog.Attr
	record.AddAttrs(r.Attrs(attrs[:0], AddressPrefix)...)
	_ = log.Handler().Handle(ctx, record) // a log that cannot be written is nobody's to tell
}
