package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// write makes a self-signed certificate for the names, and the files of it.
func write(t *testing.T, dir, file string, serial int64, names ...string) Pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	p := Pair{Cert: filepath.Join(dir, file+".pem"), Key: filepath.Join(dir, file+".key")}
	put(t, p.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return p
}

// put replaces a file as certbot does: by another one.
func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// serial is that of the certificate a client gets that asks for the name.
func serial(t *testing.T, s *Store, name string) int64 {
	t.Helper()
	cert, err := s.certificate(&tls.ClientHelloInfo{
		ServerName: name, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return cert.Leaf.SerialNumber.Int64()
}

func TestCertificateByName(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Config{Certificates: []Pair{
		write(t, dir, "a", 1, "a.example", "*.cdn.example"),
		write(t, dir, "b", 2, "b.example", "special.cdn.example"),
	}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int64{
		"a.example": 1, "b.example": 2, "B.Example": 2, "b.example.": 2, "x.cdn.example": 1, "special.cdn.example": 2,
		"x.y.cdn.example": 1, "": 1, "unknown.example": 1,
	} {
		if got := serial(t, s, name); got != want {
			t.Errorf("%q got certificate %d, want %d", name, got, want)
		}
	}
}

// New files are taken over; broken ones, and half of a pair, leave what was
// there in place until they are whole.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	pair := write(t, dir, "a", 1, "a.example")
	s, err := Open(Config{Certificates: []Pair{pair}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a", 2, "a.example", "new.example")
	s.Reload(t.Context())
	if got := serial(t, s, "new.example"); got != 2 {
		t.Errorf("after a change: certificate %d", got)
	}
	other := write(t, dir, "b", 3, "a.example")
	half, err := os.ReadFile(other.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range [][]byte{[]byte("no PEM"), half} { // half: with the old key
		put(t, pair.Cert, broken)
		s.Reload(t.Context())
		if got := serial(t, s, "a.example"); got != 2 {
			t.Errorf("with a broken pair: certificate %d", got)
		}
		if s.pairs[0].problem == "" {
			t.Error("a broken pair is no problem")
		}
	}
	key, err := os.ReadFile(other.Key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, pair.Key, key)
	s.Reload(t.Context())
	if got := serial(t, s, "a.example"); got != 3 || s.pairs[0].problem != "" {
		t.Errorf("after the other half: certificate %d, %q", got, s.pairs[0].problem)
	}
	if err := os.Remove(pair.Key); err != nil {
		t.Fatal(err)
	}
	s.Reload(t.Context())
	if got := serial(t, s, "a.example"); got != 3 {
		t.Errorf("without the key's file: certificate %d", got)
	}
}

func TestOpenNeedsFiles(t *testing.T) {
	if _, err := Open(Config{Certificates: []Pair{{Cert: "absent", Key: "absent"}}}, Options{}); err == nil {
		t.Error("absent files were accepted")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{ACME: ACME{Dir: dir}}, Options{Hosts: []string{"a.example"}}); err == nil {
		t.Error("a folder that others can read was accepted for keys")
	}
}
