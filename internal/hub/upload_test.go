package hub

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/api/hubapi"
)

// A body cut at any byte is refused as a whole, and no part that was cut is
// stored.
func TestReceiveTruncated(t *testing.T) {
	const body = "preamble\r\n--b\r\nContent-Disposition: attachment; filename=\"one\"\r\nContent-Length: 5\r\n\r\n11111\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"two\"\r\n\r\n22222\r\n--b--\r\nepilogue\r\n"
	end := strings.Index(body, "--b--") + len("--b--")
	for cut := range len(body) + 1 {
		stored := map[string]string{}
		s := &server{cfg: Config{}.WithDefaults(), metrics: newMetrics(prometheus.NewRegistry())}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body[:cut]))
		r.Header.Set("Content-Type", "multipart/mixed; boundary=b")
		sizes, err := s.receive(httptest.NewRecorder(), r, func(_ context.Context, name string, content *partContent) (int64, error) {
			data, err := io.ReadAll(content)
			if err == nil {
				stored[name] = string(data)
			}
			return int64(len(data)), err
		})
		if cut >= end {
			if err != nil || len(sizes) != 2 || stored["one"] != "11111" || stored["two"] != "22222" {
				t.Errorf("cut at %d: %v, %v, %v", cut, sizes, stored, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("cut at %d of %d: accepted as %v", cut, len(body), sizes)
		} else if e := asProblem(err); e.Status != http.StatusBadRequest {
			t.Errorf("cut at %d: %v", cut, e)
		}
		if one, ok := stored["one"]; ok && one != "11111" {
			t.Errorf("cut at %d: stored half of a part: %q", cut, one)
		}
		if two, ok := stored["two"]; ok && two != "22222" {
			t.Errorf("cut at %d: stored half of a part: %q", cut, two)
		}
	}
}

// An error of the disk ends the request: it is not the part's fault.
func TestReceiveStoreErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		kind   hubapi.ErrorKind
	}{
		{syscall.ENOSPC, 507, hubapi.ErrNoSpace},
		{syscall.EDQUOT, 507, hubapi.ErrNoSpace},
		{syscall.EIO, 500, hubapi.ErrInternal},
		{refuse("no"), 400, hubapi.ErrGeneric},
		{context.Canceled, 503, hubapi.ErrUnavailable},
	} {
		s := &server{cfg: Config{}.WithDefaults(), metrics: newMetrics(prometheus.NewRegistry())}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("--b\r\nContent-Disposition: attachment; filename=x\r\n\r\n1\r\n--b--\r\n"))
		r.Header.Set("Content-Type", "multipart/mixed; boundary=b")
		_, err := s.receive(httptest.NewRecorder(), r, func(context.Context, string, *partContent) (int64, error) {
			return 0, errors.Join(c.err)
		})
		if e := asProblem(err); e.Status != c.status || e.Kind != c.kind {
			t.Errorf("%v: %+v", c.err, e)
		} else if strings.Contains(e.Message, "input/output") {
			t.Errorf("the client is told %q", e.Message)
		}
	}
}

// A body of any bytes is answered with a problem or with sizes, and no part is
// longer than the limit.
func FuzzReceive(f *testing.F) {
	f.Add("--b\r\nContent-Disposition: attachment; filename=\"x\"\r\n\r\n1\r\n--b--\r\n")
	f.Add("--b\r\n\r\n\r\n--b\r\n\r\n--b--")
	f.Add("--b--")
	f.Add("--b\r\nContent-Disposition: ;;;\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=FF\r\n--b--")
	f.Fuzz(func(t *testing.T, body string) {
		cfg := Config{Limits: Limits{Object: 16}}.WithDefaults()
		s := &server{cfg: cfg, metrics: newMetrics(prometheus.NewRegistry())}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		_, err := s.receive(httptest.NewRecorder(), r, func(_ context.Context, _ string, content *partContent) (int64, error) {
			data, err := io.ReadAll(content)
			if len(data) > 16 {
				t.Errorf("%d bytes of a part", len(data))
			}
			return int64(len(data)), err
		})
		if err != nil && asProblem(err).Status >= 500 {
			t.Errorf("%q: %v", body, err)
		}
	})
}
