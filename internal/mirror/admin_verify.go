package mirror

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/budget"
	"freshet/internal/mirror/generation"
)

// verifyWeight is the weight of checks at the disk, beside priorities of projects.
const verifyWeight = 1

// orderVerify compares the files of the current generation with what they should be, and
// tells how it goes.
func (m *mirror) orderVerify(w http.ResponseWriter, r *http.Request, v *visit) error {
	var req mirrorapi.VerifyRequest
	p, err := m.held(v)
	if err == nil {
		err = readJSON(r, &req)
	}
	if err != nil {
		return err
	}
	v.order.What = map[string]any{"project": v.project, "repair": req.Repair}
	now := p.Current()
	if now == nil {
		return refuse(http.StatusConflict, "conflict", "nothing of %q is here yet", v.project)
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)() //nolint:contextcheck // that of the process is another one
	check := checking{out: newLines(w), told: time.Now()}
	check.progress.FilesTotal, check.progress.BytesTotal = now.Info().Files+now.Info().Links, now.Info().Bytes
	err = p.Verify(ctx, now, generation.VerifyOptions{Read: paced(m.disks.Share(verifyWeight)), Remove: req.Repair}, check.file)
	if err == nil && req.Repair && check.progress.Bad > 0 {
		_, err = m.scheduler.Submit(mirrorapi.Order{Project: v.project, Cause: mirrorapi.CauseOrder, By: v.client.Name, Force: true}, 0)
	}
	if err != nil {
		check.progress.Error = err.Error()
	}
	check.progress.End = true
	v.order.Count = int(check.progress.Bad)
	_ = check.out.send(check.progress) // the client has left, or has it
	return nil
}

// paced reads no faster than the budget of the disk lets it.
func paced(share *budget.Share) func(context.Context, int) error {
	return func(ctx context.Context, n int) error { return share.Take(ctx, int64(n)) }
}

// checking tells how a check goes.
type checking struct {
	out      *lines
	progress mirrorapi.VerifyProgress
	told     time.Time
}

// file takes note of a file that was checked. The error is one of the client, who has left.
func (c *checking) file(f generation.File, wrong error) error {
	c.progress.Files++
	c.progress.Bytes += f.Size
	now := time.Now()
	switch {
	case wrong != nil:
		c.progress.Bad++
		c.progress.Found = &mirrorapi.BadFile{Path: f.Path, Reason: badReason(wrong)}
	case now.Sub(c.told) < progressEvery:
		return nil
	}
	c.told = now
	err := c.out.send(c.progress)
	c.progress.Found = nil
	return err
}

// badReason is what is wrong with a file, in one word.
func badReason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	case errors.Is(err, generation.ErrDamaged):
		return "damaged"
	}
	return "unreadable"
}
