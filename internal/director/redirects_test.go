package director_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"freshet/api/directorapi"
	"freshet/internal/director"
	"freshet/internal/director/orders"
	"freshet/internal/durable"
	"freshet/internal/inventory"
)

// fleetState writes the state folder of a director whose mirrors in DE and AT have two
// files each, of which they share one.
func fleetState(t *testing.T, dir string) {
	t.Helper()
	state, err := durable.Open(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = state.Root.Close() }()
	var known inventory.Inventory
	tree := known.Project("pub")
	list := func(name string, files ...string) {
		h, err := known.Holder(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tree.Replace(h, inventory.Listing{At: time.Now(), Entries: func(yield func(inventory.Entry, error) bool) {
			for _, f := range files {
				if !yield(inventory.Entry{Path: f, Size: int64(len(f))}, nil) {
					return
				}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	list("", "both.iso", "de.iso", "at.iso", "nobody.iso")
	list("de", "both.iso", "de.iso")
	list("at", "both.iso", "at.iso")
	if err := known.Save(state, "inventory"); err != nil {
		t.Fatal(err)
	}
	carries := func(name string) []directorapi.Carried {
		return []directorapi.Carried{{
			Project: "pub", HTTP: "http://" + name + ".example/", HTTPS: "https://" + name + ".example/",
			Inventory: directorapi.Source{How: directorapi.HowManifest},
		}}
	}
	text, err := json.Marshal(directorapi.Catalogue{
		Projects: []directorapi.Project{{
			Name: "pub", Path: "/pub/", Origins: []string{"http://origin.example/", "https://origin.example/"},
			Inventory: directorapi.Source{How: directorapi.HowManifest},
		}},
		Sites:   []directorapi.Site{{Name: "a", Country: "AT"}, {Name: "d", Country: "DE"}},
		Mirrors: []directorapi.Mirror{{Name: "at", Site: "a", Carries: carries("at")}, {Name: "de", Site: "d", Carries: carries("de")}},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "catalogue.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// startFleet starts a director with mirrors of its own, also with lists if lists is true.
func startFleet(t *testing.T, lists bool, more ...func(*director.Config)) *world {
	t.Helper()
	return start(t, func(c *director.Config) {
		dir := t.TempDir()
		fleetState(t, dir)
		c.State, c.Catalogue, c.NoProbes, c.NoScans = filepath.Join(dir, "state"), filepath.Join(dir, "catalogue.json"), true, true
		if !lists {
			c.Snapshot = ""
		}
		for _, change := range more {
			change(c)
		}
	})
}

// What the loop answers and what the general server answers is the same; with a snapshot,
// the lists of MirrorManager are answered as before.
func TestFilesAreAnswered(t *testing.T) {
	for _, lists := range []bool{true, false} {
		t.Run(fmt.Sprint("lists=", lists), func(t *testing.T) {
			w := startFleet(t, lists)
			outside := "404||unknown_project"
			list := outside
			if lists {
				outside, list = "404||unknown_endpoint", "200||"
			}
			const de, proto = "X-Forwarded-For: 192.0.2.7\r\n", "X-Forwarded-Proto: https\r\n"
			for _, c := range []struct{ target, fields, want string }{
				{"/pub/both.iso", de, "302|http://de.example/both.iso|"},
				{"/pub/both.iso", de + proto, "302|https://de.example/both.iso|"},
				{"/pub/at.iso", de, "302|http://at.example/at.iso|"},
				{"/pub/nobody.iso", de, "302|http://origin.example/nobody.iso|"},
				{"/pub/new.iso", de + proto, "302|https://origin.example/new.iso|"},
				{"/pub/../pub/%62oth.iso", de, "302|http://de.example/both.iso|"},
				{"/pub/both.iso.meta4", de, "200||"},
				{"/pub/both.iso?why=json", de, "200||"},
				{"/pub/x%00", de, "400||bad_path"},
				{"/other/both.iso", de, outside},
				{repo, de, list},
				{"/pub/metalink", de, "302|http://origin.example/metalink|"}, // a file of this name
			} {
				var body string
				for i, line := range []string{"GET %s HTTP/1.1", "GET %s HTTP/1.0", "HEAD %s HTTP/1.1"} {
					line = fmt.Sprintf(line, c.target)
					resp := w.send(1, line+"\r\nHost: d\r\n"+c.fields+"\r\n")[0]
					text, _ := io.ReadAll(resp.Body)
					got := fmt.Sprintf("%d|%s|%s", resp.StatusCode, resp.Header.Get("Location"), resp.Header.Get("Freshet-Reason"))
					if got != c.want || resp.Header.Get("Date") == "" {
						t.Errorf("%s %s: %s, want %s", line, c.fields, got, c.want)
					}
					switch {
					case i == 0:
						body = string(text)
					case i == 1 && string(text) != body && !strings.Contains(body, "<published>"):
						t.Errorf("%s: %q, want %q", line, text, body)
					}
				}
			}
		})
	}
}

// What the fields of an answer are does not depend on who writes them.
func TestFileFields(t *testing.T) {
	w := startFleet(t, false)
	var all [2]http.Header
	for i, version := range []string{"1.1", "1.0"} {
		all[i] = w.send(1, "GET /pub/both.iso HTTP/"+version+"\r\nHost: d\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")[0].Header
		all[i].Del("Date")
		all[i].Del("Connection")
	}
	if fmt.Sprint(all[0]) != fmt.Sprint(all[1]) || len(all[0]["Link"]) != 4 {
		t.Errorf("%v\n%v", all[0], all[1])
	}
	for method, want := range map[string]int{"POST": 405, "DELETE": 405, "OPTIONS": 204} {
		resp := w.send(1, method+" /pub/both.iso HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")[0]
		if resp.StatusCode != want || resp.Header.Get("Allow") == "" {
			t.Errorf("%s: %d %v", method, resp.StatusCode, resp.Header)
		}
	}
}

// Pages are for people: one for each path, and those of the network.
func TestFilePages(t *testing.T) {
	w := startFleet(t, false)
	for target, want := range map[string]string{
		"/pub/de.iso?why": "Not used for this request", "/pub/?mirrorlist": "No mirror", "/pub/both.iso?mirrorlist": "Mirrors, the best first", "/-/": "Network",
	} {
		resp := w.send(1, "GET "+target+" HTTP/1.1\r\nHost: d\r\nAccept: text/html\r\n\r\n")[0]
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) || resp.Header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %v\n%s", target, resp.StatusCode, resp.Header, body)
		}
	}
}

// What is given to mirrors is counted and told in records.
func TestFileRecords(t *testing.T) {
	w := startFleet(t, false)
	w.get("/pub/both.iso")
	w.get("/pub/both.iso")
	w.get("/pub/nobody.iso")
	for name, want := range map[string]float64{"freshet_director_mirror_redirects_total": 2, "freshet_director_mirror_redirected_bytes_total": 16} {
		if got := w.metric(name, "de"); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for outcome, want := range map[string]float64{"mirror": 2, "origin": 1, "refused": 0} {
		if got := w.metric("freshet_director_file_answers_total", outcome); got != want {
			t.Errorf("%s: %v, want %v", outcome, got, want)
		}
	}
	w.end() // all records are written
	if log := w.log.String(); strings.Count(log, "outcome=mirror best=country mirror=de") != 2 || !strings.Contains(log, "outcome=origin best=origin") {
		t.Errorf("%s", log)
	}
}

// A catalogue that changes is what is answered by from then on, and whoever may not change
// it cannot.
func TestFileAPI(t *testing.T) {
	mux := http.NewServeMux()
	w := start(t, func(c *director.Config) {
		dir := t.TempDir()
		c.Snapshot, c.State, c.NoProbes, c.NoScans = "", filepath.Join(dir, "state"), true, true
		c.Control.Clients = map[string]orders.ClientConfig{"me": {Token: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("secret")))}}
	}, mux)
	admin := httptest.NewServer(mux)
	defer admin.Close()
	text, err := json.Marshal(directorapi.Project{
		Name: "pub", Path: "/pub/", Origins: []string{"http://origin.example/"}, Inventory: directorapi.Source{How: directorapi.HowManifest},
	})
	if err != nil {
		t.Fatal(err)
	}
	put := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, admin.URL+directorapi.ItemPath(directorapi.Projects, "pub"), strings.NewReader(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		return resp.StatusCode
	}
	if status := put("guess"); status != http.StatusUnauthorized {
		t.Errorf("with a wrong token: %d", status)
	}
	if status, _ := w.get("/pub/x"); status != http.StatusNotFound {
		t.Errorf("before: %d", status)
	}
	if status := put("secret"); status != http.StatusOK && status != http.StatusCreated {
		t.Fatalf("with the token: %d", status)
	}
	for range 3000 { // until it is put together
		if status, _ := w.get("/pub/x"); status == http.StatusFound {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the new project is not answered for")
}

// A damaged inventory is put aside, and found out anew; meanwhile origins have all. What
// was being written when the process was killed is removed.
func TestDamagedInventory(t *testing.T) {
	var dir string
	w := start(t, func(c *director.Config) {
		dir = t.TempDir()
		fleetState(t, dir)
		for _, name := range []string{"inventory", durable.TempPrefix + "left"} {
			if err := os.WriteFile(filepath.Join(dir, "state", name), []byte("nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		c.Snapshot, c.State, c.Catalogue, c.NoProbes, c.NoScans = "", filepath.Join(dir, "state"), filepath.Join(dir, "catalogue.json"), true, true
	})
	resp := w.send(1, "GET /pub/both.iso HTTP/1.1\r\nHost: d\r\n\r\n")[0]
	if to := resp.Header.Get("Location"); to != "http://origin.example/both.iso" {
		t.Errorf("%d %s", resp.StatusCode, to)
	}
	if _, err := os.Stat(filepath.Join(dir, "state/inventory.damaged")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "state", durable.TempPrefix+"left")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was left of before: %v", err)
	}
}

// A state folder belongs to one director.
func TestOneDirectorAState(t *testing.T) {
	w := startFleet(t, false)
	other := w.cfg
	other.Listen = "mem:other"
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := director.Run(ctx, other, envOf(t)); err == nil || !strings.Contains(err.Error(), other.State) {
		t.Errorf("%v", err)
	}
}

// Every client is sent to somebody who has the file, whoever asks for whatever.
func TestNobodyIsSentAstray(t *testing.T) {
	w := startFleet(t, false)
	has := map[string][]string{"both": {"de", "at", "origin"}, "de": {"de", "origin"}, "at": {"at", "origin"}, "nobody": {"origin"}}
	for name, places := range has {
		for i := range byte(50) {
			client := netip.AddrFrom4([4]byte{192, 0, 2 + i%3, i})
			resp := w.send(1, fmt.Sprintf("GET /pub/%s.iso HTTP/1.1\r\nHost: d\r\nX-Forwarded-For: %s\r\n\r\n", name, client))[0]
			to := resp.Header.Get("Location")
			if !slices.ContainsFunc(places, func(p string) bool { return to == "http://"+p+".example/"+name+".iso" }) {
				t.Errorf("%s for %s: %d %s", name, client, resp.StatusCode, to)
			}
		}
	}
}
