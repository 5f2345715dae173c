package mirror

import (
	"context"

	"freshet/api/mirrorapi"
	"freshet/internal/rsync"
)

// programFindings judges the programs that the mirror starts.
func (m *mirror) programFindings(ctx context.Context) []mirrorapi.Finding {
	if !m.cfg().needsRsync() {
		return nil
	}
	f := mirrorapi.Finding{Level: mirrorapi.LevelOK, About: "rsync"}
	program, err := rsync.Find(ctx, m.cfg().Rsync)
	if err != nil {
		f.Level, f.Message = mirrorapi.LevelError, err.Error()
		f.Do = "install rsync " + rsync.Floor().String() + " or newer, or use upstreams by https"
	} else {
		f.Message = "version " + program.Version().String()
	}
	return []mirrorapi.Finding{f}
}
