package mirror

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
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
	if p.Current() == nil {
		return refuse(http.StatusConflict, "conflict", "nothing of %q is here yet", v.project)
	}
	if _, busy := m.verifying.LoadOrStore(v.project, true); busy {
		return refuse(http.StatusConflict, "conflict", "the files of %q are being read already", v.project)
	}
	check, err := m.verify(r.Context(), w, p, req)
	m.verifying.Delete(v.project)
	if check == nil {
		return err
	}
	if err == nil && req.Repair && check.cursor.Bad > 0 {
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

// verify checks the current generation of a project. Without a check nothing was sent.
func (m *mirror) verify(ctx context.Context, w http.ResponseWriter, p *generation.Project, req mirrorapi.VerifyRequest) (*checking, error) {
	now := p.Current()
	check, err := m.newChecking(now, req)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.ctx, cancel)() //nolint:contextcheck // that of the process is another one
	check.out = newLines(w)
	err = p.Verify(ctx, now, generation.VerifyOptions{
		After: check.cursor.After, Read: paced(m.disks.Share(verifyWeight)), Remove: req.Repair,
	}, func(f generation.File, wrong error) error {
		if wrong != nil && req.Repair {
			m.site.Forget()
		}
		if err := check.note(p.Name(), f, wrong, req.Repair); err != nil {
			return err
		}
		return check.file(f, wrong)
	})
	if err == nil {
		err = check.forget()
	} else {
		err = errors.Join(err, check.keep())
	}
	return check, err
}

// paced reads no faster than the budget of the disk lets it.
func paced(share *budget.Share) func(context.Context, int) error {
	return func(ctx context.Context, n int) error { return share.Take(ctx, int64(n)) }
}

// keepEvery is how often a check notes how far it is: what is read again after a loss of
// power.
const keepEvery = 10 * time.Second

// cursor is how far the check of a project is, in the file verify-PROJECT.json of the state
// while it is not at its end.
type cursor struct {
	// Generation is the name of the one that is checked; another one is begun anew.
	Generation string    `json:"generation"`
	Began      time.Time `json:"began"`
	// After is the path of the last file that was read; with it so many were, and so many
	// of these are not what they should be.
	After string `json:"after"`
	Files int64  `json:"files"`
	Bytes int64  `json:"bytes"`
	Bad   int64  `json:"bad"`
}

// checking tells how a check goes, and notes it.
type checking struct {
	m          *mirror
	name       string // of the file with the cursor
	cursor     cursor
	out        *lines
	progress   mirrorapi.VerifyProgress
	told, kept time.Time
}

// verifyFile is the name of the file with the cursor of a project.
func verifyFile(project string) string { return "verify-" + project + ".json" }

// newChecking goes on with the check of a generation, or begins one.
func (m *mirror) newChecking(g *generation.Generation, req mirrorapi.VerifyRequest) (*checking, error) {
	info, now := g.Info(), time.Now()
	c := &checking{m: m, name: verifyFile(info.Project), told: now, kept: now}
	text, err := m.state.Root.ReadFile(c.name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("how far the last check came: %w", err)
	}
	// One that cannot be read is begun anew.
	if err != nil || req.Restart || json.Unmarshal(text, &c.cursor) != nil || c.cursor.Generation != info.Name() {
		c.cursor = cursor{Generation: info.Name(), Began: now.UTC().Truncate(time.Second)}
		if err := m.damages.begin(info.Project); err != nil {
			return nil, err
		}
	}
	c.progress = mirrorapi.VerifyProgress{
		Files: c.cursor.Files, FilesTotal: info.Files + info.Links, Bytes: c.cursor.Bytes, BytesTotal: info.Bytes,
		Bad: c.cursor.Bad, Resumed: c.cursor.Files, Began: c.cursor.Began,
	}
	return c, nil
}

// note remembers a file that is damaged, and forgets one that is not.
func (c *checking) note(project string, f generation.File, wrong error, removed bool) error {
	if wrong == nil {
		return c.m.damages.right(project, f.Path)
	}
	return c.m.damages.found(project, damagedFile{
		BadFile: mirrorapi.BadFile{Path: f.Path, Reason: badReason(wrong)}, SHA256: hex.EncodeToString(f.SHA256[:]),
		Found: time.Now().UTC().Truncate(time.Second), Removed: removed,
	})
}

// file takes note of a file that was checked. The error is one of the client, who has left,
// or of the disk.
func (c *checking) file(f generation.File, wrong error) error {
	before := c.cursor
	c.cursor.After = f.Path
	c.cursor.Files++
	c.cursor.Bytes += f.Size
	c.progress.Files, c.progress.Bytes = c.cursor.Files, c.cursor.Bytes
	now := time.Now()
	if wrong != nil {
		c.cursor.Bad++
		c.progress.Bad = c.cursor.Bad
		c.progress.Found = &mirrorapi.BadFile{Path: f.Path, Reason: badReason(wrong)}
	}
	if wrong != nil || now.Sub(c.kept) > keepEvery { // what is wrong is told once
		c.kept = now
		if err := c.keep(); err != nil {
			return err
		}
	}
	if wrong == nil && now.Sub(c.told) < progressEvery {
		return nil
	}
	c.told = now
	err := c.out.send(c.progress)
	c.progress.Found = nil
	if err != nil && wrong != nil {
		c.cursor = before // nobody has heard of it
	}
	return err
}

// keep notes how far the check is.
func (c *checking) keep() error {
	text, err := json.Marshal(c.cursor)
	if err != nil {
		return err
	}
	return c.m.state.WriteFile(c.name, append(text, '\n'), 0o644)
}

// forget ends the check.
func (c *checking) forget() error { return c.m.state.Remove(c.name) }

// badMissing is the reason of a file that is not there.
const badMissing = "missing"

// badReason is what is wrong with a file, in one word.
func badReason(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return badMissing
	case errors.Is(err, generation.ErrDamaged):
		return "damaged"
	}
	return "unreadable"
}
