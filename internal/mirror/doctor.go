package mirror

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/mirror/room"
	"freshet/internal/mirror/schedule"
)

func (m *mirror) answerDoctor(w http.ResponseWriter, r *http.Request, _ *visit) error {
	disk, err := m.disk()
	if err != nil {
		return err
	}
	found := diskFindings(disk)
	found = append(found, m.programFindings(r.Context())...)
	found = append(found, m.desiredFindings(time.Now())...)
	for _, name := range slices.Sorted(maps.Keys(m.cfg().Projects)) {
		st, err := m.projectStatus(name)
		if err != nil {
			return err
		}
		found = append(found, projectFindings(st, len(m.cfg().Projects[name].Keys), time.Now())...)
	}
	for _, l := range m.left() {
		found = append(found, leftFinding(l))
	}
	level := []string{mirrorapi.LevelError, mirrorapi.LevelWarning, mirrorapi.LevelOK}
	slices.SortStableFunc(found, func(a, b mirrorapi.Finding) int {
		return cmp.Compare(slices.Index(level, a.Level), slices.Index(level, b.Level))
	})
	writeJSON(w, http.StatusOK, mirrorapi.Diagnosis{Findings: found})
	return nil
}

// diskFindings judges how full the disk is.
func diskFindings(d mirrorapi.Disk) []mirrorapi.Finding {
	f := mirrorapi.Finding{Level: mirrorapi.LevelOK, About: "disk"}
	f.Message = fmt.Sprintf("%s of %s are free", room.Size(d.Free), room.Size(d.Size))
	switch {
	case d.Free < d.Reserve/2:
		f.Level = mirrorapi.LevelError
		f.Do = "make room: leave out releases, architectures or a project, or drop old generations (freshet mirror drop)"
	case d.Free < d.Reserve:
		f.Level = mirrorapi.LevelWarning
		f.Do = fmt.Sprintf("the reserve is %s: old generations go before their time; plan for a larger disk or less on it", room.Size(d.Reserve))
	}
	found := []mirrorapi.Finding{f}
	if d.Inodes > 0 && d.InodeFree < d.Inodes/20 {
		found = append(found, mirrorapi.Finding{
			Level: mirrorapi.LevelWarning, About: "disk", Message: fmt.Sprintf("of %d inodes only %d are free", d.Inodes, d.InodeFree),
			Do: "a file system that makes inodes as it needs them, such as XFS, has no such limit",
		})
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
	if st.Failures > 0 && st.Last != nil {
		level := mirrorapi.LevelWarning
		if st.Failures > 3 || st.Generation == "" {
			level = mirrorapi.LevelError
		}
		add(level, remedy(st.Last.Reason), "the last %d syncs did not end well: %s (%s)", st.Failures, st.Last.Message, st.Last.Reason)
	}
	switch times, _ := schedule.Parse(st.Schedule); {
	case st.Generation == "" && st.State == mirrorapi.Idle && st.Failures == 0:
		add(mirrorapi.LevelWarning, "freshet mirror sync "+st.Name, "nothing was ever synced")
	case !st.Checked.IsZero() && !times.Never() && now.Sub(st.Checked) > 3*times.Every()+time.Hour:
		add(mirrorapi.LevelError, "freshet mirror log "+st.Name+" says why", "it was last known to be up to date %s ago, though it is looked at %s",
			config.FormatDuration(now.Sub(st.Checked).Truncate(time.Minute)), st.Schedule)
	}
	found = append(found, followFindings(about, st.Follows, now)...)
	if st.Last != nil {
		for _, warning := range st.Last.Warnings {
			add(mirrorapi.LevelWarning, "", "%s", warning)
		}
	}
	if keys == 0 {
		add(mirrorapi.LevelWarning, "name in its table, under keys, the files with the keys that sign it", "signatures are not checked: there are no keys")
	}
	switch {
	case len(found) > 0:
	case st.Generation == "":
		add(mirrorapi.LevelOK, "", "it is being synced for the first time")
	default:
		add(mirrorapi.LevelOK, "", "generation %s is served, and was up to date at %s", st.Generation, st.Checked.Format(time.RFC3339))
	}
	return found
}

// remedy says what to do about a reason.
func remedy(reason mirrorapi.Reason) string {
	switch reason {
	case mirrorapi.ReasonUpstream:
		return "see whether the upstreams can be reached from here, or add another"
	case mirrorapi.ReasonInconsistent:
		return "wait: upstream is being changed, or lacks files itself; the version before is served"
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
