package catalog

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"freshet/api/hubapi"
	"freshet/internal/sqldb"
)

// ErrBuried says that other processes took this one for dead: its jobs are queued
// again, and what it led may be led by others. It may join anew.
var ErrBuried = errors.New("other processes took this one for dead")

// Member is one of the processes that share the database.
type Member struct {
	// Name is its [Config.Instance], Address the URL by which the others reach it.
	Name, Address string
	// Boot names one life of the process, from its Join on.
	Boot string
	// Beat grows with every sign of life. No clocks are compared: who sees it stand
	// still for long by its own clock takes the member for dead.
	Beat int64
	// Joined is when it joined, by its clock.
	Joined time.Time
}

// Lead is who leads what goes by a name.
type Lead struct {
	Name string
	// Holder is the Boot of a member, "" when nobody leads.
	Holder string
	// Fence was given out for this leadership; it is higher than all before.
	Fence int64
	Since time.Time
}

// Join makes this process a member, by its [Config.Instance], which no other process
// may have: an earlier life of it is buried.
func (c *Catalog) Join(ctx context.Context, address string) error {
	boot := rand.Text()
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		before, err := queryMembers(ctx, tx, `WHERE name = ?`, clean(c.instance))
		if err != nil {
			return err
		}
		for _, m := range before {
			if _, err := c.bury(ctx, tx, m.Boot); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, `INSERT INTO members (name, boot, address, beat, joined) VALUES (?, ?, ?, 1, ?)`,
			clean(c.instance), boot, clean(address), c.now().UnixMicro())
		return err
	})
	if err != nil {
		return fmt.Errorf("join the other processes: %w", err)
	}
	c.boot.Store(&boot)
	c.jobs.send()
	return nil
}

// Beat is a sign of life of this member. It returns all members and who leads what.
// The error is [ErrBuried] when this is none any more.
func (c *Catalog) Beat(ctx context.Context) (members []Member, leads []Lead, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if err := c.alive(ctx, tx); err != nil {
			return err
		}
		if members, err = queryMembers(ctx, tx, ``); err != nil {
			return err
		}
		leads, err = queryLeads(ctx, tx, ``)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("give a sign of life: %w", err)
	}
	return members, leads, nil
}

// alive notes a sign of life.
func (c *Catalog) alive(ctx context.Context, tx *sqldb.Tx) error {
	var beat int64
	err := tx.QueryRow(ctx, `UPDATE members SET beat = beat + 1 WHERE boot = ? RETURNING beat`, c.Boot()).Scan(&beat)
	if sqldb.NoRows(err) {
		return ErrBuried
	}
	return err
}

// Bury takes a member for dead that has given no sign of life since it was read: its
// jobs are queued again and nobody leads what it led. It reports whether that was
// so, and what became of the jobs.
func (c *Catalog) Bury(ctx context.Context, m Member) (found Recovery, buried bool, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		found, buried = Recovery{}, false
		if err := c.alive(ctx, tx); err != nil {
			return err
		}
		now, err := queryMembers(ctx, tx, `WHERE boot = ?`, m.Boot)
		if err != nil || len(now) == 0 || now[0].Beat != m.Beat || m.Boot == c.Boot() {
			return err
		}
		if found, err = c.bury(ctx, tx, m.Boot); err != nil {
			return err
		}
		buried = true
		return c.audit(ctx, tx, "member.bury", "member/"+m.Name, fmt.Sprintf("%d jobs queued again", len(found.Requeued)))
	})
	if err != nil {
		return Recovery{}, false, fmt.Errorf("bury process %s: %w", m.Name, err)
	}
	c.jobs.send()
	return found, buried, nil
}

func (c *Catalog) bury(ctx context.Context, tx *sqldb.Tx, boot string) (found Recovery, err error) {
	jobs, err := queryJobs(ctx, tx, `status = ? AND boot = ?`, hubapi.JobStarted, boot)
	if err == nil {
		err = c.requeue(ctx, tx, jobs, &found)
	}
	if err != nil {
		return found, err
	}
	if _, err := tx.Exec(ctx, `UPDATE leads SET holder = '' WHERE holder = ?`, boot); err != nil {
		return found, err
	}
	_, err = tx.Exec(ctx, `DELETE FROM members WHERE boot = ?`, boot)
	return found, err
}

// Leave is the end of a member that has nothing to do any more: others may lead at
// once what it led.
func (c *Catalog) Leave(ctx context.Context) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		if _, err := c.bury(ctx, tx, c.Boot()); err != nil {
			return err
		}
		return touchJobs(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("leave the other processes: %w", err)
	}
	return nil
}

// TakeLead makes this member lead what goes by a name, unless another does: then
// taken is false. The fencing number is given out once; it is higher than all before
// and than newest, which is the newest that whatever is led knows. Asked again by who
// leads, it is the same unless newest is higher.
func (c *Catalog) TakeLead(ctx context.Context, name string, newest int64) (fence int64, taken bool, err error) {
	err = c.db.Write(ctx, func(tx *sqldb.Tx) error {
		fence, taken = 0, false
		if err := c.alive(ctx, tx); err != nil {
			return err
		}
		leads, err := queryLeads(ctx, tx, `WHERE name = ?`, name)
		if err != nil {
			return err
		}
		lead := Lead{Name: name}
		if len(leads) > 0 {
			lead = leads[0]
		}
		switch {
		case lead.Holder == c.Boot() && lead.Fence >= newest:
			fence, taken = lead.Fence, true
			return nil
		case lead.Holder != "" && lead.Holder != c.Boot():
			return nil
		}
		fence, taken = max(lead.Fence, newest)+1, true
		_, err = tx.Exec(ctx, `INSERT INTO leads (name, holder, fence, since) VALUES (?, ?, ?, ?)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = excluded.fence, since = excluded.since`,
			name, c.Boot(), fence, c.now().UnixMicro())
		return err
	})
	if err != nil {
		return 0, false, fmt.Errorf("take the lead of %s: %w", name, err)
	}
	return fence, taken, nil
}

// DropLead lets others lead what this member leads with a fencing number.
func (c *Catalog) DropLead(ctx context.Context, name string, fence int64) error {
	err := c.db.Write(ctx, func(tx *sqldb.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE leads SET holder = '' WHERE name = ? AND holder = ? AND fence = ?`, name, c.Boot(), fence)
		return err
	})
	if err != nil {
		return fmt.Errorf("drop the lead of %s: %w", name, err)
	}
	return nil
}

// Members returns the members by name, and who leads what.
func (c *Catalog) Members(ctx context.Context) (members []Member, leads []Lead, err error) {
	err = c.db.Read(ctx, func(tx *sqldb.Tx) error {
		if members, err = queryMembers(ctx, tx, ``); err != nil {
			return err
		}
		leads, err = queryLeads(ctx, tx, ``)
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read members: %w", err)
	}
	return members, leads, nil
}

// Boot names this life of the process: in claims of jobs, and among the members.
func (c *Catalog) Boot() string { return *c.boot.Load() }

// Instance is the name of this process among the members.
func (c *Catalog) Instance() string { return c.instance }

func queryMembers(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]Member, error) {
	rows, err := tx.Query(ctx, `SELECT name, boot, address, beat, joined FROM members `+where+` ORDER BY name`, args...)
	return collect(rows, err, func(rows *sql.Rows) (m Member, err error) {
		var joined int64
		err = rows.Scan(&m.Name, &m.Boot, &m.Address, &m.Beat, &joined)
		m.Joined = timeOf(joined)
		return m, err
	})
}

func queryLeads(ctx context.Context, tx *sqldb.Tx, where string, args ...any) ([]Lead, error) {
	rows, err := tx.Query(ctx, `SELECT name, holder, fence, since FROM leads `+where+` ORDER BY name`, args...)
	return collect(rows, err, func(rows *sql.Rows) (l Lead, err error) {
		var since int64
		err = rows.Scan(&l.Name, &l.Holder, &l.Fence, &since)
		l.Since = timeOf(since)
		return l, err
	})
}
