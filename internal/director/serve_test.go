package director_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"freshet/internal/director"
	"freshet/internal/director/directortest"
	"freshet/internal/doors"
)

// What the loop answers and what the general server answers is the same, for whatever
// kind of request.
func TestAnswersAreTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		for _, c := range []struct {
			target string
			status int
			fields string // Content-Type, Location, Freshet-Reason
		}{
			{repo, 200, "text/plain||"},
			{"/metalink?repo=r-1&arch=x86_64", 200, "application/metalink+xml||"},
			{"/x/y/mirrorlist?path=pub/r/a.iso&redirect", 302, "text/plain|http://a.de/pub/r/a.iso|"},
			{"/mirrorlist?path=pub/r/a.iso&redirect&protocol=rsync&country=at&protocol=x", 302, "text/plain|https://b.at/p/r/a.iso|"},
			{"/mirrorlist", 200, "||missing_parameter"},
			{"/", 404, "||unknown_endpoint"},
			{"/mirrorlist?repo=r-2&arch=x86_64", 404, "||unknown_repo"},
			{"/metalink?repo=r-2&arch=x86_64", 404, "application/metalink+xml||unknown_repo"},
			{repo + "&ip=x", 500, "||bad_client_address"},
		} {
			const from = "Host: d\r\nX-Forwarded-For: 192.0.2.7\r\n"
			var body string // of the first, which the loop answers
			for i, request := range []string{
				"GET " + c.target + " HTTP/1.1\r\n" + from + "\r\n",
				"GET " + c.target + " HTTP/1.0\r\n" + from + "\r\n",
				"GET http://d" + c.target + " HTTP/1.1\r\n" + from + "\r\n",
				"POST " + c.target + " HTTP/1.1\r\n" + from + "Content-Length: 3\r\n\r\nabc",
				"HEAD " + c.target + " HTTP/1.1\r\n" + from + "\r\n",
				"HEAD " + c.target + " HTTP/1.1\r\n" + from + "Expect: 100-continue\r\n\r\n", // not for the loop
			} {
				resp := w.send(1, request)[0]
				h := resp.Header
				fields := strings.Join([]string{h.Get("Content-Type"), h.Get("Location"), h.Get("Freshet-Reason")}, "|")
				if resp.StatusCode != c.status || fields != c.fields || h.Get("Content-Length") == "" || h.Get("Date") == "" {
					t.Errorf("%q: %d %v, want %d %s", request, resp.StatusCode, h, c.status, c.fields)
				}
				b, _ := io.ReadAll(resp.Body)
				switch {
				case i == 0:
					body = string(b)
				case strings.HasPrefix(request, "HEAD"):
					if len(b) > 0 || resp.ContentLength != int64(len(body)) {
						t.Errorf("%q: %d of %d bytes, want none of %d", request, len(b), resp.ContentLength, len(body))
					}
				case string(b) != body:
					t.Errorf("%q:\n%s\nwant\n%s", request, b, body)
				}
			}
		}
	})
}

// Requests in one piece are answered one after the other; what is no request is refused.
func TestConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		one := "GET " + repo + " HTTP/1.1\r\nHost: d\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
		for i, resp := range w.send(3, one+one+one) {
			if resp.StatusCode != http.StatusOK {
				t.Errorf("answer %d: %d", i, resp.StatusCode)
			}
		}
		if resp := w.send(1, "GET "+repo+" HTTP/1.1\r\nHost: d\r\nX-Forwarded-For : 192.0.2.7\r\n\r\n")[0]; resp.StatusCode != http.StatusBadRequest {
			t.Errorf("a field with a space before the colon: %d", resp.StatusCode)
		}
		// Bytes that are no ASCII do not end the connection unanswered.
		if resp := w.send(1, "GET "+repo+" HTTP/1.1\r\nHost: d\r\nX-Forwarded-For: \xff\r\n\r\n")[0]; resp.StatusCode != http.StatusInternalServerError {
			t.Errorf("an address that is none: %d", resp.StatusCode)
		}
	})
}

// Each request for a repository is a line for the statistics, whoever answered it. The
// file may be moved away: at SIGHUP there is a new one.
func TestRequestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "mirrorlist.log")
		w := start(t, func(c *director.Config) { c.RequestLog = file })
		read := func(name string) string {
			time.Sleep(time.Second)
			synctest.Wait()
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			return string(b)
		}
		w.get(repo)
		w.send(1, "GET "+repo+"&ip=10.1.2.3 HTTP/1.0\r\n\r\n")
		w.get("/mirrorlist?path=pub/r")
		w.get("/mirrorlist?repo=none&arch=x86_64")
		date := "; DATE: " + time.Now().UTC().Format(time.DateOnly)
		want := "IP: 192.0.2.7" + date + "; COUNTRY: DE; REPO: r-1; ARCH: x86_64\n" +
			"IP: 10.1.2.3" + date + "; COUNTRY: N/A; REPO: r-1; ARCH: x86_64\n"
		got := strings.SplitAfter(read(file), "\n")
		if len(got) != 3 || strings.Join(got, "") != want && got[1]+got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
		if err := os.Rename(file, file+".1"); err != nil {
			t.Fatal(err)
		}
		w.reloads <- w.cfg
		synctest.Wait()
		time.Sleep(time.Second)
		w.get(repo)
		if got := read(file); got != "IP: 192.0.2.7"+date+"; COUNTRY: DE; REPO: r-1; ARCH: x86_64\n" {
			t.Errorf("the new file: %q", got)
		}
	})
}

// What is seen of requests: their records, and the metrics.
func TestRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := start(t, nil)
		w.get(repo)
		w.get(repo + "&ip=10.1.2.3")
		w.get("/mirrorlist?repo=none&arch=x86_64")
		w.send(1, "GET "+repo+"&country=at HTTP/1.0\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n")
		synctest.Wait()
		for _, want := range []string{
			"path=/mirrorlist status=200 bytes=91", "country=DE best=country", `country=- best=netblock`, "reason=unknown_repo",
			"client=192.0.2.0", "country=AT best=request", "client=198.51.100.0",
		} {
			if !strings.Contains(w.log.String(), want) {
				t.Errorf("no record has %s:\n%s", want, w.log.String())
			}
		}
		for best, want := range map[string]float64{"country": 1, "netblock": 1, "none": 1, "request": 1, "global": 0} {
			if got := w.metric("freshet_director_answers_total", best); got != want {
				t.Errorf("%v answers by %s, want %v", got, best, want)
			}
		}
		if got := w.metric("freshet_http_requests_total", "404", "unknown_repo"); got != 1 {
			t.Errorf("%v failures", got)
		}
		if got := w.metric("freshet_director_snapshot_timestamp_seconds"); got != 1700000000 {
			t.Errorf("the snapshot is of %v", got)
		}
	})
}

// What cannot be used at the start is an error that names the file, and all of them.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	directortest.Network{}.Write(t, dir)
	cfg := config(dir)
	cfg.Listen = "127.0.0.1:0"
	cfg.GeoIP = filepath.Join(dir, "none.mmdb")
	cfg.Netblocks = cfg.Continents
	err := director.Run(t.Context(), cfg, envOf(t))
	if err == nil || !strings.Contains(err.Error(), "geoip: read "+cfg.GeoIP+": stat: no such file") ||
		!strings.Contains(err.Error(), "netblocks: read "+cfg.Netblocks+": it has no netblock of IPv4") {
		t.Errorf("%v", err)
	}
	for _, c := range []director.Config{{}, {Snapshot: "s", Listeners: doors.Listeners{Listen: "x"}}, {Snapshot: "s", Prefer: "ftp"}, {Snapshot: "s", Minimum: -2}, {Snapshot: "s", CheckEvery: 1}} {
		if len(c.Validate()) == 0 {
			t.Errorf("%+v is right", c)
		}
	}
}
