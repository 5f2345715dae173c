package probe

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"freshet/api/directorapi"
)

// bound is within which time a way is out that has stopped working.
const bound = 2 * time.Minute

// silentConn accepts a connection, and neither reads nor writes.
func silentConn(c net.Conn, end <-chan struct{}) {
	<-end
	_ = c.Close()
}

// trickle sends a byte of the answer now and then, but sooner than one would think that
// it is silent.
func trickle(rw http.ResponseWriter, r *http.Request, file string) {
	rw.Header().Set("Content-Length", strconv.Itoa(len(file)))
	for i := range file {
		if _, err := io.WriteString(rw, file[i:i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(rw).Flush()
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
			return
		}
	}
}

// everyOther lies every other time on each way.
func everyOther(l lie) lie {
	return lie{each: func() lie {
		var n atomic.Int64
		return lie{answer: func(rw http.ResponseWriter, r *http.Request, file string) {
			if n.Add(1)%2 == 0 {
				serveFile(rw, r, file)
				return
			}
			l.answer(rw, r, file)
		}}
	}}
}

const loginPage = "<!DOCTYPE html><html><head><title>Log in</title></head><body>Please log in.</body></html>"

// What mirrors do wrong, and what it is called. The certificate is a matter of its own.
func lies() map[string]struct {
	lie
	why Reason
} {
	answer := func(f func(rw http.ResponseWriter, r *http.Request, file string)) lie { return lie{answer: f} }
	status := func(code int) lie {
		return answer(func(rw http.ResponseWriter, _ *http.Request, _ string) { rw.WriteHeader(code) })
	}
	hang := answer(func(_ http.ResponseWriter, r *http.Request, _ string) { <-r.Context().Done() })
	wrong := answer(func(rw http.ResponseWriter, r *http.Request, file string) {
		serveFile(rw, r, strings.Replace(file, "c", "C", 1))
	})
	return map[string]struct {
		lie
		why Reason
	}{
		"refuses connections":    {lie{dial: refuse}, Refused},
		"is not there":           {lie{dial: blackHole}, Unreachable},
		"accepts, and is silent": {lie{conn: silentConn}, Frozen},
		"reads, and is silent":   {lie{conn: func(c net.Conn, _ <-chan struct{}) { _, _ = io.Copy(io.Discard, c); _ = c.Close() }}, Frozen},
		"closes connections":     {lie{conn: func(c net.Conn, _ <-chan struct{}) { _ = c.Close() }}, Cut},
		"does not answer":        {hang, Frozen},
		"freezes in the body": {answer(func(rw http.ResponseWriter, r *http.Request, file string) {
			rw.Header().Set("Content-Length", strconv.Itoa(len(file)))
			_, _ = io.WriteString(rw, file[:100])
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done()
		}), Frozen},
		"sends a byte now and then": {answer(trickle), Slow},
		"cuts the body": {answer(func(rw http.ResponseWriter, _ *http.Request, file string) {
			rw.Header().Set("Content-Length", strconv.Itoa(len(file)))
			_, _ = io.WriteString(rw, file[:100])
			panic(http.ErrAbortHandler)
		}), Cut},
		"says a wrong length":  {answer(func(rw http.ResponseWriter, r *http.Request, file string) { serveFile(rw, r, file+"more") }), WrongLength},
		"sends a shorter file": {answer(func(rw http.ResponseWriter, r *http.Request, file string) { serveFile(rw, r, file[1:]) }), WrongLength},
		"sends a shorter stream": {answer(func(rw http.ResponseWriter, _ *http.Request, file string) {
			_ = http.NewResponseController(rw).Flush()
			_, _ = io.WriteString(rw, file[1:])
		}), WrongLength},
		"sends other bytes":             {wrong, WrongContent},
		"sends an empty file":           {answer(func(rw http.ResponseWriter, r *http.Request, _ string) { serveFile(rw, r, "") }), WrongLength},
		"has lost everything":           {status(http.StatusNotFound), Missing},
		"wants a password":              {status(http.StatusUnauthorized), Denied},
		"forbids":                       {status(http.StatusForbidden), Denied},
		"has trouble":                   {status(http.StatusServiceUnavailable), BadStatus},
		"sends nothing with status 204": {status(http.StatusNoContent), BadStatus},
		"redirects to a log-in page elsewhere": {answer(func(rw http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(rw, r, "https://login.test/?back="+r.URL.Path, http.StatusFound)
		}), Redirected},
		"redirects to its own log-in page": {answer(func(rw http.ResponseWriter, r *http.Request, _ string) {
			if r.URL.Path != "/login" {
				http.Redirect(rw, r, "/login", http.StatusSeeOther)
				return
			}
			_, _ = io.WriteString(rw, loginPage)
		}), Page},
		"redirects in circles": {answer(func(rw http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(rw, r, r.URL.Path, http.StatusFound)
		}), Redirected},
		"sends a log-in page": {answer(func(rw http.ResponseWriter, _ *http.Request, _ string) {
			rw.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = io.WriteString(rw, loginPage)
		}), Page},
		"sends a page as bytes": {answer(func(rw http.ResponseWriter, _ *http.Request, _ string) {
			rw.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.WriteString(rw, loginPage)
		}), Page},
		"sends other bytes every other time": {everyOther(wrong), Unsteady},
		"freezes every other time":           {everyOther(hang), Unsteady},
	}
}

// Whatever a mirror does wrong, it is out on every way within the bound, with the word
// for it, and comes back when it does right and was scanned since.
func TestLies(t *testing.T) {
	t.Parallel()
	for name, c := range lies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, []string{"liar", "honest"}, func(t *testing.T, w *world) {
				w.run()
				w.waitUntil("liar", true, 10*time.Second)
				w.scan("liar")
				w.pass(time.Minute)
				began := time.Now()
				w.hosts["liar"].lie(c.lie)
				took := w.waitUntil("liar", false, bound)
				t.Logf("out after %v", took)
				for _, way := range allWays() {
					way.Mirror, way.Project = "liar", "p"
					changes := w.prober.History(way)
					last := changes[len(changes)-1]
					h, _ := w.prober.State().Health(way)
					if last.Works || last.Why != c.why || last.At.Before(began) || last.At != h.Since || last.Detail == "" {
						t.Errorf("%v: %+v, want %q", way, last, c.why)
					}
				}
				w.hosts["liar"].lie(lie{})
				w.pass(3 * time.Minute)
				for _, way := range allWays() {
					if ok, why := w.usable("liar", way); ok || why != AwaitsInventory {
						t.Errorf("%v: usable %v, %q without a new scan", way, ok, why)
					}
				}
				if len(w.hastened) == 0 {
					t.Error("no scan is asked for")
				}
				w.scan("liar")
				t.Logf("back after %v", w.waitUntil("liar", true, 15*time.Second))
				w.waitUntil("honest", true, 0)
			})
		})
	}
}

// A certificate that is no good takes https away, and nothing else.
func TestCertificates(t *testing.T) {
	t.Parallel()
	for name, why := range map[string]Reason{
		"expired": CertificateExpired, "other": CertificateName, "untrusted": CertificateUntrusted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
				w.run()
				w.waitUntil("m", true, 10*time.Second)
				h := w.hosts["m"]
				cert := w.ca.leaf(t, "m.test", time.Now().AddDate(0, 0, -1))
				switch name {
				case "other":
					cert = w.ca.leaf(t, "n.test", time.Now().AddDate(0, 1, 0))
				case "untrusted":
					cert = newAuthority(t).leaf(t, "m.test", time.Now().AddDate(0, 1, 0))
				}
				h.mu.Lock()
				h.cert = cert
				h.mu.Unlock()
				w.waitUntil("m", false, bound, Way{Scheme: HTTPS, Family: IPv4}, Way{Scheme: HTTPS, Family: IPv6})
				w.waitUntil("m", true, 0, Way{Scheme: HTTP, Family: IPv4}, Way{Scheme: HTTP, Family: IPv6})
				if _, got := w.usable("m", Way{Scheme: HTTPS}); got != why {
					t.Errorf("%q, want %q", got, why)
				}
			})
		})
	}
}

// A mirror that is out of reach over one family is out there only.
func TestDeadFamily(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m", "n"}, func(_ *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.hosts["m"].lie(lie{dial: blackHole}, "http ipv6", "https ipv6")
		w.waitUntil("m", false, bound, Way{Scheme: HTTP, Family: IPv6}, Way{Scheme: HTTPS, Family: IPv6})
		w.pass(time.Hour)
		w.waitUntil("m", true, 0, Way{Scheme: HTTP, Family: IPv4}, Way{Scheme: HTTPS, Family: IPv4})
		w.waitUntil("n", true, 0)
	})
}

// When the director itself reaches nobody, nobody is out for it, and nobody needs a scan
// to be used when that is over.
func TestOwnNetworkDown(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m", "n"}, func(_ *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.waitUntil("n", true, 10*time.Second)
		w.silence(IPv4, true)
		w.silence(IPv6, true)
		for range 60 {
			w.pass(time.Minute)
			w.waitUntil("m", true, 0)
			w.waitUntil("n", true, 0)
		}
		w.silence(IPv4, false)
		w.silence(IPv6, false)
		for range 60 {
			w.pass(time.Second)
			w.waitUntil("m", true, 0)
			w.waitUntil("n", true, 0)
		}
	})
}

// When nobody is reached over IPv6, clients of IPv6 are sent where those of IPv4 are.
func TestBlindOverIPv6(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m", "n", "old"}, func(t *testing.T, w *world) {
		delete(w.hosts["old"].addresses, IPv6)
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.silence(IPv6, true)
		w.hosts["n"].lie(lie{dial: refuse}, "http ipv4", "https ipv4")
		w.pass(5 * time.Minute)
		s := w.prober.State()
		if !s.Blind(IPv6) || s.Blind(IPv4) {
			t.Errorf("blind over IPv4 %v, over IPv6 %v", s.Blind(IPv4), s.Blind(IPv6))
		}
		w.waitUntil("m", true, 0)
		w.waitUntil("n", false, 0)
		w.waitUntil("old", false, 0, Way{Family: IPv6})
		if _, why := w.usable("old", Way{Family: IPv6}); why != NoAddress {
			t.Errorf("a mirror without an address: %q", why)
		}
		w.waitUntil("old", true, 0, Way{Family: IPv4})
	})
}

// A mirror that is new, or was enabled, is used from its first good look on.
func TestCatalogueChanges(t *testing.T) {
	t.Parallel()
	inWorld(t, []string{"m"}, func(t *testing.T, w *world) {
		w.run()
		w.waitUntil("m", true, 10*time.Second)
		w.mu.Lock()
		w.addHost("n")
		w.mu.Unlock()
		w.edit(func(c *directorapi.Catalogue) { c.Mirrors = append(c.Mirrors, carrying("n")) })
		w.waitUntil("n", true, 10*time.Second)
		w.waitUntil("m", true, 0)
		w.edit(func(c *directorapi.Catalogue) { c.Mirrors[0].Disabled = true })
		w.waitUntil("m", false, 0)
		looks := w.hosts["m"].looked()
		w.pass(time.Hour)
		if w.hosts["m"].looked() != looks {
			t.Error("a disabled mirror is looked at")
		}
		for way := range w.prober.State().All() {
			if way.Mirror == "m" {
				t.Errorf("%v is still told of", way)
			}
		}
		w.edit(func(c *directorapi.Catalogue) { c.Mirrors = c.Mirrors[1:] })
		w.edit(func(c *directorapi.Catalogue) { c.Projects[0].Canary = "elsewhere.bin" })
		w.waitUntil("n", false, bound)
		if _, why := w.usable("n", Way{}); why != Missing {
			t.Errorf("with another canary: %q", why)
		}
	})
}

// The origins are looked at like mirrors, and over which it works is told.
func TestOrigins(t *testing.T) {
	t.Parallel()
	inWorld(t, nil, func(_ *testing.T, w *world) {
		w.edit(func(c *directorapi.Catalogue) { c.Projects[0].Canary = "" })
		w.run()
		w.waitUntil(Origin(0), true, 10*time.Second, Way{}, Way{Family: IPv6})
		w.hosts["origin"].lie(lie{dial: refuse})
		w.waitUntil(Origin(0), false, bound, Way{}, Way{Family: IPv6})
		w.hosts["origin"].lie(lie{})
		w.waitUntil(Origin(0), true, bound, Way{}, Way{Family: IPv6})
	})
}
