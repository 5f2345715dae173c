package role

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ReasonHeader carries the reason word of a failed request to the client. The
// same word stands in the access record ("reason") and in the metric
// freshet_http_requests_total{reason=…}.
const ReasonHeader = "Freshet-Reason"

// RecordMessage is the message of access records.
const RecordMessage = "request"

// Access makes the access record and the metrics of each request of a role.
// The client's address is not recorded.
type Access struct {
	log      *slog.Logger
	requests *prometheus.CounterVec
	bytes    prometheus.Counter
	seconds  prometheus.Histogram
	plain    [600]atomic.Pointer[prometheus.Counter] // of requests, by status, without reason
}

// NewAccess registers the HTTP metrics of the named role in reg. It must be
// called once per role and registry.
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
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "freshet_http_request_seconds", ConstLabels: labels,
			Help:    "Time from the request's header to the end of the answer.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}),
	}
	reg.MustRegister(a.requests, a.bytes, a.seconds)
	return a
}

// Wrap returns next with one record per request, written at its end. A panic
// in next is recorded as "internal-error" and goes on, except that
// [http.ErrAbortHandler], the way to cut a connection, is recorded as what it
// is.
func (a *Access) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &record{ResponseWriter: w}
		begin := time.Now()
		defer func() {
			p := recover()
			if p != nil && rec.reason == "" {
				rec.reason = "internal-error"
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					rec.reason = "aborted"
				}
			}
			a.write(r, rec, time.Since(begin))
			if p != nil {
				panic(p) // net/http cuts the connection and, if it is not ErrAbortHandler, logs the stack
			}
		}()
		next.ServeHTTP(rec, r.WithContext(context.WithValue(r.Context(), recordKey{}, rec)))
	})
}

func (a *Access) write(r *http.Request, rec *record, took time.Duration) {
	a.Note(r.Context(), Answered{
		Method: r.Method, Path: r.URL.Path, Status: cmp.Or(rec.status, http.StatusOK), Bytes: rec.bytes, Took: took,
		Reason: rec.reason, Detail: rec.detail,
	}, rec.attrs...)
}

// Answered is a request that was answered.
type Answered struct {
	Method, Path string // the path is decoded
	Status       int
	Bytes        int64 // of the body, as far as it was sent
	Took         time.Duration
	// Reason is the word for a failure, Detail free text; see [SetReason].
	Reason, Detail string
}

// Note makes the record and the metrics of a request that did not come through
// [Access.Wrap].
func (a *Access) Note(ctx context.Context, r Answered, more ...slog.Attr) {
	a.counter(r.Status, r.Reason).Inc()
	a.bytes.Add(float64(r.Bytes))
	a.seconds.Observe(r.Took.Seconds())

	level := slog.LevelInfo
	if r.Status >= http.StatusInternalServerError {
		level = slog.LevelWarn
	}
	if !a.log.Enabled(ctx, level) {
		return
	}
	record := slog.NewRecord(time.Now(), level, RecordMessage, 0)
	record.AddAttrs(
		slog.String("method", r.Method), slog.String("path", r.Path), slog.Int("status", r.Status),
		slog.Int64("bytes", r.Bytes), slog.Duration("took", r.Took))
	if r.Reason != "" {
		record.AddAttrs(slog.String("reason", r.Reason))
	}
	if r.Detail != "" {
		record.AddAttrs(slog.String("error", r.Detail))
	}
	record.AddAttrs(more...)
	_ = a.log.Handler().Handle(ctx, record) // a log that cannot be written is nobody's to tell
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
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		rec.reason, rec.detail = word, detail
	}
}

// Annotate adds attributes to the access record of the request.
func Annotate(r *http.Request, attrs ...slog.Attr) {
	if rec, ok := r.Context().Value(recordKey{}).(*record); ok {
		rec.attrs = append(rec.attrs, attrs...)
	}
}

type recordKey struct{}

// record is the ResponseWriter of one request; it belongs to its goroutine.
type record struct {
	http.ResponseWriter
	status int
	bytes  int64
	reason string
	detail string
	attrs  []slog.Attr
}

func (w *record) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK { // 1xx come before the real one
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *record) Write(b []byte) (int, error) {
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom keeps the way to sendfile open.
func (w *record) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, src)
	w.bytes += n
	return n, err
}

// Unwrap serves [http.ResponseController].
func (w *record) Unwrap() http.ResponseWriter { return w.ResponseWriter }
