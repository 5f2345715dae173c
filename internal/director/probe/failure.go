package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
)

// failure is an error that knows its reason.
type failure struct {
	why Reason
	err error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func failed(why Reason, format string, args ...any) error {
	return &failure{why: why, err: fmt.Errorf(format, args...)}
}

// reasonOf is why a look ended with err.
func reasonOf(err error) Reason {
	var f *failure
	switch {
	case err == nil:
		return Fine
	case errors.As(err, &f):
		return f.why
	case isTimeout(err):
		return Frozen
	default:
		return Cut
	}
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// lookupFailed gives an error of a lookup its reason.
func lookupFailed(err error) error {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return &failure{why: NoAddress, err: err}
	}
	return &failure{why: Unresolved, err: err}
}

// dialFailed gives an error of connecting its reason.
func dialFailed(err error) error {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &failure{why: Refused, err: err}
	}
	return &failure{why: Unreachable, err: err}
}

// handshakeFailed gives an error of a TLS handshake its reason.
func handshakeFailed(err error) error {
	var (
		invalid   x509.CertificateInvalidError
		name      x509.HostnameError
		untrusted x509.UnknownAuthorityError
		verify    *tls.CertificateVerificationError
	)
	why := TLSFailed
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		why = CertificateExpired
	case errors.As(err, &name):
		why = CertificateName
	case errors.As(err, &untrusted), errors.As(err, &verify):
		why = CertificateUntrusted
	case isTimeout(err):
		why = Frozen
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, syscall.ECONNRESET):
		why = Cut
	}
	return &failure{why: why, err: fmt.Errorf("TLS handshake: %w", err)}
}

// statusFailed is what an answer with this status means.
func statusFailed(name string, status int) error {
	why := BadStatus
	switch status {
	case http.StatusNotFound, http.StatusGone:
		why = Missing
	case http.StatusUnauthorized, http.StatusForbidden:
		why = Denied
	}
	return failed(why, "%s: status %d %s", name, status, http.StatusText(status))
}
