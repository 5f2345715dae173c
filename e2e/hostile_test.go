package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// victim is an edge in front of an origin that notes what it is asked.
type victim struct {
	*edgeServer
	t     *testing.T
	addr  string
	mu    sync.Mutex
	asked []string
}

func newVictim(t *testing.T, flags ...string) *victim {
	t.Helper()
	v := &victim{t: t, addr: freeAddr(t)}
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		v.mu.Lock()
		v.asked = append(v.asked, fmt.Sprintf("%s %s %q", r.Method, r.RequestURI, body))
		v.mu.Unlock()
		w.Header().Set("Cache-Control", "max-age=60")
		_, _ = fmt.Fprintf(w, "this is %s%s%s", r.URL.Path, r.Header.Get("X-Forwarded-Host"), r.Header.Get("X-Original-Url"))
	}))
	t.Cleanup(origin.Close)
	v.edgeServer = startEdge(t, t.TempDir(), v.addr, origin.URL, append([]string{"--follow", "off", "--log-level", "error"}, flags...)...)
	return v
}

// send sends bytes as they are, of which some demand the end of the connection,
// and returns the statuses of all answers until then.
func (v *victim) send(raw string) (statuses []int, last string) {
	v.t.Helper()
	conn, err := net.Dial("tcp", v.addr)
	if err != nil {
		v.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	go func() { _, _ = io.WriteString(conn, raw) }()
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses, last
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return statuses, last
		}
		statuses, last = append(statuses, resp.StatusCode), string(body)
		if resp.Close {
			return statuses, last
		}
	}
}

// metric is a sample of the edge's metrics; those not there are 0.
func (v *victim) metric(sample string) float64 {
	v.t.Helper()
	text := string(get(v.t, "http://"+v.admin+"/metrics", 200))
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(sample) + ` ([0-9.e+]+)$`).FindStringSubmatch(text)
	if m == nil {
		return 0
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

// well fails unless an ordinary request is answered as it should be.
func (v *victim) well() {
	v.t.Helper()
	if body := get(v.t, v.url+"/well", 200); string(body) != "this is /well" {
		v.t.Errorf("afterwards an ordinary request gets %q", body)
	}
}

// Requests whose end two servers could see at different places are refused, and
// nothing of what follows them is taken for a request.
func TestHostileFraming(t *testing.T) {
	parallel(t)
	v := newVictim(t)
	const next = "GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n"
	closing := "Host: a\r\nConnection: close\r\n"
	for name, c := range map[string]struct {
		raw    string
		status int // of the one answer; 0: none but refusals
	}{
		"CL and TE":                {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next, 400},
		"two CL":                   {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" + next, 400},
		"CL list":                  {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 5\r\n\r\nabcd" + next, 400},
		"CL with sign":             {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd" + next, 400},
		"TE unknown":               {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n" + next, 400},
		"TE twice":                 {"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + next, 400},
		"bare LF":                  {"GET /x HTTP/1.1\nHost: a\n\n" + next, 400},
		"space before colon":       {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd" + next, 400},
		"folded":                   {"GET /x HTTP/1.1\r\nHost: a\r\nX: 1\r\n Transfer-Encoding: chunked\r\n" + closing[9:] + "\r\n", 400},
		"no host":                  {"GET /x HTTP/1.1\r\n\r\n" + next, 400},
		"two hosts":                {"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + next, 400},
		"bad name":                 {"GET /x HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n" + next, 400},
		"NUL in a value":           {"GET /x HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n" + next, 400},
		"CR in a value":            {"GET /x HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n" + next, 400},
		"header of a megabyte":     {"GET /x HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 1<<20) + "\r\n\r\n" + next, 431},
		"thousands of fields":      {"GET /x HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("X: y\r\n", 20000) + "\r\n" + next, 431},
		"target of a megabyte":     {"GET /" + strings.Repeat("y", 1<<20) + " HTTP/1.1\r\nHost: a\r\n\r\n" + next, 431},
		"CONNECT":                  {"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\nConnection: close\r\n\r\n", 400},
		"climbing":                 {"GET /a/%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\n" + closing + "\r\n", 400},
		"climbing, encoded slash":  {"GET /a/..%2fetc HTTP/1.1\r\n" + closing + "\r\n", 400},
		"PROXY header of anybody":  {"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n" + next, 400},
		"HTTP/2 without agreement": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + next, 400},
	} {
		statuses, _ := v.send(c.raw)
		for _, status := range statuses {
			if status < 400 && c.status != 0 || c.status != 0 && status != c.status {
				t.Errorf("%s: answered %v, want %d", name, statuses, c.status)
			}
		}
		if c.status != 0 && len(statuses) != 1 {
			t.Errorf("%s: answered %v", name, statuses)
		}
	}
	for name, chunks := range map[string]string{
		"negative":          "-1\r\nabc\r\n0\r\n\r\n",
		"no number":         "zz\r\nabc\r\n0\r\n\r\n",
		"0x":                "0x3\r\nabc\r\n0\r\n\r\n",
		"too long":          "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
		"bare LF":           "3\nabc\n0\n\n",
		"no CRLF after it":  "3\r\nabcX0\r\n\r\n",
		"endless extension": "3;" + strings.Repeat("x", 1<<20) + "\r\nabc\r\n0\r\n\r\n",
	} {
		statuses, _ := v.send("POST /chunks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + next)
		if !slices.Equal(statuses, []int{400}) {
			t.Errorf("chunks, %s: answered %v", name, statuses)
		}
	}
	for reason, least := range map[string]float64{"bad_message": 4, "ambiguous_length": 6, "bad_field": 4, "bad_line_end": 3, "bad_chunk": 6, "header_size": 3} {
		if n := v.metric(`freshet_http_rejections_total{reason="` + reason + `",role="edge"}`); n < least {
			t.Errorf("%v refusals were counted as %s, want %v at least", n, reason, least)
		}
	}
	v.mu.Lock()
	for _, asked := range v.asked {
		if strings.Contains(asked, "smuggled") || strings.Contains(asked, "evil") || strings.Contains(asked, "passwd") {
			t.Errorf("the origin was asked %s", asked)
		}
	}
	v.mu.Unlock()
	v.well()
}

// An Upgrade opens no way past the edge, and what a client sends early behind
// it is a request of its own, to the edge.
func TestEarlyUpgrade(t *testing.T) {
	parallel(t)
	v := newVictim(t)
	statuses, last := v.send("GET /up HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" +
		"GET /second HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
	if len(statuses) != 2 || statuses[0] != 200 || !strings.HasPrefix(last, "this is /second") {
		t.Errorf("answered %v, the last %q", statuses, last)
	}
	v.well()
}

// What is no part of the key does not show in what others get.
func TestUnkeyedFields(t *testing.T) {
	parallel(t)
	for _, rules := range []string{"auto", "none"} {
		v := newVictim(t, "--rules", rules)
		for _, field := range []string{"X-Forwarded-Host: evil", "X-Original-URL: /evil", "X-Rewrite-URL: /evil", "X-HTTP-Method-Override: DELETE", "Forwarded: host=evil"} {
			v.send("GET /page HTTP/1.1\r\nHost: " + v.addr + "\r\n" + field + "\r\nConnection: close\r\n\r\n")
			if body := string(get(t, v.url+"/page", 200)); body != "this is /page" {
				t.Errorf("rules %s, %s: others get %q", rules, field, body)
			}
		}
	}
}

// Thousands of clients that never end a header cost nobody else anything, and
// are cut when their time is over.
func TestSlowLoris(t *testing.T) {
	parallel(t)
	clients := 10_000
	if testing.Short() {
		clients = 2000
	}
	var files syscall.Rlimit // the edge's too
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	clients = min(clients, int(min(files.Cur, 1<<20))-500)
	config := t.TempDir() + "/edge.toml"
	writeConfig(t, config, "[edge.limits]\nheader-time = \"5s\"\n")
	v := newVictim(t, "--config", config)
	v.well()
	conns := make([]net.Conn, clients)
	for i := range conns {
		conn, err := net.Dial("tcp", v.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
		_, _ = io.WriteString(conn, "GET /well HTTP/1.1\r\nHost: a\r\nX-Slow: ")
	}
	begun := time.Now()
	for range 20 {
		v.well()
	}
	if took := time.Since(begun); took > promised(5*time.Second) {
		t.Errorf("20 ordinary requests took %v", took)
	}
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("a slow client was not cut: %v", err)
		}
	}
	if n := v.metric(`freshet_http_rejections_total{reason="header_timeout",role="edge"}`); n < float64(clients) {
		t.Errorf("%v were counted, want %d", n, clients)
	}
	v.well()
}

// One more connection than may be open is closed at once and counted; when
// others end there is room again.
func TestConnectionFlood(t *testing.T) {
	parallel(t)
	config := t.TempDir() + "/edge.toml"
	writeConfig(t, config, "[edge.limits]\nconnections = 50\n")
	v := newVictim(t, "--config", config)
	var conns []net.Conn
	for range 50 {
		conn, err := net.Dial("tcp", v.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET /well HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	over, err := net.Dial("tcp", v.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer over.Close()
	_ = over.SetReadDeadline(time.Now().Add(patience))
	if n, err := over.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("one more connection was served")
	}
	if n := v.metric(`freshet_http_rejections_total{reason="conns",role="edge"}`); n != 1 {
		t.Errorf("%v were counted", n)
	}
	for _, conn := range conns {
		_ = conn.Close()
	}
	eventually(t, "room", patience, func() error {
		resp, err := http.Get(v.url + "/well")
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
}

// Handshakes that never end are cut in their time and counted.
func TestHandshakeFlood(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	donor := httptest.NewTLSServer(nil)
	defer donor.Close()
	writePair(t, dir, donor.TLS.Certificates[0])
	config := dir + "/edge.toml"
	writeConfig(t, config, "[edge.limits]\nhandshake-time = \"15s\"\n")
	secure := freeAddr(t)
	v := newVictim(t, "--config", config, "--listen-tls", secure, "--tls-cert", dir+"/cert.pem", "--tls-key", dir+"/key.pem")
	var conns []net.Conn
	for range 300 {
		conn, err := net.Dial("tcp", secure)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	good, err := tls.Dial("tcp", secure, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatalf("a good handshake among idle ones: %v", err)
	}
	_ = good.Close()
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Fatalf("not cut: %v", err)
		}
	}
	if n := v.metric(`freshet_http_rejections_total{reason="tls_timeout",role="edge"}`); n != 300 {
		t.Errorf("%v were counted, want 300", n)
	}
	v.well()
}

func writeConfig(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// writePair writes cert.pem and key.pem.
func writePair(t *testing.T, dir string, cert tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeConfig(t, dir+"/cert.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})))
	writeConfig(t, dir+"/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}

// SIGHUP takes new rules over, and a broken file changes nothing.
func TestReload(t *testing.T) {
	parallel(t)
	config := t.TempDir() + "/edge.toml"
	writeConfig(t, config, "[edge]\n")
	v := newVictim(t, "--config", config)
	status := func() int {
		resp, err := http.Get(v.url + "/well")
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	hangUp := func() {
		if err := v.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	until := func(want int) {
		eventually(t, "the new rules", patience, func() error {
			if got := status(); got != want {
				return fmt.Errorf("status %d, want %d", got, want)
			}
			return nil
		})
	}
	v.well()
	writeConfig(t, config, "[edge]\n[[edge.gate.rules]]\naction = \"deny\"\n")
	hangUp()
	until(http.StatusForbidden)
	writeConfig(t, config, "[edge]\n[[edge.gate.rules]]\naction = \"forbid\"\n")
	hangUp()
	v.waitLine("complaint", func(line string) bool { return strings.Contains(line, "configuration was not read anew") })
	if got := status(); got != http.StatusForbidden {
		t.Errorf("after a broken file: %d", got)
	}
	writeConfig(t, config, "[edge]\n")
	hangUp()
	until(http.StatusOK)
	if n := v.metric(`freshet_edge_requests_total{outcome="error:access_denied"}`); n < 2 {
		t.Errorf("%v refusals were counted", n)
	}
}

// A token that is taken out of the file is of no use after a SIGHUP.
func TestRevokeToken(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	clients := run(t, "edge", "token", "ci", "--out", token)
	config := filepath.Join(dir, "edge.toml")
	writeConfig(t, config, clients)
	v := newVictim(t, "--config", config)
	purge := func() error {
		_, stderr, err := tryRun(t, "edge", "purge", "--admin", v.admin, "--token-file", token, "/well")
		if err != nil {
			err = errors.New(stderr)
		}
		return err
	}
	if err := purge(); err != nil {
		t.Fatal(err)
	}
	writeConfig(t, config, "[edge]\n")
	if err := v.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the token is refused", patience, func() error {
		if err := purge(); err == nil || !strings.Contains(err.Error(), "401") {
			return fmt.Errorf("it works: %w", err)
		}
		return nil
	})
}
