// Package role is what every role of Freshet shares: the environment it runs
// in, how it serves and drains, the access record of each request with the
// reason of each failure, and the admin listener.
//
// A role is a function
//
//	func Run(ctx context.Context, cfg Config, env role.Env) error
//
// that serves until ctx ends, then drains, and returns nil after a clean stop.
package role

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"freshet/internal/accesslog"
)

// Env is the world of a role: everything it takes from outside except its
// configuration. Every field may be left zero; Env{} is production on TCP.
// The fields are not changed after Run began.
type Env struct {
	// Log receives the role's log. Zero: discarded.
	Log *slog.Logger
	// Access receives the records of requests. Zero: they go to Log.
	Access *accesslog.Log
	// HTTP makes all outgoing requests. Zero: [NewTransport] without a total
	// time limit; callers bound their requests by context.
	HTTP *http.Client
	// Listen opens listeners: TCP, or memory in tests and in all-in-one.
	// Zero: TCP.
	Listen func(ctx context.Context, addr string) (net.Listener, error)
	// Metrics is where the role registers its metrics. Zero: a registry nobody
	// reads.
	Metrics *prometheus.Registry
	// Secrets are files of the process that only it may read, such as its
	// configuration: programs that a role starts do not see them.
	Secrets []string
	// Ready is called once, when the role serves. Zero: nothing is called.
	Ready func()
	// Released is called once, after the context of the role has ended, when another
	// process may begin to do what it did: nothing is written to its folders any more,
	// while answers under way go on. A role that does not call it has released
	// everything when its Run returns. Zero: nothing is called.
	Released func()
	// Admin adds a handler to the process's admin listener, by a pattern of
	// [http.ServeMux] below a path of the role's own ("POST /edge/v1/purge").
	// Whoever is asked there must still ask who asks: the listener may be in
	// reach of more than the operator. Zero: nobody is listened to.
	Admin func(pattern string, h http.Handler)
}

// WithDefaults returns e with every zero field replaced by its default.
func (e Env) WithDefaults() Env {
	if e.Log == nil {
		e.Log = slog.New(slog.DiscardHandler)
	}
	if e.Listen == nil {
		e.Listen = ListenTCP
	}
	if e.HTTP == nil {
		e.HTTP = &http.Client{Transport: NewTransport((&net.Dialer{Timeout: ConnectTimeout}).DialContext)}
	}
	if e.Metrics == nil {
		e.Metrics = prometheus.NewRegistry()
	}
	if e.Ready == nil {
		e.Ready = func() {}
	}
	if e.Released == nil {
		e.Released = func() {}
	}
	if e.Admin == nil {
		e.Admin = func(string, http.Handler) {}
	}
	return e
}

// ConnectTimeout bounds the making of an outgoing connection.
const ConnectTimeout = 3 * time.Second

// NewTransport returns the transport for outgoing requests: many idle
// connections per host (the default of 2 makes a proxy dial for nearly every
// miss), no transparent decompression (bodies are passed on as they are), and
// no proxy from the environment.
func NewTransport(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *http.Transport {
	return &http.Transport{
		DialContext:           dial,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          1024,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       50 * time.Second, // below the 60 s and 75 s of common servers
		TLSHandshakeTimeout:   5 * time.Second,
		ExpectContinueTimeout: time.Second,
		DisableCompression:    true,
		ReadBufferSize:        64 << 10,
		WriteBufferSize:       64 << 10,
	}
}

// ListenTCP listens on a TCP address ("host:port", ":port"). Connections are not
// probed by the kernel, which would cost several calls for each of them: every
// server here has time limits of its own.
func ListenTCP(ctx context.Context, addr string) (net.Listener, error) {
	return (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", addr)
}
