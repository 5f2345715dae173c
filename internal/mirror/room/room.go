package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/engine"
	"freshet/internal/mirror/generation"
)

// Amount is a part of a disk.
type Amount struct{ Bytes, Inodes int64 }

func (a Amount) plus(b Amount) Amount { return Amount{a.Bytes + b.Bytes, a.Inodes + b.Inodes} }

func (a Amount) minus(b Amount) Amount { return Amount{a.Bytes - b.Bytes, a.Inodes - b.Inodes} }

// least is a without what is below zero.
func (a Amount) least() Amount { return Amount{max(a.Bytes, 0), max(a.Inodes, 0)} }

// Project is what is known of a project.
type Project struct {
	Name  string
	Store *generation.Project
	// Priority is that of the configuration: those with the lowest lose first.
	Priority int
	// Drain says that the whole project may be taken off the disk.
	Drain bool
	Grace time.Duration
	// Guess is about how many bytes it has, as long as nothing of it is here; 0: not known.
	Guess int64
	// Reports are its newest, newest first.
	Reports func(limit int) ([]mirrorapi.Report, error)
	// Progress is that of the sync that runs.
	Progress func() mirrorapi.Progress
}

// What can go.
const (
	Staged     = "staged"     // what an interrupted sync has fetched
	Generation = "generation" // an old generation, before its grace time is over
	Whole      = "project"    // a project
)

// Gone is what had to make room.
type Gone struct {
	What, Project string
	// Generation is the ID of one.
	Generation string
}

// Options are those of a [Keeper].
type Options struct {
	Store *generation.Store
	// Reserve is how many of so many bytes stay free, and how many of so many inodes.
	Reserve func(of int64) int64
	// Projects are those of the configuration. It is called often.
	Projects func() []Project
	// Gone is told of what went; nil: nobody is.
	Gone func(ctx context.Context, g Gone)
	// Log takes what goes wrong; nil: nothing.
	Log *slog.Logger
}

// Keeper keeps a disk from being filled. It is safe for concurrent use.
type Keeper struct {
	o Options

	making  sync.Mutex // one makes room at a time
	mu      sync.Mutex
	granted map[string]Amount // by project, to the syncs that run
	churns  map[string]churn  // by project
	alarm   error
}

// New returns a keeper.
func New(o Options) *Keeper {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Gone == nil {
		o.Gone = func(context.Context, Gone) {}
	}
	k := &Keeper{o: o, granted: make(map[string]Amount), churns: make(map[string]churn)}
	return k
}

// projects are those of the configuration, the lowest priority first; by name among those
// of the same, so that it is the same each time.
func (k *Keeper) projects() []Project {
	return slices.SortedFunc(slices.Values(k.o.Projects()), func(a, b Project) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(a.Name, b.Name))
	})
}

// find is the project with a name.
func (k *Keeper) find(name string) (*Project, bool) {
	for _, p := range k.o.Projects() {
		if p.Name == name {
			return &p, true
		}
	}
	return nil, false
}

// Disk is how full the disk is.
type Disk struct {
	Size, Free, Reserve Amount // inodes: 0 of all if the file system does not count them
	// UnderWay is what syncs that run have yet to write, Planned what old generations are
	// going to take.
	UnderWay, Planned Amount
	// Alarm is why the disk stays below its reserve; nil: it does not.
	Alarm error
}

// ForNew is what a project that is not here yet may take; less than nothing if what is
// here needs more.
func (d Disk) ForNew() Amount { return d.left().minus(d.Planned) }

func (d Disk) left() Amount { return d.Free.minus(d.Reserve).minus(d.UnderWay) }

// counts says whether the file system counts inodes.
func (d Disk) counts() bool { return d.Size.Inodes > 0 }

// fits says whether an amount is within another.
func (d Disk) fits(need, within Amount) bool {
	return need.Bytes <= within.Bytes && (!d.counts() || need.Inodes <= within.Inodes)
}

// Short says whether less than the reserve is free.
func (d Disk) Short() bool { return !d.fits(d.Reserve, d.Free) }

// Disk tells how full the disk is now.
func (k *Keeper) Disk() (Disk, error) { return k.disk("") }

// disk is Disk as it is for a project: what is its own is not in the way.
func (k *Keeper) disk(project string) (Disk, error) {
	space, err := k.o.Store.Space()
	if err != nil {
		return Disk{}, err
	}
	d := Disk{
		Size: Amount{int64(space.Bytes), int64(space.Inodes)},
		Free: Amount{int64(space.FreeBytes), int64(space.FreeInodes)},
	}
	d.Reserve = Amount{k.o.Reserve(d.Size.Bytes), 0}
	if d.counts() && d.Size.Bytes > 0 {
		d.Reserve.Inodes = int64(float64(d.Reserve.Bytes) / float64(d.Size.Bytes) * float64(d.Size.Inodes))
	}
	for _, p := range k.projects() {
		if p.Name == project {
			continue
		}
		d.UnderWay = d.UnderWay.plus(k.underWay(&p))
		d.Planned = d.Planned.plus(k.planned(&p))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	d.Alarm = k.alarm
	return d, nil
}

// underWay is what the sync of a project that runs has yet to write of what was granted.
func (k *Keeper) underWay(p *Project) Amount {
	k.mu.Lock()
	defer k.mu.Unlock()
	granted, ok := k.granted[p.Name]
	if !ok {
		return Amount{}
	}
	now := p.Progress()
	if now.Step != mirrorapi.StepFetch {
		delete(k.granted, p.Name)
		return Amount{}
	}
	return granted.minus(Amount{max(now.Bytes, 0), max(now.Files, 0)}).least()
}

// planned is what the old generations of a project are going to take besides what they
// take now.
func (k *Keeper) planned(p *Project) Amount {
	kept := p.Store.Generations()
	size := Amount{Bytes: p.Guess}
	if len(kept) == 0 {
		if _, drained := p.Store.Drained(); drained || p.Guess == 0 {
			return Amount{}
		}
	} else {
		info := kept[0].Info()
		size = Amount{info.Bytes, info.Files}
	}
	var taken Amount
	for _, g := range kept[:max(len(kept)-1, 0)] {
		// What came with a generation took the place of about as much.
		taken = taken.plus(Amount{g.Info().AddedBytes, g.Info().AddedFiles})
	}
	return k.churn(p, size).over(p.Grace).minus(taken).least()
}

func (k *Keeper) churn(p *Project, size Amount) Amount {
	now := time.Now()
	k.mu.Lock()
	known := k.churns[p.Name]
	k.mu.Unlock()
	if at := now.Sub(known.at); 0 <= at && at < churnFor && known.size == size {
		return known.perDay
	}
	reports, err := p.Reports(churnReports)
	if err != nil {
		reports = nil // then it is guessed
	}
	known = churn{size: size, at: now, perDay: Churn(reports, size, now)}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.churns[p.Name] = known
	return known.perDay
}

// churnFor is how long it is not looked at the reports again.
const churnFor = 10 * time.Minute

type churn struct {
	size, perDay Amount
	at           time.Time
}

// Churn is how much of a project is replaced in a day.
func (k *Keeper) Churn(project string) Amount {
	p, ok := k.find(project)
	if !ok {
		return Amount{}
	}
	size := Amount{Bytes: p.Guess}
	if g := p.Store.Current(); g != nil {
		size = Amount{g.Info().Bytes, g.Info().Files}
	}
	return k.churn(p, size)
}

// block is what the smallest file takes on most disks, in bytes.
const block = 4096

// amount is what a need comes to on a disk: the last block of a file is half empty.
func amount(n engine.Need) Amount {
	return Amount{n.Bytes + (n.Files/2+n.Folders)*block, n.Files + n.Folders}
}

// ErrNoRoom says that something does not fit on the disk beside the reserve. It wraps
// [unix.ENOSPC], though the disk itself may have space.
var ErrNoRoom error = noRoom{}

type noRoom struct{}

func (noRoom) Error() string { return "it does not fit on the disk" }

func (noRoom) Unwrap() error { return unix.ENOSPC }

// Room makes room for a sync, if it must and can. The error is [ErrNoRoom] if it does not
// fit all the same, and says why.
func (k *Keeper) Room(ctx context.Context, project string, need engine.Need) error {
	k.making.Lock()
	defer k.making.Unlock()
	p, ok := k.find(project)
	if !ok {
		return fmt.Errorf("there is no project %q", project)
	}
	want, priority := amount(need), p.Priority
	var last Disk
	var left Amount
	enough := func() (bool, error) {
		d, err := k.disk(project)
		if err != nil {
			return false, err
		}
		last, left = d, d.left()
		if need.First {
			left = d.ForNew()
		}
		return d.fits(want, left), nil
	}
	ok, err := enough()
	if err == nil && !ok && last.fits(want, last.Size.minus(last.Reserve)) { // else nothing would be gained by what goes
		ok, err = k.free(ctx, enough, policy{
			staged:      func(p *Project) bool { return p.Name != project && p.Priority <= priority },
			generations: func(p *Project) bool { return !need.First && p.Priority <= priority },
			whole:       func(p *Project) bool { return !need.First && p.Drain && p.Priority < priority },
		})
	}
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%w; %s", ErrNoRoom, why(last, want, left, need.First))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.granted[project] = want
	return nil
}

// why says why something does not fit.
func why(d Disk, want, left Amount, first bool) string {
	text := fmt.Sprintf("%s are needed and %s may be used: of %s %s are free, the reserve is %s",
		Size(want.Bytes), Size(left.Bytes), Size(d.Size.Bytes), Size(d.Free.Bytes), Size(d.Reserve.Bytes))
	switch {
	case want == Amount{} && left.Bytes < 0: // before it is known what is to be fetched
		text = fmt.Sprintf("nothing may be used: of %s %s are free, the reserve is %s", Size(d.Size.Bytes), Size(d.Free.Bytes), Size(d.Reserve.Bytes))
	case want.Bytes <= left.Bytes:
		text = fmt.Sprintf("%d inodes are needed and %d may be used: of %d %d are free, the reserve is %d",
			want.Inodes, max(left.Inodes, 0), d.Size.Inodes, d.Free.Inodes, d.Reserve.Inodes)
	}
	if d.UnderWay.Bytes > 0 {
		text += fmt.Sprintf(", other syncs have yet to write %s", Size(d.UnderWay.Bytes))
	}
	if first && d.Planned.Bytes > 0 {
		text += fmt.Sprintf(", old versions of other projects will take %s within their grace time", Size(d.Planned.Bytes))
	}
	return text + ". Drop a generation or a project, leave out part of it, or lessen the reserve"
}

// Size writes a number of bytes in words, less than none as none.
func Size(n int64) string {
	switch n = max(n, 0); {
	case n < 10e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	case n < 1e9:
		return fmt.Sprintf("%d MB", n/1e6)
	case n < 1e12:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1f TB", float64(n)/1e12)
}

// Tidy makes room while less than the reserve is free. The
// error, also that of [Disk], says that this was not enough.
func (k *Keeper) Tidy(ctx context.Context) error {
	k.making.Lock()
	defer k.making.Unlock()
	d, err := k.disk("")
	if err == nil && d.Short() {
		err = k.tidy(ctx, d)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if (err == nil) != (k.alarm == nil) {
		if err != nil {
			k.o.Log.ErrorContext(ctx, "the disk is too full: projects are served as they are, and get nothing new", slog.Any("error", err))
		} else {
			k.o.Log.InfoContext(ctx, "the disk has its reserve again")
		}
	}
	k.alarm = err
	return err
}

func (k *Keeper) tidy(ctx context.Context, d Disk) error {
	all := func(*Project) bool { return true }
	fits := func() (bool, error) {
		var err error
		d, err = k.disk("")
		return !d.Short(), err
	}
	ok, err := k.free(ctx, fits, policy{staged: all, generations: all})
	if err != nil {
		return err
	}
	half := func() (bool, error) {
		_, err := fits()
		return d.fits(Amount{d.Reserve.Bytes / 2, d.Reserve.Inodes / 2}, d.Free), err
	}
	if enough, err := half(); err != nil {
		return err
	} else if !enough {
		// Whole projects go when it is serious, and then until the disk has its reserve.
		if ok, err = k.free(ctx, fits, policy{whole: func(p *Project) bool { return p.Drain }}); err != nil {
			return err
		}
	}
	if ok {
		return nil
	}
	if d.Free.Bytes < d.Reserve.Bytes {
		return fmt.Errorf("of %s %s are free, and the reserve is %s; old versions are dropped already", Size(d.Size.Bytes), Size(d.Free.Bytes), Size(d.Reserve.Bytes))
	}
	return fmt.Errorf("of %d inodes %d are free, and the reserve is %d; old versions are dropped already", d.Size.Inodes, d.Free.Inodes, d.Reserve.Inodes)
}

// policy says of which projects something may go; nil: of none.
type policy struct{ staged, generations, whole func(*Project) bool }

// free lets go what may, one after the other, until it is enough.
func (k *Keeper) free(ctx context.Context, enough func() (bool, error), may policy) (bool, error) {
	for _, step := range []struct {
		may  func(*Project) bool
		drop func(context.Context, *Project, func() (bool, error)) (bool, error)
	}{{may.staged, k.dropStaged}, {may.generations, k.dropGenerations}, {may.whole, k.drain}} {
		for _, p := range k.projects() {
			if step.may == nil || !step.may(&p) {
				continue
			}
			if ok, err := step.drop(ctx, &p, enough); ok || err != nil {
				return ok, err
			}
		}
	}
	return enough()
}

func (k *Keeper) dropStaged(ctx context.Context, p *Project, enough func() (bool, error)) (bool, error) {
	dropped, err := p.Store.DropStaged(ctx)
	if err != nil || !dropped {
		return false, err
	}
	k.o.Gone(ctx, Gone{What: Staged, Project: p.Name})
	return enough()
}

// dropGenerations drops old generations of a project, the oldest first.
func (k *Keeper) dropGenerations(ctx context.Context, p *Project, enough func() (bool, error)) (bool, error) {
	kept := p.Store.Generations()
	for i := len(kept) - 1; i > 0; i-- {
		if age := time.Since(kept[i].Info().Superseded); 0 <= age && age < young {
			continue // clients are in the midst of it
		}
		err := p.Store.Drop(ctx, kept[i].ID())
		if errors.Is(err, generation.ErrUnknown) || errors.Is(err, generation.ErrCurrent) {
			continue // somebody else was faster
		}
		if err != nil {
			return false, err
		}
		k.o.Gone(ctx, Gone{What: Generation, Project: p.Name, Generation: kept[i].ID()})
		if ok, err := enough(); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// young is how long a generation is kept whatever the disk has: a client that has read its
// index is fetching what that names.
const young = 10 * time.Minute

// drain takes a project off the disk, unless it is being synced.
func (k *Keeper) drain(ctx context.Context, p *Project, enough func() (bool, error)) (bool, error) {
	if p.Store.Current() == nil {
		return false, nil
	}
	_, err := p.Store.Drain(ctx)
	if errors.Is(err, generation.ErrBusy) {
		return false, nil
	}
	if p.Store.Current() == nil {
		k.o.Gone(ctx, Gone{What: Whole, Project: p.Name})
	}
	if err != nil {
		return false, err
	}
	return enough()
}
