package mirror

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/mirrorapi"
	"freshet/internal/mirror/project"
)

// says fails the test unless a finding of the level has the words, and says what to do
// unless it is good.
func says(t *testing.T, found []mirrorapi.Finding, level, about, words string) {
	t.Helper()
	for _, f := range found {
		if f.Level == level && strings.HasPrefix(f.About, about) && strings.Contains(f.Message, words) {
			if f.Do == "" && level != mirrorapi.LevelOK {
				t.Errorf("what to do about it? %+v", f)
			}
			return
		}
	}
	t.Errorf("no %s about %s with %q in %+v", level, about, words, found)
}

func TestDiskFindings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	const gb = 1e9
	sound := mirrorapi.Disk{Size: 2000 * gb, Free: 800 * gb, Reserve: 160 * gb, Inodes: 1000, InodeFree: 900, InodeReserve: 80}
	for name, c := range map[string]struct {
		change       func(*mirrorapi.Disk)
		level, words string
	}{
		"sound":        {func(*mirrorapi.Disk) {}, mirrorapi.LevelOK, "800.0 GB of 2.0 TB"},
		"below":        {func(d *mirrorapi.Disk) { d.Free = 100 * gb }, mirrorapi.LevelWarning, "go before their time"},
		"far below":    {func(d *mirrorapi.Disk) { d.Free = 50 * gb }, mirrorapi.LevelError, "50.0 GB of 2.0 TB"},
		"alarm":        {func(d *mirrorapi.Disk) { d.Alarm = "words" }, mirrorapi.LevelError, "get nothing new: words"},
		"planned":      {func(d *mirrorapi.Disk) { d.Planned = 700 * gb }, mirrorapi.LevelWarning, "700.0 GB more within their grace time"},
		"inodes":       {func(d *mirrorapi.Disk) { d.InodeFree = 10 }, mirrorapi.LevelWarning, "of 1000 inodes only 10"},
		"fills":        {func(d *mirrorapi.Disk) { d.Full = now.Add(9*24*time.Hour + time.Hour) }, mirrorapi.LevelWarning, "in 9 days"},
		"fills slowly": {func(d *mirrorapi.Disk) { d.Full = now.Add(90 * 24 * time.Hour) }, mirrorapi.LevelOK, "are free"},
	} {
		d := sound
		c.change(&d)
		t.Run(name, func(t *testing.T) { says(t, diskFindings(d, now), c.level, "disk", c.words) })
	}
}

func TestProjectFindings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	sound := mirrorapi.ProjectStatus{Name: "p", Schedule: "every 1h", Generation: "000001-a", Checked: now, State: mirrorapi.Idle}
	failed := func(n int) func(*mirrorapi.ProjectStatus) {
		return func(st *mirrorapi.ProjectStatus) {
			st.Failures, st.Last = n, &mirrorapi.Report{Reason: mirrorapi.ReasonNoSpace, Message: "why", Ended: now}
		}
	}
	for name, c := range map[string]struct {
		change       func(*mirrorapi.ProjectStatus)
		keys         int
		level, words string
	}{
		"sound":       {func(*mirrorapi.ProjectStatus) {}, 1, mirrorapi.LevelOK, "is served"},
		"no keys":     {func(*mirrorapi.ProjectStatus) {}, 0, mirrorapi.LevelWarning, "signatures are not checked"},
		"failed once": {failed(1), 1, mirrorapi.LevelWarning, "why (no_space)"},
		"failed":      {failed(9), 1, mirrorapi.LevelError, "why (no_space)"},
		"not looked":  {func(st *mirrorapi.ProjectStatus) { st.Checked = now.Add(-5 * time.Hour) }, 1, mirrorapi.LevelError, "5h ago"},
		"never":       {func(st *mirrorapi.ProjectStatus) { st.Generation = "" }, 1, mirrorapi.LevelWarning, "nothing was ever synced"},
		"drained":     {func(st *mirrorapi.ProjectStatus) { st.Generation, st.Drained = "", now }, 1, mirrorapi.LevelError, "taken off the disk"},
		"held back": {func(st *mirrorapi.ProjectStatus) {
			st.Failures, st.Last = 1, &mirrorapi.Report{Result: mirrorapi.Published, Ended: now, Repositories: []mirrorapi.Repository{
				{Pointer: "a"}, {Pointer: "b/repodata/repomd.xml", Held: true, Reason: mirrorapi.ReasonInconsistent, Message: "why"},
			}}
		}, 1, mirrorapi.LevelWarning, "b/repodata/repomd.xml stays at the version before: why (upstream_inconsistent)"},
		"clock back": {func(st *mirrorapi.ProjectStatus) { st.Last = &mirrorapi.Report{Ended: now.Add(time.Hour)} }, 1, mirrorapi.LevelWarning, "clock was set back"},
	} {
		st := sound
		c.change(&st)
		t.Run(name, func(t *testing.T) { says(t, projectFindings(st, c.keys, now), c.level, "project p", c.words) })
	}
}

// An upstream that has been silent for much longer than usual is told of.
func TestSilent(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	published := func(since, every time.Duration, n int) (list []mirrorapi.Report) {
		for i := range n {
			at := now.Add(-since - time.Duration(i)*every)
			list = append(list, mirrorapi.Report{Result: mirrorapi.Unchanged, Ended: at.Add(time.Minute)}, mirrorapi.Report{Result: mirrorapi.Published, Ended: at})
		}
		return list
	}
	const day = 24 * time.Hour
	says(t, silent("p", published(9*day, day, 8), now), mirrorapi.LevelWarning, "project p", "nothing for 9 days; nine times out of ten it does within 24h")
	for name, list := range map[string][]mirrorapi.Report{
		"two days":      published(2*day, day, 8),
		"a slow one":    published(9*day, 7*day, 8),
		"an hourly one": published(20*time.Hour, time.Hour, 8),
		"a new one":     published(9*day, day, 4),
	} {
		if found := silent("p", list, now); len(found) != 0 {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// A mirror that does not run is judged by its configuration and its folder.
func TestExamine(t *testing.T) {
	top := t.TempDir()
	used, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer used.Close()
	sound := Config{Directory: filepath.Join(top, "mirror"), Projects: map[string]project.Config{
		"p": {Kind: "plain", Upstreams: []string{"https://upstream.example/p/"}},
	}}
	sound.Listen = "127.0.0.1:0"
	if err := os.WriteFile(filepath.Join(top, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(top, "foreign")
	if err := os.MkdirAll(foreign+"/somebodys", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change              func(*Config)
		level, about, words string
	}{
		"not running":   {func(*Config) {}, mirrorapi.LevelError, "mirror", "does not run"},
		"no folder yet": {func(*Config) {}, mirrorapi.LevelWarning, "directory", "not there yet"},
		"no disk":       {func(c *Config) { c.Directory = filepath.Join(top, "a/b/c") }, mirrorapi.LevelError, "directory", "neither it nor"},
		"a file":        {func(c *Config) { c.Directory = filepath.Join(top, "file") }, mirrorapi.LevelError, "directory", "no folder"},
		"of others":     {func(c *Config) { c.Directory = foreign }, mirrorapi.LevelError, "directory", "somebodys"},
		"no directory":  {func(c *Config) { c.Directory = "" }, mirrorapi.LevelError, "configuration", "directory: is required"},
		"a port in use": {func(c *Config) { c.Listen = used.Addr().String() }, mirrorapi.LevelError, "listener", "address already in use"},
		"no rsync": {func(c *Config) {
			c.Projects = map[string]project.Config{"p": {Kind: "plain", Upstreams: []string{"rsync://upstream.example/p/"}}}
			c.Rsync.Path = "/nonexistent/rsync"
		}, mirrorapi.LevelError, "rsync", "/nonexistent/rsync"},
		"an unknown kind": {func(c *Config) {
			c.Projects = map[string]project.Config{"p": {Kind: "tar", Upstreams: []string{"https://upstream.example/p/"}}}
		}, mirrorapi.LevelError, "configuration", "projects.p.kind"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := sound
			c.change(&cfg)
			says(t, Examine(t.Context(), cfg).Findings, c.level, c.about, c.words)
		})
	}
	if _, err := os.Stat(sound.Directory); err == nil {
		t.Error("it has made the folder")
	}
	// A folder that is there, and is a mirror's, has its disk judged.
	if err := os.Mkdir(sound.Directory, 0o700); err != nil {
		t.Fatal(err)
	}
	d := Examine(t.Context(), sound)
	if about := d.Findings[0].Level; about != mirrorapi.LevelError {
		t.Errorf("the worst is not first: %+v", d.Findings)
	}
	for _, f := range d.Findings {
		if strings.HasPrefix(f.About, "directory") {
			t.Errorf("%+v", f)
		}
	}
}

// Directors whose certificate a private authority vouches for are asked for the time as well, and so is
// who desires something.
func TestClocksOfPrivateAuthorities(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var m mirror
	m.env.HTTP = http.DefaultClient
	for name, cfg := range map[string]Config{
		"director": {Directors: map[string]DirectorConfig{"main": {URL: server.URL, CA: ca}}},
		"desired":  {Desired: DesiredConfig{URL: server.URL, CA: ca}},
	} {
		m.now.Store(&settings{cfg: cfg})
		if skews := m.skews(t.Context()); len(skews) != 1 || skews[0].Of != hostOf(server.URL) {
			t.Errorf("%s: %+v", name, skews)
		}
	}
	// Upstreams that tell are asked by their plain URLs.
	m.now.Store(&settings{cfg: Config{Projects: map[string]project.Config{
		"p": {Upstreams: []string{"hub+https://hub.example/tree/p/", "rsync://other.example/p/"}},
	}}})
	if urls := clocks(m.cfg()); len(urls) != 1 || urls["https://hub.example/tree/p/"] != "" {
		t.Errorf("%v", urls)
	}
}
