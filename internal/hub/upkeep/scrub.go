package upkeep

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"freshet/internal/durable"
	"freshet/internal/hub/nameset"
	"freshet/internal/hub/quarantine"
	"freshet/internal/ostree"
	"freshet/internal/pause"
)

// ScrubOptions say how fast a repository is read, and what is done about damage.
type ScrubOptions struct {
	// Rate is how many bytes a second are read, on average. It must be positive.
	Rate int64
	// Repair is as in CheckOptions. What is damaged and cannot be repaired is put into
	// quarantine, and asked for again when the scrub comes by its folder.
	Repair []Source
	// Found is called for each damaged object; may be nil.
	Found func(Problem)
	// Round is called when a folder was read, with what is known then; may be nil.
	Round func(ScrubState)
}

// ScrubState says how far a scrub is. It is kept over restarts.
type ScrubState struct {
	Version int `json:"version"`
	// Next is the folder of objects that is read next, 0 to 255.
	Next int `json:"next"`
	// Checked is when each folder was read to its end, in seconds since 1970; 0 for
	// never.
	Checked [256]int64 `json:"checked"`
	// Objects were read, and Damaged of them found damaged, since the beginning.
	Objects int64 `json:"objects"`
	Damaged int64 `json:"damaged"`
}

// Oldest is when that folder was read that was not read for the longest time; zero
// while some were never read.
func (s *ScrubState) Oldest() time.Time {
	oldest := s.Checked[0]
	for _, at := range s.Checked {
		oldest = min(oldest, at)
	}
	if oldest == 0 {
		return time.Time{}
	}
	return time.Unix(oldest, 0)
}

// scrubFile is where a repository keeps how far its scrub is.
const scrubFile = ".upkeep/scrub.json"

// Scrub reads the objects of the repository in dir over and over, slowly, and tells
// of those that are damaged, until ctx ends or reading fails for another reason than
// damage. It goes on where the last one was. Others have the disk first, and keep what
// they have in memory.
func Scrub(ctx context.Context, dir string, opt ScrubOptions) error {
	if opt.Rate <= 0 {
		return fmt.Errorf("scrub %s: the rate must be positive, is %d", dir, opt.Rate)
	}
	c := checker{opt: CheckOptions{Repair: opt.Repair, Quarantine: true, Found: opt.Found}, gentle: true, broken: map[ostree.ObjectName]error{}}
	if err := scrub(ctx, dir, &c, opt); err != nil {
		return fmt.Errorf("scrub %s: %w", dir, err)
	}
	return nil
}

func scrub(ctx context.Context, path string, c *checker, opt ScrubOptions) (err error) {
	if c.repo, err = ostree.OpenRepo(os.DirFS(path)); err != nil {
		return err
	}
	if c.dir, err = durable.Open(path); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.dir.Root.Close()) }()
	if err := errors.Join(c.loadKeys(), c.prepareRepair(ctx)); err != nil {
		return err
	}
	state, err := readScrub(c.dir)
	if err != nil {
		return err
	}
	reader, stop := newGently()
	defer stop()
	s := scrubber{checker: c, opt: opt, state: state, reader: reader, paid: time.Now()}
	for {
		if err := s.folder(ctx); err != nil {
			return err
		}
	}
}

// readScrub reads how far the last scrub was. One that is damaged begins anew.
func readScrub(dir durable.Dir) (ScrubState, error) {
	state := ScrubState{Version: 1}
	data, err := dir.Root.ReadFile(scrubFile)
	if errors.Is(err, fs.ErrNotExist) {
		return state, dir.MkdirAll(".upkeep", 0o750)
	}
	if err != nil {
		return state, err
	}
	var read ScrubState
	if json.Unmarshal(data, &read) != nil || read.Version != 1 || read.Next < 0 || read.Next > 255 {
		return state, nil //nolint:nilerr // documented
	}
	return read, nil
}

// scrubber is a scrub in progress.
type scrubber struct {
	*checker
	opt   ScrubOptions
	state ScrubState
	// reader reads what is verified.
	reader gently
	paid   time.Time // until when what was read is within the budget
}

// objectCost is what an object counts besides its bytes: a seek.
const objectCost = 16 << 10

// folder reads a folder of objects, and writes down that it did.
func (s *scrubber) folder(ctx context.Context) error {
	damaged := s.state.Damaged
	err := eachObject(s.repo.FS(), fmt.Sprintf("objects/%02x", s.state.Next), func(name ostree.ObjectName, _ fs.DirEntry) error {
		if name == (ostree.ObjectName{}) {
			return nil
		}
		before := s.report.Bytes
		var err error
		s.reader.run(func() { err = s.verify(name) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			if !isDamage(err) {
				return err
			}
			s.state.Damaged++
			s.bad(ctx, name, err, "", "")
		}
		s.state.Objects++
		return s.pay(ctx, s.report.Bytes-before+objectCost)
	})
	if err == nil {
		err = s.apart(ctx, s.state.Damaged > damaged)
	}
	if err != nil {
		return err
	}
	s.sound, s.broken = nameset.Set{}, map[ostree.ObjectName]error{}
	s.state.Checked[s.state.Next] = time.Now().Unix()
	s.state.Next = (s.state.Next + 1) % len(s.state.Checked)
	data, err := json.Marshal(s.state)
	if err == nil {
		err = s.dir.WriteFile(scrubFile, data, 0o644)
	}
	if err == nil && s.opt.Round != nil {
		s.opt.Round(s.state)
	}
	if err != nil {
		return err
	}
	return s.pay(ctx, objectCost)
}

// apart tries again to repair what is in quarantine of the folder, and writes down
// which refs need it, if there is some or something came.
func (s *scrubber) apart(ctx context.Context, came bool) error {
	if err := quarantine.Sweep(ctx, s.dir); err != nil {
		return err
	}
	items, err := quarantine.List(s.dir.Root)
	if err != nil {
		return err
	}
	var left []quarantine.Item
	for _, item := range items {
		mine := int(item.Name.Checksum[0]) == s.state.Next
		_, told := s.broken[item.Name]
		if mine && !told && s.bad(ctx, item.Name, fs.ErrNotExist, "", "") {
			continue
		}
		came = came || mine
		left = append(left, item)
	}
	if len(left) == 0 || !came {
		return nil
	}
	return s.noteHurt(ctx, left)
}

// noteHurt writes down which refs need what is in quarantine.
func (s *scrubber) noteHurt(ctx context.Context, items []quarantine.Item) error {
	hurt, err := s.whoNeeds(ctx, items, func(ctx context.Context) error { return s.pay(ctx, objectCost) })
	if err != nil {
		return err
	}
	for _, item := range items {
		err = errors.Join(err, s.note(item, hurt[item.Name]))
	}
	return err
}

// pay waits until so many bytes more are within the budget.
func (s *scrubber) pay(ctx context.Context, bytes int64) error {
	if now := time.Now(); s.paid.Before(now) {
		s.paid = now
	}
	s.paid = s.paid.Add(time.Duration(float64(bytes) / float64(s.opt.Rate) * float64(time.Second)))
	if !pause.For(ctx, time.Until(s.paid)) {
		return context.Cause(ctx)
	}
	return nil
}
