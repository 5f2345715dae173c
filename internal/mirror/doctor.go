package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"freshet/api/directorapi"
	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror/kind"
	"freshet/internal/mirror/room"
	"freshet/internal/mirror/schedule"
	"freshet/internal/mirror/tell"
	"freshet/internal/page"
)

func (m *mirror) answerDoctor(w http.ResponseWriter, r *http.Request, _ *visit) error {
	disk, err := m.disk()
	if err != nil {
		return err
	}
	found := diskFindings(disk, time.Now())
	found = append(found, m.stateFindings()...)
	found = append(found, m.machineFindings(r.Context())...)
	if m.cfg().needsRsync() {
		found = append(found, programFindings(r.Context(), m.cfg().Rsync)...)
	}
	found = append(found, m.desiredFindings(time.Now())...)
	found = append(found, tellFindings(m.now.Load().crier.Standings())...)
	for _, name := range slices.Sorted(maps.Keys(m.cfg().Projects)) {
		st := m.projectStatus(name)
		found = append(found, m.damageFindings(st)...)
		found = append(found, projectFindings(st, len(m.cfg().Projects[name].Keys), time.Now())...)
		if reports, err := m.reports.Newest(name, silentReports); err == nil {
			found = append(found, silent(name, reports, time.Now())...)
		}
	}
	for _, l := range m.left() {
		found = append(found, leftFinding(l))
	}
	worstFirst(found)
	writeJSON(w, http.StatusOK, mirrorapi.Diagnosis{Findings: found})
	return nil
}

// worstFirst sorts findings.
func worstFirst(found []mirrorapi.Finding) {
	level := []string{mirrorapi.LevelError, mirrorapi.LevelWarning, mirrorapi.LevelOK}
	slices.SortStableFunc(found, func(a, b mirrorapi.Finding) int {
		return cmp.Compare(slices.Index(level, a.Level), slices.Index(level, b.Level))
	})
}

// soon is when a disk that fills is worth a warning.
const soon = 30 * 24 * time.Hour

// diskFindings judges how full the disk is, and is going to be.
func diskFindings(d mirrorapi.Disk, now time.Time) []mirrorapi.Finding {
	const makeRoom = "make room: leave out releases, architectures or a project (or give one drain = true), or use a larger disk"
	var found []mirrorapi.Finding
	add := func(level, do, format string, args ...any) {
		found = append(found, mirrorapi.Finding{Level: level, About: "disk", Message: fmt.Sprintf(format, args...), Do: do})
	}
	free := fmt.Sprintf("%s of %s are free", room.Size(d.Free), room.Size(d.Size))
	switch {
	case d.Alarm != "":
		add(mirrorapi.LevelError, makeRoom, "projects are served as they are, and get nothing new: %s", d.Alarm)
	case d.Free < d.Reserve/2:
		add(mirrorapi.LevelError, makeRoom, "%s", free)
	case d.Free < d.Reserve:
		add(mirrorapi.LevelWarning, makeRoom, "%s, and the reserve is %s: old versions go before their time", free, room.Size(d.Reserve))
	case d.Free-d.Reserve < d.Planned:
		add(mirrorapi.LevelWarning, makeRoom, "%s; the reserve is %s, and old versions will take %s more within their grace time: some will go before it is over",
			free, room.Size(d.Reserve), room.Size(d.Planned))
	}
	if d.Alarm == "" && d.Inodes > 0 && d.InodeFree < d.InodeReserve {
		add(mirrorapi.LevelWarning, "a file system that makes inodes as it needs them, such as XFS, has no such limit", "of %d inodes only %d are free", d.Inodes, d.InodeFree)
	}
	if left := d.Full.Sub(now); !d.Full.IsZero() && left < soon && d.Free >= d.Reserve {
		add(mirrorapi.LevelWarning, makeRoom, "it has no more than its reserve in %s, if it goes on to fill as it does", page.Plural(int(max(left, 0).Hours()/24), "day", "days"))
	}
	if len(found) == 0 {
		add(mirrorapi.LevelOK, "", "%s", free)
	}
	return found
}

// stateFindings judges what the mirror remembers of itself.
func (m *mirror) stateFindings() []mirrorapi.Finding {
	var found []mirrorapi.Finding
	for _, repair := range m.repairs {
		found = append(found, mirrorapi.Finding{
			Level: mirrorapi.LevelWarning, About: "state", Message: "was damaged when the mirror started, and is mended: " + repair,
			Do: "after a loss of power that may be; otherwise see whether the disk is failing",
		})
	}
	if err := m.scheduler.Unsaved(); err != nil {
		found = append(found, mirrorapi.Finding{
			Level: mirrorapi.LevelError, About: "state", Message: "what waits to be synced is not written to the disk, and a restart would forget it: " + err.Error(),
			Do: "see whether the disk is full, or cannot be written",
		})
	}
	return found
}

// tellFindings says which directors do not take what they are told.
func tellFindings(standings []tell.Standing) []mirrorapi.Finding {
	var found []mirrorapi.Finding
	for _, s := range standings {
		if s.Err == nil {
			continue
		}
		f := mirrorapi.Finding{
			Level: mirrorapi.LevelWarning, About: "director " + s.Director,
			Message: fmt.Sprintf("it does not take what it is told of project %s: %v", s.Project, s.Err),
			Do:      fmt.Sprintf("see whether it answers at the url of [mirror.directors.%s]", s.Director),
		}
		if answer, ok := errors.AsType[*directorapi.Error](s.Err); ok {
			f.Do = "see the answer: the director's documentation says what it means"
			switch answer.Reason {
			case "not_found":
				f.Do = fmt.Sprintf("have its catalogue say so: freshet director mirror edit NAME carries.%s.https=URL carries.%[1]s.inventory.how=manifest", s.Project)
			case "unauthorized", "forbidden":
				f.Do = "set this mirror up again with a new claim, or have the director know its token"
			}
		}
		found = append(found, f)
	}
	return found
}

// projectFindings judges how a project is.
func projectFindings(st mirrorapi.ProjectStatus, keys int, now time.Time) []mirrorapi.Finding {
	about := "project " + st.Name
	var found []mirrorapi.Finding
	add := func(level, do, format string, args ...any) {
		found = append(found, mirrorapi.Finding{Level: level, About: about, Message: fmt.Sprintf(format, args...), Do: do})
	}
	if st.Last != nil && st.Last.Reason == "" {
		add := func(format string, args ...any) {
			add(mirrorapi.LevelWarning, remedy(st.Last.Trouble()), format, args...)
		}
		const most = 5
		held := st.Last.HeldBack()
		for _, repo := range held[:min(len(held), most)] {
			add("%s stays at the version before: %s (%s); it is tried again at %s", cmp.Or(repo.Pointer, repo.Path), repo.Message, repo.Reason, nextText(st.Next))
		}
		if len(held) > most {
			add("%d more repositories stay at the version before: freshet mirror status %s lists them", len(held)-most, st.Name)
		}
	}
	if st.Failures > 0 && st.Last != nil && st.Last.Reason != "" && st.Last.Reason != mirrorapi.ReasonDrained {
		level := mirrorapi.LevelWarning
		if st.Failures > 3 || st.Generation == "" {
			level = mirrorapi.LevelError
		}
		syncs := "last sync"
		if st.Failures > 1 {
			syncs = fmt.Sprintf("last %d syncs", st.Failures)
		}
		add(level, remedy(st.Last.Reason), "the %s did not end well: %s (%s)", syncs, st.Last.Message, st.Last.Reason)
	}
	if !st.Drained.IsZero() {
		add(mirrorapi.LevelError, "make room, and have it back: freshet mirror sync "+st.Name, "it was taken off the disk at %s, because that was full", st.Drained.Format(time.RFC3339))
	}
	if st.Last != nil && st.Last.Ended.Sub(now) > 5*time.Minute {
		add(mirrorapi.LevelWarning, "have the clock kept right by NTP", "its last sync ended at %s, says its report: the clock was set back since", st.Last.Ended.Format(time.RFC3339))
	}
	if st.Hold != nil {
		waits := ""
		if st.Pending != nil {
			waits = fmt.Sprintf("; a sync waits since %s (%s)", st.Pending.Given.Format(time.RFC3339), st.Pending.Cause)
		}
		add(mirrorapi.LevelWarning, "when what was wrong is mended: freshet mirror release "+st.Name, "it gets nothing new: %s%s", heldText(st.Name, *st.Hold), waits)
	}
	switch times, _ := schedule.Parse(st.Schedule); {
	case st.Hold != nil:
	case st.Generation == "" && st.State == mirrorapi.Idle && st.Failures == 0 && st.Drained.IsZero():
		add(mirrorapi.LevelWarning, "freshet mirror sync "+st.Name, "nothing was ever synced")
	case !st.Checked.IsZero() && !times.Never() && now.Sub(st.Checked) > 3*times.Every()+time.Hour:
		add(mirrorapi.LevelError, "freshet mirror log "+st.Name+" says why", "it was last known to be up to date %s ago, though it is looked at %s",
			config.FormatDuration(now.Sub(st.Checked).Truncate(time.Minute)), st.Schedule)
	}
	found = append(found, followFindings(about, st.Follows, now)...)
	if st.Last != nil {
		for _, warning := range st.Last.Warnings {
			if warning == fmt.Sprintf("%s: %s", st.Last.Reason, st.Last.Message) {
				continue // that is told
			}
			add(mirrorapi.LevelWarning, "", "%s", warning)
		}
	}
	if keys == 0 && st.Kind != string(kind.Plain) { // which has none
		add(mirrorapi.LevelWarning, "name in its table, under keys, the files with the keys that sign it, if it signs (freshet mirror presets NAME)", "signatures are not checked: there are no keys")
	}
	switch {
	case len(found) > 0:
	case st.Damaged > 0: // that is told
	case st.Generation == "":
		add(mirrorapi.LevelOK, "", "it is being synced for the first time")
	default:
		add(mirrorapi.LevelOK, "", "generation %s is served, and was up to date at %s", st.Generation, st.Checked.Format(time.RFC3339))
	}
	return found
}

// nextText is when a project is looked at next.
func nextText(next time.Time) string {
	if next.IsZero() {
		return "the next order"
	}
	return next.Format(time.RFC3339)
}

// damageFindings says what checks have found damaged of a project.
func (m *mirror) damageFindings(st mirrorapi.ProjectStatus) []mirrorapi.Finding {
	if st.Damaged == 0 {
		return nil
	}
	p := m.store.Held(st.Name)
	if p == nil {
		return nil // it was removed meanwhile
	}
	damage, err := m.damages.left(st.Name, p.Current())
	if err != nil || damage.count() == 0 {
		return nil
	}
	return []mirrorapi.Finding{damage.finding(st.Name, st.Hold != nil)}
}

// silentReports is by how many reports it is known what is usual.
const silentReports = 300

// silent is a finding if an upstream has published nothing for much longer than it uses to,
// by the reports of syncs, newest first.
func silent(project string, reports []mirrorapi.Report, now time.Time) []mirrorapi.Finding {
	const (
		enough = 5 // publications, to know what is usual
		least  = 2 * 24 * time.Hour
		factor = 4
	)
	var at []time.Time
	for _, r := range reports {
		if r.Result == mirrorapi.Published {
			at = append(at, r.Ended)
		}
	}
	if len(at) < enough {
		return nil
	}
	var gaps []time.Duration
	for i := range at[1:] {
		gaps = append(gaps, at[i].Sub(at[i+1]))
	}
	slices.Sort(gaps)
	usual, since := gaps[len(gaps)*9/10], now.Sub(at[0])
	if since < least || since < factor*usual {
		return nil
	}
	return []mirrorapi.Finding{{
		Level: mirrorapi.LevelWarning, About: "project " + project,
		Message: fmt.Sprintf("upstream has published nothing for %s; nine times out of ten it does within %s", days(since), days(usual)),
		Do:      "see whether the upstream is still kept up to date, or use another",
	}}
}

// days writes a time that is long.
func days(d time.Duration) string {
	if d < 48*time.Hour {
		return config.FormatDuration(max(d.Round(time.Hour), time.Hour))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// remedy says what to do about a reason.
func remedy(reason mirrorapi.Reason) string {
	switch reason {
	case mirrorapi.ReasonUpstream:
		return "see whether the upstreams can be reached from here, or add another"
	case mirrorapi.ReasonInconsistent:
		return "wait: upstream is being changed, or lacks files itself; the version before is served. A file that never comes can be left out by exclude"
	case mirrorapi.ReasonSignature:
		return "see whether the project has new keys; if not, upstream may be compromised"
	case mirrorapi.ReasonRollback:
		return "if upstream went back on purpose: freshet mirror sync --rollback"
	case mirrorapi.ReasonShrink:
		return "if so much is to go: freshet mirror sync --shrink"
	case mirrorapi.ReasonNoSpace:
		return "make room, or leave out part of the project"
	case mirrorapi.ReasonDisk:
		return "see the kernel's log: the disk may be failing"
	case mirrorapi.ReasonProgram:
		return "install a newer rsync, or use an upstream by https"
	case mirrorapi.ReasonTimeout:
		return "it goes on where it was; set a longer timeout if that happens again"
	default:
		return "the mirror's log has more"
	}
}
