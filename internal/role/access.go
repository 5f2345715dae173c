package role

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"freshet/internal/accesslog"
	"freshet/internal/cancel"
	"freshet/internal/histogram"
)

// ReasonHeader carries the reason word of a failed request to the client. The
// same word stands in the access record ("reason") and in the metric
// freshet_http_requests_total{reason=…}.
const ReasonHeader = "Freshet-Reason"

// StatusClientGone is recorded for a request whose client left before it was
// told anything. It is never sent.
const StatusClientGone = 499

// Access makes the access record and the metrics of each request of a role:
// each is made from the same [accesslog.Record], so that they agree.
type Access struct {
	// Each, if not nil, is called with each record before it is logged: the
	// metrics that only the role knows of are made there, and what the record
	// lacks is added. It is set before the first request, must not wait and
	// must not keep the record.
	Each func(r *accesslog.Record)
	// Under, if not nil, is called with each record of an answer that takes long, now and
	// then while it goes out, and with how much went out since the last time. For it the
	// same holds as for Each.
	Under func(r *accesslog.Record, more int64)

	log      *slog.Logger
	lines    *accesslog.Log
	requests *prometheus.CounterVec
	bytes    prometheus.Counter
	seconds  *histogram.Histogram
	plain    [600]atomic.Pointer[prometheus.Counter] // of requests, by status, without reason
}

// NewAccess registers the HTTP metrics of the named role in reg. It must be
// called once per role and registry. Records go to log, among all else, unless
// [Access.To] names a place for them.
func NewAccess(name string, log *slog.Logger, reg prometheus.Registerer) *Access {
	labels := prometheus.Labels{"role": name}
	a := &Access{
		log: log,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "freshet_http_requests_total", ConstLabels: labels,
			Help: "Requests answered, by status and, for failures, the reason.",
		}, []string{"code", "reason"}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "freshet_http_response_bytes_total", ConstLabels: labels,
			Help: "Bytes of response bodies sent.",
		}),
		seconds: histogram.New(prometheus.Opts{
			Name: "freshet_http_request_seconds", ConstLabels: labels,
			Help: "Time from the request's header to the end of the answer.",
		}),
	}
	reg.MustRegister(a.requests, a.bytes, a.seconds)
	return a
}

// To sends the records to lines from now on. Nil: nothing changes. It is called
// before the first request, and returns a.
func (a *Access) To(lines *accesslog.Log) *Access {
	if lines != nil {
		a.lines = lines
	}
	return a
}

// Wrap returns next with one record per request, written at its end. A panic
// in next is recorded as "internal-error" and goes on, except that
// [http.ErrAbortHandler], the way to cut a connection, is recorded as what it
// is.
func (a *Access) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &record{ResponseWriter: w, access: a}
		rec.about(r, time.Now())
		defer func() {
			p := recover()
			a.finish(r, rec, p)
			if p != nil {
				panic(p) // net/http cuts the connection and, if it is not ErrAbortHandler, logs the stack
			}
		}()
		if c, ok := r.Context().(*cancel.Context); !ok || !c.Carry(recordKey{}, rec) {
			r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		}
		next.ServeHTTP(rec, r)
	})
}

// finish completes the record of a request that ended by the panic p, if that is
// not nil, and notes it.
func (a *Access) finish(r *http.Request, rec *record, p any) {
	if p != nil && rec.Reason == "" {
		rec.Reason = "internal-error"
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			rec.Reason = "aborted"
		}
	}
	rec.Status = cmp.Or(rec.Status, http.StatusOK)
	rec.Took = time.Since(rec.Begun)
	if rec.FirstByte == 0 && p == nil {
		rec.FirstByte = max(rec.Took, 1) // net/http sends the header now
	}
	if r.Method == http.MethodHead {
		rec.Bytes = 0 // what was written was not sent (RFC 9110 §9.3.2)
	}
	a.Note(r.Context(), &rec.Record)
}

// Note makes the record and the metrics of a request. Those that come through
// [Access.Wrap] are noted by it.
func (a *Access) Note(ctx context.Context, r *accesslog.Record) {
	a.counter(r.Status, r.Reason).Inc()
	a.bytes.Add(float64(max(0, r.Bytes-r.Told)))
	a.seconds.Observe(r.Took)
	if a.Each != nil {
		a.Each(r)
	}
	if a.lines != nil {
		a.lines.Write(r)
		return
	}
	accesslog.Slog(ctx, a.log, r)
}

// Every is how often it is told of an answer that takes long.
const Every = 10 * time.Second

// Progress counts how much of an answer went out by now, and that in the record's Told.
func (a *Access) Progress(r *accesslog.Record, sent int64) {
	more := sent - r.Told
	if more <= 0 {
		return
	}
	a.bytes.Add(float64(more))
	if a.Under != nil {
		r.Took = time.Since(r.Begun)
		a.Under(r, more)
	}
	r.Told = sent
}

// Sent is how many bytes of bodies went out since the start.
func (a *Access) Sent() int64 {
	var m dto.Metric
	if err := a.bytes.Write(&m); err != nil {
		return 0 // a counter has no errors
	}
	return int64(m.GetCounter().GetValue())
}

// counter returns the counter of a status and reason. Those of successes are
// kept at hand.
func (a *Access) counter(status int, reason string) prometheus.Counter {
	if reason != "" || status < 0 || status >= len(a.plain) {
		return a.requests.WithLabelValues(strconv.Itoa(status), reason)
	}
	if c := a.plain[status].Load(); c != nil {
		return *c
	}
	c := a.requests.WithLabelValues(strconv.Itoa(status), "")
	a.plain[status].Store(&c)
	return c
}

// SetReason notes why the request fails: the word goes into the record and the
// metric and, if the header was not sent yet, into [ReasonHeader]. The set of
// words is small and fixed; detail is free text for the log only. Outside of
// [Access.Wrap] only the header is set.
func SetReason(w http.ResponseWriter, r *http.Request, word, detail string) {
	w.Header().Set(ReasonHeader, word)
	if rec := RecordOf(r); rec != nil {
		rec.Reason, rec.Detail = word, detail
	}
}

// Annotate adds attributes to the access record of the request.
func Annotate(r *http.Request, attrs ...slog.Attr) {
	if rec := RecordOf(r); rec != nil {
		rec.More = append(rec.More, attrs...)
	}
}

// RecordOf returns the access record of the request, for its handler to fill
// in; nil outside of [Access.Wrap]. It belongs to the handler's goroutine.
func RecordOf(r *http.Request) *accesslog.Record {
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		return &rec.Record
	}
	return nil
}

type recordKey struct{}

// record is the ResponseWriter of one request; it belongs to its goroutine.
type record struct {
	http.ResponseWriter
	accesslog.Record
	access *Access
	looked time.Time // when it was told how much went out; zero: not yet
}

// piece is how much of a file is sent between two looks at the clock.
const piece = 16 << 20

// went counts what went out, now and then.
func (w *record) went() {
	now := time.Now()
	if w.looked.IsZero() {
		w.looked = w.Begun
	}
	if now.Sub(w.looked) >= Every && w.Method != http.MethodHead {
		w.looked = now
		w.access.Progress(&w.Record, w.Bytes)
	}
}

// about notes what the request says.
func (w *record) about(r *http.Request, begin time.Time) {
	w.Begun = begin
	if addr, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		w.Client = addr.Addr()
	}
	w.Method, w.Path, w.TLS = r.Method, r.URL.Path, r.TLS != nil
	w.Target, w.Host = []byte(r.RequestURI), []byte(r.Host)
	if r.Proto != "HTTP/1.1" {
		w.Proto = r.Proto
	}
	w.Referer, w.UserAgent = []byte(r.Referer()), []byte(r.UserAgent())
}

// begin notes that the header is sent.
func (w *record) begin(status int) {
	if w.Status == 0 && status >= http.StatusOK { // 1xx come before the real one
		w.Status = status
		w.FirstByte = max(time.Since(w.Begun), 1)
	}
}

// SetHeader puts h into the header of the answer; h is not used otherwise any
// more. A ResponseWriter that has such a method takes it over as it is.
func SetHeader(w http.ResponseWriter, h http.Header) {
	if rec, ok := w.(*record); ok {
		w = rec.ResponseWriter
	}
	if taker, ok := w.(interface{ SetHeader(h http.Header) }); ok {
		taker.SetHeader(h)
		return
	}
	maps.Copy(w.Header(), h)
}

func (w *record) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

func (w *record) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	n, err := w.ResponseWriter.Write(b)
	if before := w.Bytes / piece; err == nil && (w.Bytes+int64(n))/piece != before {
		defer w.went()
	}
	w.Bytes += int64(n)
	return n, err
}

// ReadFrom keeps the way to sendfile open.
func (w *record) ReadFrom(src io.Reader) (int64, error) {
	w.begin(http.StatusOK)
	all, _ := src.(*io.LimitedReader)
	if all == nil || all.N <= piece {
		n, err := io.Copy(w.ResponseWriter, src)
		w.Bytes += n
		return n, err
	}
	var sent int64
	for all.N > 0 {
		part := io.LimitedReader{R: all.R, N: min(all.N, piece)}
		n, err := io.Copy(w.ResponseWriter, &part)
		all.N -= n
		w.Bytes += n
		if sent += n; err != nil || part.N > 0 {
			return sent, err // or src has ended
		}
		w.went()
	}
	return sent, nil
}

// Unwrap serves [http.ResponseController].
func (w *record) Unwrap() http.ResponseWriter { return w.ResponseWriter }
