package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// hubPushes is a hub, and a folder that is pushed to its tree "packages".
type hubPushes struct {
	*hubServer
	t           *testing.T
	addr, files string
	tokenFile   string
}

func startHubPushes(t *testing.T, files string) *hubPushes {
	t.Helper()
	work := t.TempDir()
	h := &hubPushes{t: t, addr: freeAddr(t), files: files, tokenFile: filepath.Join(work, "token")}
	h.hubServer = startHub(t, filepath.Join(work, "hub"), h.addr, "")
	if err := os.WriteFile(h.tokenFile, []byte(h.token), 0o600); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *hubPushes) push(tree string) {
	h.t.Helper()
	run(h.t, "push", "--hub", h.url, "--token-file", h.tokenFile, "--tree", tree, h.files)
}

// kill ends the hub as a power cut does, and start takes it up again.
func (h *hubPushes) restart() { h.hubServer = startHub(h.t, h.dir, h.addr, "") }

// follows waits until a mirror follows its upstream.
func (b *boxed) follows() {
	b.t.Helper()
	eventually(b.t, "the upstream is followed", patience, func() error {
		var st struct {
			Follows []struct{ State, Error string }
		}
		out, _, err := tryRun(b.t, "mirror", "status", "p", "--json", "--admin", b.admin, "--token-file", b.token)
		if err == nil {
			err = json.Unmarshal([]byte(out), &st)
		}
		if err == nil && (len(st.Follows) != 1 || st.Follows[0].State != "following") {
			err = fmt.Errorf("%+v", st.Follows)
		}
		return err
	})
}

// shows waits until a mirror serves these bytes at a path of the project.
func (b *boxed) shows(path string, want []byte) {
	b.t.Helper()
	eventually(b.t, b.listen+" shows "+path, patience, func() error {
		got, err := fetchBody("http://" + b.listen + "/p" + path)
		if err == nil && !bytes.Equal(got, want) {
			err = fmt.Errorf("%d bytes of another version", len(got))
		}
		return err
	})
}

func fetchBody(url string) ([]byte, error) {
	resp, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(resp.Status))
	}
	return body, err
}

// hurried makes followers begin at once.
const hurriedMirror = `spread = "1ms"`

// What is pushed to a hub goes down a chain of mirrors without anybody looking at a
// schedule, and real clients install it from the last one. A mirror in the middle that is
// killed, a hub that is, and one that was off catch up.
func TestMirrorChain(t *testing.T) {
	parallel(t)
	eco := dnfRepository()
	peertest.Require(t, eco.programs...)
	dir := t.TempDir()
	publish := eco.publisher(t, dir)
	h := startHubPushes(t, dir)
	version := 0
	push := func() []byte {
		t.Helper()
		version++
		if err := publish(version); err != nil {
			t.Fatal(err)
		}
		h.push("packages")
		return get(t, h.url+"/tree/packages/repodata/repomd.xml", 200)
	}
	push()
	more := hurriedMirror + fmt.Sprintf("\nrepositories = [\".\"]\nkeys = [%q]", dir+"/key.asc")
	first := startBox(t, "rpm", "hub+"+h.url+"/tree/packages/", more)
	first.mustSync("published", "")
	last := startBox(t, "rpm", "mirror+http://"+first.listen+"/p/", more)
	last.mustSync("published", "")
	first.follows()
	last.follows()

	const pointer = "/repodata/repomd.xml"
	user := newClient(t)
	installs := func() {
		t.Helper()
		got, err := eco.install(user, "http://"+last.listen+"/p/", dir)
		if err != nil || got != fmt.Sprintf("version %d", version) {
			t.Errorf("the client has %q, want version %d; %v", got, version, err)
		}
	}
	for range 3 {
		want := push()
		begun := time.Now()
		first.shows(pointer, want)
		one := time.Since(begun)
		last.shows(pointer, want)
		t.Logf("version %d: the first mirror after %v, the last after %v", version, one.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
	}
	installs()

	// What concerns another tree starts nothing.
	before := string(get(t, "http://"+first.admin+"/metrics", 200))
	h.push("others")
	h.push("more")
	last.shows(pointer, push())
	after := string(get(t, "http://"+first.admin+"/metrics", 200))
	if a, b := metricOf(t, before, "freshet_mirror_events_total"), metricOf(t, after, "freshet_mirror_events_total"); b != a+1 {
		t.Errorf("events of the project were %v and are %v, want one more", a, b)
	}

	// The one in the middle is away, and misses two versions; so does the hub, for a while.
	first.kill()
	push()
	want := push()
	first.start()
	last.shows(pointer, want)
	installs()
	h.kill()
	last.kill()
	h.restart()
	want = push()
	first.shows(pointer, want)
	last.start()
	last.shows(pointer, want)
	installs()
	if out := run(t, "mirror", "status", "p", "--admin", last.admin, "--token-file", last.token); !strings.Contains(out, "follows") {
		t.Errorf("status:\n%s", out)
	}
}

// metricOf is the value of a metric of project p.
func metricOf(t *testing.T, page, name string) (v float64) {
	t.Helper()
	for line := range strings.Lines(page) {
		if rest, ok := strings.CutPrefix(line, name+`{project="p"} `); ok {
			if _, err := fmt.Sscan(rest, &v); err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("no %s in\n%s", name, page)
	return 0
}
