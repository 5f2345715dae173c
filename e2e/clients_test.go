package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"freshet/internal/peertest"
)

// ecosystem is a kind of repository with its own tools and client.
type ecosystem struct {
	name     string
	programs []string
	// publisher prepares to publish into a folder and returns what does it:
	// version n of the package, in place, as a publisher without Freshet would.
	publisher func(t *testing.T, dir string) (publish func(version int) error)
	// The folder also holds key.asc, the publisher's key, and key.gpg, the same
	// in binary.
	//
	// install brings the newest version to the user, over what he has, and
	// returns the text it came with: "version N".
	install func(user *client, repo, keys string) (string, error)
	// payload ends the name of the package's file of a version; "" if its name
	// does not tell.
	payload func(version int) string
}

func ecosystems() []ecosystem {
	return []ecosystem{dnfRepository(), zypperRepository(), aptRepository(), pacmanRepository(), ostreeRepository(), flatpakRepository()}
}

// The real clients through the edge: cold, warm, with the origin gone, with
// the origin dying in the middle of a download, and while its publisher
// rewrites the repository.
func TestClients(t *testing.T) {
	parallel(t)
	for _, eco := range ecosystems() {
		t.Run(eco.name, func(t *testing.T) {
			peertest.Require(t, eco.programs...)
			t.Parallel()
			clientsOf(t, eco)
		})
	}
}

func clientsOf(t *testing.T, eco ecosystem) {
	dir := filepath.Join(t.TempDir(), "origin")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	publish := eco.publisher(t, dir)
	if err := publish(1); err != nil {
		t.Fatal(err)
	}
	donor := httptest.NewTLSServer(nil)
	defer donor.Close()
	pair := t.TempDir()
	writePair(t, pair, donor.TLS.Certificates[0])
	writeCA(t, dir, pair) // for who insists on one
	o := startOrigin(t, dir)
	edge := startEdge(t, filepath.Join(t.TempDir(), "store"), "", o.url(), "--size", "200MB")

	first := newClient(t)
	want := func(user *client, version int, when string) {
		t.Helper()
		got, err := eco.install(user, edge.url, dir)
		if err != nil || got != fmt.Sprintf("version %d", version) {
			t.Fatalf("%s: %q, want version %d; %v", when, got, version, err)
		}
	}
	want(first, 1, "cold")
	fetched := o.asked(eco.payload(1))
	want(newClient(t), 1, "warm")
	if again := o.asked(eco.payload(1)); fetched == 0 || again != fetched {
		t.Errorf("the package was asked for %d times cold, %d times after the warm install", fetched, again)
	}
	o.die()
	want(newClient(t), 1, "without an origin")

	// The origin dies in the middle of the next version.
	<-time.After(tick)
	if err := publish(2); err != nil {
		t.Fatal(err)
	}
	o.start()
	o.dieAfter(payloadSize / 2)
	first.limit = 10 * time.Second // zypper tries again for minutes
	got, err := eco.install(first, edge.url, dir)
	first.limit = 0
	if err == nil && got != "version 1" && got != "version 2" {
		t.Fatalf("while the origin dies: %q", got)
	}
	o.die()
	o.start()
	arrives(t, eco, first, edge, dir, 2)

	// A publish every moment, in place; each install must work.
	ctx, cancel := context.WithCancel(t.Context())
	published := make(chan int, 1)
	go func() {
		version := 2
		for ; ctx.Err() == nil && version < 8; version++ {
			<-time.After(tick)
			if err := publish(version + 1); err != nil {
				t.Error(err)
				break
			}
		}
		published <- version
	}()
	user := newClient(t)
	before := 0
	for range 6 {
		got, err := eco.install(user, edge.url, dir)
		if err != nil {
			t.Errorf("during a publish: %v", err)
			break
		}
		var version int
		if _, err := fmt.Sscanf(got, "version %d", &version); err != nil || version < before {
			t.Errorf("during a publish: %q after version %d", got, before)
		}
		before = version
	}
	cancel()
	arrives(t, eco, user, edge, dir, <-published)
}

// The same by TLS, where ostree and dnf speak HTTP/2.
func TestClientsByTLS(t *testing.T) {
	parallel(t)
	for _, eco := range []ecosystem{dnfRepository(), aptRepository(), ostreeRepository()} {
		t.Run(eco.name, func(t *testing.T) {
			peertest.Require(t, eco.programs...)
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "origin")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			publish := eco.publisher(t, dir)
			if err := publish(1); err != nil {
				t.Fatal(err)
			}
			o := startOrigin(t, dir)
			donor := httptest.NewTLSServer(nil)
			defer donor.Close()
			pair := t.TempDir()
			writePair(t, pair, donor.TLS.Certificates[0])
			writeCA(t, dir, pair)
			secure, log := freeAddr(t), filepath.Join(t.TempDir(), "access.log")
			edge := startEdge(t, filepath.Join(t.TempDir(), "store"), "", o.url(), "--listen-tls", secure,
				"--tls-cert", pair+"/cert.pem", "--tls-key", pair+"/key.pem", "--access-log", log, "--access-format", "json", "--log-level", "info")
			user := newClient(t)
			install := func(when string, version int) {
				t.Helper()
				got, err := eco.install(user, "https://"+secure, dir)
				if err != nil || got != fmt.Sprintf("version %d", version) {
					t.Fatalf("%s: %q, want version %d; %v", when, got, version, err)
				}
			}
			install("cold", 1)
			user = newClient(t)
			install("warm", 1)
			o.die()
			user = newClient(t)
			install("without an origin", 1)
			edge.stop(syscall.SIGTERM)
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if h2 := strings.Contains(string(text), `"proto":"HTTP/2.0"`); h2 != (eco.name != "apt") {
				t.Errorf("by HTTP/2: %v\n%.2000s", h2, text)
			}
		})
	}
}

// writeCA puts the certificate that a client may trust beside the repository.
func writeCA(t *testing.T, dir, pair string) {
	t.Helper()
	cert, err := os.ReadFile(filepath.Join(pair, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), cert, 0o644); err != nil {
		t.Fatal(err)
	}
}

// arrives waits until an install brings the version.
func arrives(t *testing.T, eco ecosystem, user *client, edge *edgeServer, dir string, version int) {
	t.Helper()
	eventually(t, fmt.Sprintf("version %d arrives", version), patience, func() error {
		got, err := eco.install(user, edge.url, dir)
		if err == nil && got != fmt.Sprintf("version %d", version) {
			err = fmt.Errorf("installed %q", got)
		}
		return err
	})
}

// tick is the least time between two publishes: the dates of files, by which
// clients and caches compare, are in seconds.
const tick = 1100 * time.Millisecond

// payloadSize is about the size of each package's file.
const payloadSize = 2 << 20

// writePayload writes what a package of a version installs below dir: a text
// that tells the version, and much that cannot be compressed.
func writePayload(dir string, version int) error {
	return errors.Join(
		os.RemoveAll(dir),
		os.MkdirAll(dir, 0o755),
		os.WriteFile(filepath.Join(dir, "hello.txt"), fmt.Appendf(nil, "version %d", version), 0o644),
		os.WriteFile(filepath.Join(dir, "noise.bin"), noise(uint64(version), payloadSize), 0o644))
}

// installedVersion reads the text that tells the version, and compares the noise
// that came with it.
func installedVersion(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "hello.txt"))
	if err != nil {
		return "", err
	}
	var version int
	if _, err := fmt.Sscanf(string(text), "version %d", &version); err != nil {
		return string(text), err
	}
	data, err := os.ReadFile(filepath.Join(dir, "noise.bin"))
	if err != nil {
		return "", err
	}
	if string(data) != string(noise(uint64(version), payloadSize)) {
		return string(text), errors.New("noise.bin is of another version")
	}
	return strings.TrimSpace(string(text)), nil
}

// noise returns n bytes that the seed determines.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	x := seed*2862933555777941757 + 3037000493
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x >> 32)
	}
	return b
}
