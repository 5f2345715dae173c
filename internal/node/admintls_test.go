package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"freshet/api/edgeapi"
	"freshet/internal/doors"
	"freshet/internal/edge"
	"freshet/internal/peertest"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.make("authority", nil)
	return a
}

// make makes a certificate of the name, and writes it and its key to files.
func (a *authority) make(name string, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: parent == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	signer := a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "PRIVATE KEY", secret)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) write(name, kind string, der []byte) {
	a.t.Helper()
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// pair makes a certificate, signed by a, and loads it.
func (a *authority) pair(name string) tls.Certificate {
	a.t.Helper()
	a.make(name, a.cert)
	pair, err := tls.LoadX509KeyPair(a.file(name+".pem"), a.file(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// On the admin listener with TLS, a certificate does what a token does; one
// that nobody vouches for does not get in, one that is not known purges
// nothing, and health is there for who has none.
func TestAdminByCertificate(t *testing.T) {
	ours, foreign := newAuthority(t), newAuthority(t)
	ours.pair("server")
	origin := httptest.NewServer(http.NotFoundHandler())
	defer origin.Close()
	addr := peertest.FreeAddr(t)
	ctx, stop := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	cfg := Config{
		Admin: AdminConfig{Listen: addr, Cert: ours.file("server.pem"), Key: ours.file("server.key"), ClientCA: ours.file("authority.pem")},
		Edge: &edge.Config{
			Origin: origin.URL, Listeners: doors.Listeners{Listen: "mem:edge"}, Store: t.TempDir(), Size: 1 << 24, Follow: "off",
			Control: edge.ControlConfig{Clients: map[string]edge.ClientConfig{"ops": {Certificate: "operator"}}},
		},
	}
	go func() { ended <- Run(ctx, cfg, Options{Ready: func() { close(ready) }}) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	select {
	case <-ready:
	case err := <-ended:
		ended <- err
		t.FailNow()
	}
	roots := x509.NewCertPool()
	roots.AddCert(ours.cert)
	purge := func(certs ...tls.Certificate) error {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}}
		defer transport.CloseIdleConnections()
		client := edgeapi.Client{Base: "https://" + addr, HTTP: &http.Client{Transport: transport}}
		resp, err := client.HTTP.Get(client.Base + "/-/healthy")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		_, err = client.Purge(t.Context(), edgeapi.PurgeRequest{Everything: true})
		return err
	}
	operator := ours.pair("operator")
	first := purge(operator)
	for late := time.Now().Add(2 * time.Minute); first != nil && strings.Contains(first.Error(), "refused") && time.Now().Before(late); {
		<-time.After(5 * time.Millisecond) // the listener begins beside the roles
		first = purge(operator)
	}
	if first != nil {
		t.Errorf("the operator: %v", first)
	}
	page := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{operator}}}
	defer page.CloseIdleConnections()
	for _, site := range []string{"cross-site", "same-origin"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+addr+edgeapi.PurgePath, strings.NewReader(`{"everything":true}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Sec-Fetch-Site", site)
		resp, err := page.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if (resp.StatusCode == http.StatusForbidden) != (site == "cross-site") {
			t.Errorf("an order that a page of %s has the operator's browser send: %s", site, resp.Status)
		}
	}
	for name, test := range map[string]struct {
		certs []tls.Certificate
		want  string
	}{
		"without":  {nil, "401 unauthorized"},
		"stranger": {[]tls.Certificate{ours.pair("stranger")}, "401 unauthorized"},
		"foreign":  {[]tls.Certificate{foreign.pair("operator")}, "tls: "},
	} {
		if err := purge(test.certs...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
}
