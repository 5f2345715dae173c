package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"freshet/api/mirrorapi"
	"freshet/internal/config"
	"freshet/internal/durable"
	"freshet/internal/landlock"
	"freshet/internal/mirror/checkup"
	"freshet/internal/mirror/fetch"
	"freshet/internal/rsync"
)

// smartEvery is how often disks are asked whether they are failing.
const smartEvery = 6 * time.Hour

// smart is what disks have said last.
type smart struct {
	mu    sync.Mutex
	found []mirrorapi.Finding
}

func (s *smart) findings() []mirrorapi.Finding {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.found)
}

// failing is how many things are wrong with disks.
func (s *smart) failing() (n int) {
	for _, f := range s.findings() {
		if f.Level == mirrorapi.LevelError {
			n++
		}
	}
	return n
}

// watchDisks asks the disks whether they are failing, again and again, until ctx ends.
func (m *mirror) watchDisks(ctx context.Context) {
	ticker := time.NewTicker(smartEvery)
	defer ticker.Stop()
	told := make(map[string]bool)
	for {
		found := checkup.LookSMART(ctx, m.cfg().Directory)
		m.smart.mu.Lock()
		m.smart.found = found
		m.smart.mu.Unlock()
		for _, f := range found {
			if text := f.About + ": " + f.Message; f.Level == mirrorapi.LevelError && !told[text] {
				told[text] = true
				m.log.ErrorContext(ctx, "a disk is failing", slog.String("disk", f.About), slog.String("what", f.Message))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// machineFindings judges the machine, as far as a mirror that runs needs to know.
func (m *mirror) machineFindings(ctx context.Context) []mirrorapi.Finding {
	cfg := m.cfg()
	found := m.smart.findings()
	found = append(found, machineFindings(*cfg, time.Now())...)
	// A client has a connection and a file; files are kept open beside that, and syncs and
	// programs have some.
	const others = 8192
	found = append(found, checkup.OpenFiles(checkup.LookOpenFiles(), 2*uint64(max(cfg.Clients.Connections, 0))+others)...)
	found = append(found, checkup.ClockFindings(m.skews(ctx), checkup.LookKept())...)
	return append(found, m.doorFindings(ctx)...)
}

// machineFindings judges the machine for a configuration with its defaults.
func machineFindings(cfg Config, now time.Time) []mirrorapi.Finding {
	found := checkup.LookMount(cfg.Directory).Findings()
	found = append(found, checkup.Memory(checkup.LookMemory())...)
	found = append(found, checkup.Openat2(checkup.LookOpenat2())...)
	for _, pair := range cfg.TLS.Certificates {
		found = append(found, checkup.Certificate(pair.Cert, now)...)
	}
	if cfg.needsRsync() && !landlock.Confines() {
		found = append(found, mirrorapi.Finding{
			Level: mirrorapi.LevelWarning, About: "kernel", Message: "it has no Landlock: rsync can read and write what the mirror can, and long lists take long",
			Do: "use Linux 5.19 or newer, with landlock among the LSMs of its command line",
		})
	}
	return found
}

// maxSkews bounds how many others are asked for the time.
const maxSkews = 4

// clocks are the URLs of directors, and of upstreams that speak HTTP, each with the file of the
// authorities that vouch for it, "" for those of the system.
func clocks(cfg *Config) map[string]string {
	authorities := make(map[string]string)
	for _, p := range cfg.Projects {
		for _, u := range p.Upstreams {
			if _, plain := fetch.Split(u); strings.HasPrefix(plain, "http") {
				authorities[plain] = ""
			}
		}
	}
	for _, d := range cfg.Directors {
		authorities[d.URL] = d.CA
	}
	if d := cfg.Desired; d.URL != "" {
		authorities[d.URL] = d.CA
	}
	return authorities
}

// skews asks others for the time.
func (m *mirror) skews(ctx context.Context) []checkup.Skew {
	authorities := clocks(m.cfg())
	list := slices.Sorted(maps.Keys(authorities))
	list = list[:min(len(list), maxSkews)]
	answers := make([]*checkup.Skew, len(list))
	var asked sync.WaitGroup
	for i, u := range list {
		asked.Go(func() {
			client, err := Trusting(m.env.HTTP, authorities[u])
			if err != nil {
				return // who tells the director something says so
			}
			if authorities[u] != "" {
				defer client.CloseIdleConnections()
			}
			if s, ok := checkup.LookClock(ctx, client, hostOf(u), u); ok {
				answers[i] = &s
			}
		})
	}
	asked.Wait()
	var skews []checkup.Skew
	for _, s := range answers {
		if s != nil {
			skews = append(skews, *s)
		}
	}
	return skews
}

// doorFindings looks whether the mirror's own listeners answer.
func (m *mirror) doorFindings(ctx context.Context) []mirrorapi.Finding {
	cfg := m.cfg()
	var found []mirrorapi.Finding
	for _, addr := range []string{cfg.Listen, cfg.ListenTLS, cfg.Rsyncd.Listen} {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port == "0" || strings.HasPrefix(addr, "mem:") || strings.Contains(addr, "/") {
			continue
		}
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			host = "127.0.0.1" // a listener on all addresses has this one, whatever can be resolved
		}
		dialer := net.Dialer{Timeout: 2 * time.Second}
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, port))
		if err != nil {
			found = append(found, mirrorapi.Finding{
				Level: mirrorapi.LevelError, About: "listener " + addr, Message: "nobody gets in from this machine: " + err.Error(),
				Do: "see whether a firewall is in the way, or all connections are taken",
			})
			continue
		}
		_ = conn.Close() // nothing was sent
	}
	return found
}

// Examine judges a mirror that does not run, by its configuration and its folder: why it
// does not start, or would not work. It changes nothing.
func Examine(ctx context.Context, cfg Config) mirrorapi.Diagnosis {
	found := []mirrorapi.Finding{{
		Level: mirrorapi.LevelError, About: "mirror", Message: "it does not run, or has its admin listener elsewhere",
		Do: "start it: systemctl start freshet-mirror, or freshet mirror --config FILE --admin 127.0.0.1:9600; its log says why it ended",
	}}
	problems, _ := errors.AsType[config.Problems](config.Check(cfg))
	for _, p := range problems {
		found = append(found, mirrorapi.Finding{Level: mirrorapi.LevelError, About: "configuration", Message: p.Key + ": " + p.Message, Do: "freshet config check has all of it"})
	}
	cfg = cfg.WithDefaults()
	if cfg.Directory != "" {
		found = append(found, folderFindings(cfg)...)
		found = append(found, checkup.LookSMART(ctx, cfg.Directory)...)
	}
	found = append(found, machineFindings(cfg, time.Now())...)
	found = append(found, checkup.ClockFindings(nil, checkup.LookKept())...)
	if cfg.needsRsync() {
		found = append(found, programFindings(ctx, cfg.Rsync)...)
	}
	found = append(found, portFindings(ctx, cfg)...)
	worstFirst(found)
	return mirrorapi.Diagnosis{Findings: found}
}

// folderFindings judges the folder of a mirror that does not run.
func folderFindings(cfg Config) []mirrorapi.Finding {
	finding := func(level, do, format string, args ...any) mirrorapi.Finding {
		return mirrorapi.Finding{Level: level, About: "directory " + cfg.Directory, Message: fmt.Sprintf(format, args...), Do: do}
	}
	info, err := os.Stat(cfg.Directory)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(filepath.Dir(filepath.Clean(cfg.Directory))); err != nil {
			return []mirrorapi.Finding{finding(mirrorapi.LevelError, "make it, or mount the disk", "neither it nor the folder that it is in is there")}
		}
		return []mirrorapi.Finding{finding(mirrorapi.LevelWarning, "if there were projects in it: mount the disk before the mirror makes a new folder", "it is not there yet, and is made at the first start")}
	case err != nil:
		return []mirrorapi.Finding{finding(mirrorapi.LevelError, "see who may read it", "%v", err)}
	case !info.IsDir():
		return []mirrorapi.Finding{finding(mirrorapi.LevelError, "name a folder in directory", "it is no folder")}
	}
	var found []mirrorapi.Finding
	if err := durable.CheckFolder(cfg.Directory, "lock", "objects", "projects"); err != nil {
		found = append(found, finding(mirrorapi.LevelError, "name an empty folder in directory, or that of a mirror", "%v", err))
	}
	if err := unix.Access(cfg.Directory, unix.R_OK|unix.W_OK|unix.X_OK); err != nil {
		found = append(found, finding(mirrorapi.LevelError, "give it to the user that the mirror runs as", "it cannot be written by uid %d: %v", os.Geteuid(), err))
	}
	var st unix.Statfs_t
	if err := unix.Statfs(cfg.Directory, &st); err == nil {
		d := mirrorapi.Disk{Size: int64(st.Blocks) * st.Bsize, Free: int64(st.Bavail) * st.Bsize, Inodes: int64(st.Files), InodeFree: int64(st.Ffree)}
		d.Reserve = cfg.Limits.Reserve.Of(d.Size)
		d.InodeReserve = int64(float64(d.Reserve) / float64(max(d.Size, 1)) * float64(d.Inodes))
		found = append(found, diskFindings(d, time.Now())...)
	}
	return found
}

// portFindings looks whether somebody else listens where the mirror is to.
func portFindings(ctx context.Context, cfg Config) []mirrorapi.Finding {
	var found []mirrorapi.Finding
	for _, addr := range []string{cfg.Listen, cfg.ListenTLS, cfg.Rsyncd.Listen} {
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "0" || strings.HasPrefix(addr, "mem:") {
			continue
		}
		var l net.ListenConfig
		ln, err := l.Listen(ctx, "tcp", addr)
		if err != nil {
			found = append(found, mirrorapi.Finding{
				Level: mirrorapi.LevelError, About: "listener " + addr, Message: err.Error(),
				Do: "see who listens there: ss -ltnp",
			})
			continue
		}
		_ = ln.Close() // nobody has come in
	}
	return found
}

// programFindings judges the rsync program.
func programFindings(ctx context.Context, o rsync.Options) []mirrorapi.Finding {
	f := mirrorapi.Finding{Level: mirrorapi.LevelOK, About: "rsync"}
	program, err := rsync.Find(ctx, o)
	if err != nil {
		f.Level, f.Message = mirrorapi.LevelError, err.Error()
		f.Do = "install rsync " + rsync.Floor().String() + " or newer, then systemctl reload freshet-mirror; or use upstreams by https"
	} else {
		f.Message = "version " + program.Version().String()
	}
	return []mirrorapi.Finding{f}
}
