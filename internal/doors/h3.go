package doors

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"freshet/internal/certs"
	"freshet/internal/h1"
	"freshet/internal/role"
)

// h3Door speaks HTTP/3 on one socket. It takes no fast way: QUIC costs more than
// a request does.
type h3Door struct {
	conn         net.PacketConn
	handler      http.Handler
	certificates *certs.Store
	limits       Limits
	streams      int
	metrics      *h1.Metrics
	log          *slog.Logger
}

// serve answers until ctx ends, then drains. It closes the socket.
func (d *h3Door) serve(ctx context.Context) error {
	transport := &quic.Transport{Conn: d.conn}
	ln, err := transport.ListenEarly(http3.ConfigureTLSConfig(d.certificates.TLS("h3")), &quic.Config{
		HandshakeIdleTimeout:  d.limits.HandshakeTime,
		MaxIdleTimeout:        d.limits.IdleTime,
		MaxIncomingStreams:    int64(d.streams),
		MaxIncomingUniStreams: 8, // control and QPACK take three
	})
	if err != nil {
		return errors.Join(fmt.Errorf("HTTP/3 on %s: %w", d.conn.LocalAddr(), err), d.conn.Close())
	}
	srv := &http3.Server{
		Handler:        withoutBody(d.handler),
		MaxHeaderBytes: int(d.limits.HeaderSize),
		IdleTimeout:    d.limits.IdleTime,
		Logger:         slog.New(slog.DiscardHandler),
	}
	counted := &countedQUIC{EarlyListener: ln, limits: d.limits, metrics: d.metrics, sources: make(map[netip.Prefix]int)}
	ended := make(chan error, 1)
	go func() { ended <- srv.ServeListener(counted) }()
	select {
	case err = <-ended:
		ended <- nil
	case <-ctx.Done():
		err = nil
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), role.DrainTimeout)
	defer cancel()
	if e := srv.Shutdown(drain); errors.Is(e, context.DeadlineExceeded) {
		d.log.WarnContext(ctx, "connections of HTTP/3 cut after the drain time", slog.Duration("drain", role.DrainTimeout))
		e = srv.Close()
		err = errors.Join(err, e)
	}
	if e := <-ended; err == nil && e != nil && !errors.Is(e, http.ErrServerClosed) && !errors.Is(e, quic.ErrServerClosed) {
		err = e
	}
	err = errors.Join(err, ln.Close(), transport.Close(), d.conn.Close())
	if err != nil {
		return fmt.Errorf("HTTP/3 on %s: %w", d.conn.LocalAddr(), err)
	}
	return nil
}

// withoutBody makes GET and HEAD requests of HTTP/3 that do not say that they
// have a body into requests that have none: whether one comes shows only at the
// end of the stream, and it would mean nothing (RFC 9110 §9.3.1).
func withoutBody(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 && (r.Method == http.MethodGet || r.Method == http.MethodHead) {
			DropBody(r)
		}
		next.ServeHTTP(w, r)
	})
}

// DropBody makes the request one without a body: a server that was told of one
// would wait for it.
func DropBody(r *http.Request) {
	r.ContentLength, r.TransferEncoding, r.Body = 0, nil, http.NoBody
	for _, name := range []string{"Content-Length", "Content-Type", "Content-Encoding", "Expect"} {
		r.Header.Del(name)
	}
}

// countedQUIC refuses connections beyond the limits.
type countedQUIC struct {
	*quic.EarlyListener
	limits  Limits
	metrics *h1.Metrics

	mu      sync.Mutex
	open    int
	sources map[netip.Prefix]int
}

// tooMany is the code of H3_EXCESSIVE_LOAD (RFC 9114 §8.1).
const tooMany = quic.ApplicationErrorCode(http3.ErrCodeExcessiveLoad)

// Accept implements [http3.QUICListener].
func (l *countedQUIC) Accept(ctx context.Context) (*quic.Conn, error) {
	for {
		conn, err := l.EarlyListener.Accept(ctx)
		if err != nil {
			return nil, err //nolint:wrapcheck // goes back to quic-go
		}
		source := sourceOf(conn.RemoteAddr())
		if why := l.admit(source); why != "" {
			l.metrics.Rejected(why)
			_ = conn.CloseWithError(tooMany, string(why)) // it was not used
			continue
		}
		context.AfterFunc(conn.Context(), func() { l.left(source) }) //nolint:contextcheck // that of the connection
		return conn, nil
	}
}

func (l *countedQUIC) admit(source netip.Prefix) h1.Rejection {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open >= l.limits.Connections:
		return h1.RejectConns
	case source.IsValid() && l.sources[source] >= l.limits.ConnectionsPerAddress:
		return h1.RejectConnsPerIP
	}
	l.open++
	l.sources[source]++
	return ""
}

func (l *countedQUIC) left(source netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.sources[source]--; l.sources[source] == 0 {
		delete(l.sources, source)
	}
}

// sourceOf is what connections are counted by.
func sourceOf(addr net.Addr) netip.Prefix {
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return netip.Prefix{}
	}
	return h1.Source(udp.AddrPort().Addr())
}
