package storetest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/minio/minio-go/v7"
	keys "github.com/minio/minio-go/v7/pkg/credentials"

	"freshet/internal/peertest"
	"freshet/internal/store/s3"
)

const (
	// Bucket is the bucket of the servers.
	Bucket = "repositories"

	accessKey = "freshet-test"
	secretKey = "freshet-test-secret" //nolint:gosec // of a server that ends with the test
)

// Server is an S3 server of a test.
type Server struct {
	// Endpoint is its URL.
	Endpoint string
	// Credentials is the file with its keys.
	Credentials string
	// CA is the file with its certificate, for https.
	CA string
	// Data is the folder in which a server of its own process has the objects of the
	// bucket, as files by their keys.
	Data string
}

// Config is what a client is told of the server.
func (s *Server) Config() s3.Config {
	return s3.Config{Endpoint: s.Endpoint, Bucket: Bucket, PathStyle: true, Credentials: s.Credentials, CA: s.CA, Attempts: 2, Timeout: time.Minute}
}

// Publish lets everybody read the objects of the bucket.
func (s *Server) Publish(tb testing.TB) {
	tb.Helper()
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: keys.NewStaticV4(accessKey, secretKey, ""), Secure: endpoint.Scheme == "https", BucketLookup: minio.BucketLookupPath,
		Transport: s.transport(tb),
	})
	if err != nil {
		tb.Fatal(err)
	}
	const policy = `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": "*", "Action": ["s3:GetObject"], "Resource": ["arn:aws:s3:::` + Bucket + `/*"]}]}`
	if err := client.SetBucketPolicy(tb.Context(), Bucket, policy); err != nil {
		tb.Fatal(err)
	}
}

// transport trusts the server.
func (s *Server) transport(tb testing.TB) *http.Transport {
	tb.Helper()
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CA != "" {
		data, err := os.ReadFile(s.CA)
		if err != nil {
			tb.Fatal(err)
		}
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(data)
	}
	transport := &http.Transport{TLSClientConfig: config}
	tb.Cleanup(transport.CloseIdleConnections)
	return transport
}

// Open is a client of the server; the test ends when there is none.
func (s *Server) Open(tb testing.TB) *s3.Objects {
	tb.Helper()
	objects, err := s3.Open(s.Config())
	if err != nil {
		tb.Fatal(err)
	}
	return objects
}

func credentials(tb testing.TB) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "credentials")
	text := fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", accessKey, secretKey)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return file
}

// Fake is a server inside the test, which keeps objects in memory. Wrap may change
// what it answers; nil for nothing.
func Fake(tb testing.TB, wrap func(http.Handler) http.Handler) *Server {
	tb.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket(Bucket); err != nil {
		tb.Fatal(err)
	}
	handler := heedful(gofakes3.New(backend).Server())
	if wrap != nil {
		handler = wrap(handler)
	}
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return &Server{Endpoint: server.URL, Credentials: credentials(tb)}
}

// heedful adds If-Match on removals.
func heedful(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := r.Header.Get("If-Match"); want != "" && r.Method == http.MethodDelete {
			head := r.Clone(r.Context())
			head.Method = http.MethodHead
			there := httptest.NewRecorder()
			next.ServeHTTP(there, head)
			if there.Code == http.StatusOK && there.Header().Get("ETag") != want {
				w.WriteHeader(http.StatusPreconditionFailed)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Gateway is the program that the tests take for a real S3 server, of which
// tools/go.mod knows.
const Gateway = "versitygw"

// gateway builds it, unless that was done before, and returns where it is.
func gateway(tb testing.TB) string {
	tb.Helper()
	mod, err := exec.CommandContext(tb.Context(), "go", "env", "GOMOD").Output()
	if err != nil {
		tb.Fatal(err)
	}
	tool := exec.CommandContext(tb.Context(), "go", "tool", "-modfile=tools/go.mod", "-n", Gateway)
	tool.Dir = filepath.Dir(strings.TrimSpace(string(mod)))
	path, err := tool.Output()
	if err != nil {
		tb.Logf("build %s: %v", Gateway, err)
		peertest.Missing(tb, Gateway)
	}
	return strings.TrimSpace(string(path))
}

// Real starts a server in a process of its own, which keeps objects in files. The test
// is skipped, or fails, when the program cannot be built: package peertest.
func Real(tb testing.TB) *Server { tb.Helper(); return start(tb, "http") }

// RealTLS is [Real] behind https, with a certificate that only its CA file knows.
func RealTLS(tb testing.TB) *Server {
	tb.Helper()
	cert, key := certificate(tb)
	s := start(tb, "https", "--cert", cert, "--key", key)
	s.CA = cert
	return s
}

func start(tb testing.TB, scheme string, options ...string) *Server {
	tb.Helper()
	program := gateway(tb)
	dir := tb.TempDir()
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(filepath.Join(data, Bucket), 0o755); err != nil {
		tb.Fatal(err)
	}
	address := peertest.FreeAddr(tb)
	var output bytes.Buffer
	args := append(options, "--port", address, "--access", accessKey, "--secret", secretKey, "--quiet", "posix", data)
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), program, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	var exit error
	ended := make(chan struct{})
	go func() { exit = cmd.Wait(); close(ended) }()
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	server := &Server{Endpoint: scheme + "://" + address, Credentials: credentials(tb), Data: filepath.Join(data, Bucket)}
	for !answers(tb.Context(), address) {
		select {
		case <-ended:
			tb.Fatalf("%s ended: %v\n%s", Gateway, exit, output.String())
		case <-tb.Context().Done():
			tb.Fatal(tb.Context().Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return server
}

func answers(ctx context.Context, address string) bool {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err == nil {
		_ = connection.Close()
	}
	return err == nil
}

// certificate makes files with a certificate for 127.0.0.1, which vouches for itself, and
// its key.
func certificate(tb testing.TB) (certFile, keyFile string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	write := func(name, kind string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
			tb.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", private)
}
