package edge

import (
	"bufio"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"freshet/internal/certs"
	"freshet/internal/certs/certstest"
	"freshet/internal/doors"
	"freshet/internal/edge/gate"
	"freshet/internal/peertest"
)

// pebble builds Let's Encrypt's test authority, of which tools/go.mod knows.
func pebble(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "pebble")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-modfile=../../tools/go.mod", "-o", bin, "github.com/letsencrypt/pebble/v2/cmd/pebble").CombinedOutput(); err != nil {
		t.Logf("build pebble: %v\n%s", err, out)
		peertest.Missing(t, "pebble")
	}
	return bin
}

// nameserver answers every question about an address with 127.0.0.1.
func nameserver(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // pebble asks by TCP
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go answerNames(conn)
		}
	}()
	return ln.Addr().String()
}

// answerNames answers the questions of one connection (RFC 1035 §4.2.2).
func answerNames(conn net.Conn) {
	defer conn.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		buf := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(conn, buf); err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf) != nil || len(m.Questions) != 1 {
			return
		}
		q := m.Questions[0]
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if q.Type == dnsmessage.TypeA {
			m.Answers = []dnsmessage.Resource{{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}},
			}}
		}
		b, err := m.Pack()
		if err != nil {
			return
		}
		if _, err := conn.Write(binary.BigEndian.AppendUint16(nil, uint16(len(b)))); err != nil {
			return
		}
		if _, err := conn.Write(b); err != nil {
			return
		}
	}
}

// startPebble runs the authority, which looks for our names at the two ports,
// and returns its directory, the roots of its own TLS, and those of what it
// gives out.
func startPebble(t *testing.T, httpPort, tlsPort int) (directory, caFile string, roots *x509.CertPool) {
	t.Helper()
	bin := pebble(t)
	dir := t.TempDir()
	pair, own := certstest.Pair(t, dir, 7, "localhost")
	listen, manage := peertest.FreeAddr(t), peertest.FreeAddr(t)
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": pair.Cert, "privateKey": pair.Key,
		"httpPort": httpPort, "tlsPort": tlsPort,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "-config", file, "-dnsserver", nameserver(t))
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	scan := bufio.NewScanner(out)
	var said []string
	for scan.Scan() {
		said = append(said, scan.Text())
		if strings.Contains(scan.Text(), "ACME directory available") {
			go func() {
				for scan.Scan() { // it must not wait for us
				}
			}()
			awaitDial(t, listen)
			awaitDial(t, manage)
			_, port, _ := net.SplitHostPort(listen)
			_, managePort, _ := net.SplitHostPort(manage)
			return "https://localhost:" + port + "/dir", pair.Cert, rootsOf(t, own, "https://localhost:"+managePort+"/roots/0")
		}
	}
	t.Fatalf("pebble ended: %v", said)
	return "", "", nil
}

// awaitDial waits until somebody listens.
func awaitDial(t *testing.T, addr string) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func rootsOf(t *testing.T, own *x509.CertPool, url string) *x509.CertPool {
	t.Helper()
	f := &facade{t: t, roots: own}
	addr := strings.TrimSuffix(strings.TrimPrefix(url, "https://localhost"), "/roots/0")
	_, body := f.get(f.client("http/1.1", "127.0.0.1"+addr), url)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(body)) {
		t.Fatalf("no root in %q", body)
	}
	return pool
}

// An edge gets its certificates by itself, by either challenge, also while all
// else is sent to HTTPS; it asks for the names that are configured alone, keeps
// what it got where others cannot read it, and uses it at the next start.
func TestACME(t *testing.T) {
	if testing.Short() {
		t.Skip("builds an authority")
	}
	for _, challenge := range []string{"http-01", "tls-alpn-01"} {
		t.Run(challenge, func(t *testing.T) {
			var listeners []net.Listener
			for range 2 {
				ln, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				listeners = append(listeners, ln)
			}
			clear, secure := listeners[0].Addr().(*net.TCPAddr).Port, listeners[1].Addr().(*net.TCPAddr).Port
			httpPort, tlsPort := clear, 1 // nothing is there
			if challenge == "tls-alpn-01" {
				httpPort, tlsPort = 1, secure
			}
			directory, caFile, roots := startPebble(t, httpPort, tlsPort)
			dir := filepath.Join(t.TempDir(), "acme")
			cfg := Config{
				Listeners: doors.Listeners{
					ListenTLS: "127.0.0.1:0",
					TLS:       certs.Config{ACME: certs.ACME{Dir: dir, Directory: directory, CAFile: caFile, Email: "op@dl.example", Hosts: []string{"dl.example"}}},
				},
				Gate: gate.Config{RedirectHTTPS: true},
			}
			f := newFacade(t, cfg, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "hello") }, listeners...)
			f.roots = roots
			serial := f.awaitTLS("dl.example")
			if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("the folder of the keys: %v, %v", info.Mode(), err)
			}
			if resp, err := f.client("http/1.1", f.secure).Get("https://other.example/"); err == nil {
				_ = resp.Body.Close()
				t.Error("a name that is not configured has a certificate")
			}
			again := newFacade(t, cfg, func(http.ResponseWriter, *http.Request) {})
			again.roots = roots
			if got := again.awaitTLS("dl.example"); got != serial {
				t.Errorf("after a start there is another certificate: %s, was %s", got, serial)
			}
		})
	}
}

// awaitTLS asks by HTTPS until there is a certificate, and returns its serial.
func (f *facade) awaitTLS(host string) string {
	f.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		resp, err := f.client("h2", f.secure).Get("https://" + host + "/x.rpm")
		if err == nil {
			_ = resp.Body.Close()
			return resp.TLS.PeerCertificates[0].SerialNumber.String()
		}
		if time.Now().After(deadline) {
			f.t.Fatalf("no certificate: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
