package s3_test

import (
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"freshet/internal/store/bucket"
	"freshet/internal/store/s3"
	"freshet/internal/store/storetest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, storetest.Fake(t, nil).Open(t))
}

func TestReal(t *testing.T) {
	t.Parallel()
	storetest.Objects(t, storetest.Real(t).Open(t))
}

// TestTLS: over https a server is asked whose certificate the CA file vouches for, and no
// other.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := storetest.RealTLS(t)
	if !strings.HasPrefix(server.Endpoint, "https://") {
		t.Fatal(server.Endpoint)
	}
	if err := bucket.Probe(t.Context(), server.Open(t), "probe/"); err != nil {
		t.Error(err)
	}
	config := server.Config()
	config.CA = ""
	strict, err := s3.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	err = bucket.Probe(t.Context(), strict, "probe/")
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
	other := storetest.RealTLS(t)
	config.CA = other.CA
	if strict, err = s3.Open(config); err != nil {
		t.Fatal(err)
	}
	err = bucket.Probe(t.Context(), strict, "probe/")
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); !ok {
		t.Errorf("another one's CA file: %v", err)
	}
	for name, file := range map[string]string{"absent": "/nowhere/ca.pem", "no certificate": server.Credentials} {
		config.CA = file
		if _, err := s3.Open(config); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCutComparison: the answer to a write is lost, and what is there cannot be read to
// its end to see who wrote it. That is no conflict: it is to be tried again.
func TestCutComparison(t *testing.T) {
	t.Parallel()
	var cuts atomic.Bool
	o := storetest.Fake(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || !cuts.Load() {
				next.ServeHTTP(w, r)
				return
			}
			whole := httptest.NewRecorder()
			next.ServeHTTP(whole, r)
			maps.Copy(w.Header(), whole.Header())
			body := whole.Body.Bytes()
			_, _ = w.Write(body[:len(body)/2]) // with the length of all
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			panic(http.ErrAbortHandler)
		})
	}).Open(t)
	section := func(text string) *io.SectionReader {
		return io.NewSectionReader(strings.NewReader(text), 0, int64(len(text)))
	}
	ctx, content := t.Context(), strings.Repeat("content ", 10_000)
	first, err := o.Replace(ctx, "a", section("first"), bucket.None, bucket.Headers{})
	if err != nil {
		t.Fatal(err)
	}
	second, err := o.Replace(ctx, "a", section(content), first, bucket.Headers{})
	if err != nil {
		t.Fatal(err)
	}
	cuts.Store(true)
	if _, err := o.Replace(ctx, "a", section(content), first, bucket.Headers{}); !errors.Is(err, bucket.ErrAway) || errors.Is(err, bucket.ErrConflict) {
		t.Errorf("while answers are cut: %v", err)
	}
	cuts.Store(false)
	if again, err := o.Replace(ctx, "a", section(content), first, bucket.Headers{}); err != nil || again != second {
		t.Errorf("afterwards: %q, %v; want %q", again, err, second)
	}
}
