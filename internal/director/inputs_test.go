package director_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/director"
	"freshet/internal/director/directortest"
	"freshet/internal/role"
)

func envOf(t *testing.T) role.Env { t.Helper(); return role.Env{} }

const (
	both   = "http://a.de/pub/r/ https://b.at/p/r/"
	others = "http://x.de/r/"
)

// changed is another network.
func changed() directortest.Network {
	return directortest.Network{Time: 1700001000, Mirrors: []directortest.Mirror{{Country: "DE", URLs: []string{"http://x.de"}}}}
}

// A file that changes is read when it has settled; one that cannot be used changes
// nothing, whatever is wrong with it.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		if got := w.mirrors(); got != both {
			t.Fatal(got)
		}
		w.wait()
		if n := w.loads("snapshot", "ok"); n != 1 {
			t.Errorf("an unchanged file was read %v times", n)
		}
		changed().WriteSnapshot(t, w.dir)
		time.Sleep(w.cfg.WithDefaults().CheckEvery)
		synctest.Wait()
		if got := w.mirrors(); got != both {
			t.Errorf("a file that may still change was read: %s", got)
		}
		w.wait()
		if got := w.mirrors(); got != others || w.loads("snapshot", "ok") != 2 {
			t.Errorf("after a change: %s", got)
		}
		if got := w.metric("freshet_director_snapshot_timestamp_seconds"); got != 1700001000 {
			t.Errorf("the snapshot is of %v", got)
		}

		good, err := os.ReadFile(w.cfg.Snapshot)
		if err != nil {
			t.Fatal(err)
		}
		for i, bad := range [][]byte{nil, []byte("nonsense"), good[:len(good)/2], bytes.Repeat([]byte{0xff}, 100)} {
			directortest.Replace(t, w.dir, directortest.Snapshot, bad)
			w.wait()
			w.wait()
			if got := w.mirrors(); got != others {
				t.Errorf("with bad file %d: %s", i, got)
			}
			if n := w.loads("snapshot", "failed"); n != float64(i+1) {
				t.Errorf("bad file %d was tried %v times", i, n-float64(i))
			}
		}
		if err := os.Remove(w.cfg.Snapshot); err != nil {
			t.Fatal(err)
		}
		w.wait()
		w.wait()
		if got := w.mirrors(); got != others || w.loads("snapshot", "failed") != 5 {
			t.Errorf("without a file: %s, %v", got, w.loads("snapshot", "failed"))
		}
		directortest.Network{}.WriteSnapshot(t, w.dir)
		w.wait()
		if got := w.mirrors(); got != both {
			t.Errorf("with a good one again: %s", got)
		}
	})
}

// Each of the other files counts, and is read anew by itself.
func TestReloadOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		comment := func(params string) string {
			_, body := w.get(repo + params)
			line, _, _ := strings.Cut(body, "\n")
			return strings.TrimPrefix(line, "# repo = r-1 arch = x86_64 ")
		}
		if got := comment(""); got != "country = DE country = AT " {
			t.Errorf("%q", got)
		}
		directortest.Replace(t, w.dir, directortest.Continents, []byte("DE,EU\nAT,XX\n"))
		w.wait()
		if got := comment(""); got != "country = DE " {
			t.Errorf("with another continent: %q", got)
		}
		geo, err := os.ReadFile(w.cfg.GeoIP)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(w.cfg.GeoIP, bytes.ReplaceAll(geo, []byte("DE"), []byte("AT")), 0o644); err != nil { // in place
			t.Fatal(err)
		}
		w.wait()
		if got := comment(""); got != "country = AT " {
			t.Errorf("with another country: %q", got)
		}
		directortest.Replace(t, w.dir, directortest.GeoIP, geo[:100])
		directortest.Replace(t, w.dir, directortest.Netblocks, []byte("nothing\n"))
		w.wait()
		if got := comment(""); got != "country = AT " || w.loads("geoip", "failed") != 1 || w.loads("netblocks", "failed") != 1 {
			t.Errorf("with files that are no good: %q", got)
		}
		if !strings.Contains(w.log.String(), `msg="input was not read" input=netblocks file=`+w.cfg.Netblocks) {
			t.Error(w.log.String())
		}
	})
}

// A snapshot that has lost most of its directories is taken only when it is asked for.
func TestShrunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		large := changed()
		large.Directories = []string{"a", "b", "c"}
		large.WriteSnapshot(t, w.dir)
		w.wait()
		if got := w.mirrors(); got != others {
			t.Fatal(got)
		}
		directortest.Network{}.WriteSnapshot(t, w.dir)
		w.wait()
		if got := w.mirrors(); got != others || !strings.Contains(w.log.String(), "it has 2 directories, less than half of the 5 before") {
			t.Errorf("%s\n%s", got, w.log.String())
		}
		w.reloads <- w.cfg
		synctest.Wait()
		if got := w.mirrors(); got != both {
			t.Errorf("at SIGHUP: %s", got)
		}
	})
}

// A configuration is taken over as far as its files can be used.
func TestReloadConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		elsewhere := t.TempDir()
		changed().Write(t, elsewhere)
		cfg := w.cfg
		cfg.Prefer, cfg.Minimum = "https", 9
		cfg.Continents = ""
		cfg.GeoIP = filepath.Join(elsewhere, "none")
		w.reloads <- cfg
		synctest.Wait()
		if got := w.mirrors(); got != "https://a.de/pub/r/ https://b.at/p/r/" {
			t.Errorf("%s", got)
		}
		if _, body := w.get(repo); !strings.HasPrefix(body, "# repo = r-1 arch = x86_64 country = DE country = global \n") {
			t.Errorf("%s", body) // GeoIP as it was, no continents
		}
		cfg.Snapshot = filepath.Join(elsewhere, directortest.Snapshot)
		w.reloads <- cfg
		synctest.Wait()
		if got := w.mirrors(); got != others {
			t.Errorf("with another snapshot: %s", got)
		}
		directortest.Network{}.WriteSnapshot(t, elsewhere)
		w.wait()
		if got := w.mirrors(); !strings.HasPrefix(got, "https://a.de/pub/r/") {
			t.Errorf("the other file is followed: %s", got)
		}
	})
}

// Under load, each answer is of one state of all files, and none fails.
func TestReloadUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, func(c *director.Config) { c.CheckEvery = 100 * time.Millisecond })
		done := make(chan struct{})
		ended := make(chan struct{})
		for range 4 {
			go func() {
				defer func() { ended <- struct{}{} }()
				for {
					select {
					case <-done:
						return
					default:
						if got := w.mirrors(); got != both && got != others {
							t.Errorf("an answer of two states: %s", got)
							return
						}
						time.Sleep(time.Millisecond)
					}
				}
			}()
		}
		for i := range 10 {
			if i%2 == 0 {
				changed().WriteSnapshot(t, w.dir)
			} else {
				directortest.Network{}.WriteSnapshot(t, w.dir)
			}
			time.Sleep(300 * time.Millisecond)
		}
		close(done)
		for range 4 {
			<-ended
		}
		if n := w.loads("snapshot", "ok"); n != 11 {
			t.Errorf("%v snapshots were read, want 11", n)
		}
	})
}
