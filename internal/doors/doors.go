package doors

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"freshet/internal/certs"
	"freshet/internal/forwarded"
	"freshet/internal/h1"
	"freshet/internal/h2"
	"freshet/internal/role"
)

// Options are what doors need besides their settings.
type Options struct {
	// Role is the role's name, for metrics.
	Role string
	// Env has the log, the metrics, and what opens listeners. No field is zero.
	Env role.Env
	// Limits bound what clients may take.
	Limits Limits
	// Hosts are the names that certificates are asked for, if the settings do not
	// say.
	Hosts []string
	// H3 is the UDP address for HTTP/3, or several with commas between them;
	// none by default.
	H3 string
	// Released says that the role calls [role.Env.Released] before answers under way have
	// ended: these may go on in this process while another one takes over.
	Released bool
	// Streams is how many requests of one connection of HTTP/3 may be answered at
	// the same time.
	Streams int
}

// Doors are open listeners. They are served once.
type Doors struct {
	opt          Options
	metrics      *h1.Metrics
	tcp          []net.Listener // those without TLS first
	h3           []net.PacketConn
	certificates *certs.Store // nil: there is no TLS
	portTLS      int

	leave chan struct{}  // closed when HTTP/3 ends before all else
	left  sync.WaitGroup // doors of HTTP/3
}

// Open opens all listeners, or none. l and the limits have their defaults.
func (l Listeners) Open(ctx context.Context, opt Options) (_ *Doors, err error) {
	opt.Limits = opt.Limits.WithDefaults()
	d := &Doors{opt: opt, metrics: h1.NewMetrics(opt.Role, opt.Env.Metrics), leave: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	for _, addr := range Addresses(l.Listen) {
		if err := d.open(ctx, addr, l.ProxyProtocol); err != nil {
			return nil, err
		}
	}
	clear := len(d.tcp)
	for _, addr := range Addresses(l.ListenTLS) {
		if err := d.open(ctx, addr, l.ProxyProtocol); err != nil {
			return nil, err
		}
	}
	for _, addr := range Addresses(opt.H3) {
		pc, err := new(net.ListenConfig).ListenPacket(ctx, "udp", addr)
		if err != nil {
			return nil, fmt.Errorf("listen on %s for HTTP/3: %w", addr, err)
		}
		d.h3 = append(d.h3, pc)
	}
	if err := d.certify(l.TLS, clear); err != nil {
		return nil, err
	}
	d.tell(ctx, clear)
	d.left.Add(len(d.h3))
	return d, nil
}

// open opens a listener of TCP.
func (d *Doors) open(ctx context.Context, addr string, proxies forwarded.Config) error {
	ln, err := d.opt.Env.Listen(ctx, addr)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("listen on %s: %w: ports below 1024 need root or CAP_NET_BIND_SERVICE", addr, err)
	case err != nil:
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	behind, err := proxies.Listen(ln, func(why forwarded.Reason) { d.metrics.Rejected(h1.Rejection(why)) })
	if err != nil {
		return errors.Join(fmt.Errorf("proxy-protocol: %w", err), ln.Close())
	}
	d.tcp = append(d.tcp, behind)
	return nil
}

// certify gets the certificates ready, and puts TLS before the listeners but the
// first few, which are clear.
func (d *Doors) certify(cfg certs.Config, clear int) error {
	opt := certs.Options{Role: d.opt.Role, Hosts: d.opt.Hosts, Log: d.opt.Env.Log}
	if len(cfg.ACME.Hosts) > 0 {
		opt.Hosts = cfg.ACME.Hosts
	}
	if clear == len(d.tcp) && len(d.h3) == 0 {
		d.opt.Env.Metrics.MustRegister(certs.None(d.opt.Role))
		return nil
	}
	if clear > 0 {
		opt.HTTP = portOf(d.tcp[0].Addr())
	}
	if clear < len(d.tcp) {
		d.portTLS = portOf(d.tcp[clear].Addr())
		opt.TLS = d.portTLS
	}
	store, err := certs.Open(cfg, opt)
	if err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	d.certificates = store
	d.opt.Env.Metrics.MustRegister(store)
	for i := clear; i < len(d.tcp); i++ {
		d.tcp[i] = tls.NewListener(d.tcp[i], store.TLS("h2", "http/1.1"))
	}
	return nil
}

// tell logs where the doors are.
func (d *Doors) tell(ctx context.Context, clear int) {
	say := func(addr net.Addr, protocol string) {
		d.opt.Env.Log.InfoContext(ctx, "listening", slog.String("on", addr.String()), slog.String("protocol", protocol))
	}
	for i, ln := range d.tcp {
		if i < clear {
			say(ln.Addr(), "http")
		} else {
			say(ln.Addr(), "https")
		}
	}
	for _, pc := range d.h3 {
		say(pc.LocalAddr(), "h3")
	}
}

// close closes all doors.
func (d *Doors) close() error {
	var err error
	for _, ln := range d.tcp {
		err = errors.Join(err, ln.Close())
	}
	for _, pc := range d.h3 {
		err = errors.Join(err, pc.Close())
	}
	return err
}

// Addrs are where the doors are: those of TCP, without TLS first, and those of
// UDP.
func (d *Doors) Addrs() (tcp, udp []net.Addr) {
	for _, ln := range d.tcp {
		tcp = append(tcp, ln.Addr())
	}
	for _, pc := range d.h3 {
		udp = append(udp, pc.LocalAddr())
	}
	return tcp, udp
}

// Certificates are those of the doors, nil if there is no TLS.
func (d *Doors) Certificates() *certs.Store { return d.certificates }

// PortTLS is the port of the first listener with TLS on TCP, 0 if there is none.
func (d *Doors) PortTLS() int { return d.portTLS }

// AltSvc tells clients where HTTP/3 is spoken (RFC 9114 §3.1.1), "" if nowhere.
func (d *Doors) AltSvc() string {
	if len(d.h3) == 0 {
		return ""
	}
	return fmt.Sprintf(`h3=":%d"; ma=86400`, portOf(d.h3[0].LocalAddr()))
}

func portOf(addr net.Addr) int {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.Port
	case *net.UDPAddr:
		return a.Port
	}
	return 0
}

// Inside is who answers behind the doors.
type Inside struct {
	// Ready answers what is at hand. It may be nil.
	Ready h1.Handler
	// All answers everything else, and what came by HTTP/3.
	All http.Handler
	// Refused, if not nil, is told of what was no request.
	Refused func(r *h1.Refused)
}

// Serve answers until ctx ends, then drains ([role.DrainTimeout], or
// [role.DrainTime] with [Options.Released]). It keeps the
// certificates up to date meanwhile, and closes the doors.
func (d *Doors) Serve(ctx context.Context, in Inside) error {
	group, ctx := errgroup.WithContext(ctx)
	if d.certificates != nil {
		group.Go(func() error { return d.certificates.Run(ctx) })
	}
	if ln := join(d.tcp); ln != nil {
		srv := d.server(ctx, in)
		group.Go(func() error { return srv.Serve(ctx, ln) })
	}
	for _, conn := range d.h3 {
		door := &h3Door{
			conn: conn, handler: in.All, certificates: d.certificates, metrics: d.metrics, log: d.opt.Env.Log,
			limits: d.opt.Limits, streams: d.opt.Streams,
		}
		group.Go(func() error {
			defer d.left.Done()
			ctx, end := context.WithCancel(ctx)
			defer end()
			go func() {
				select {
				case <-d.leave:
					end()
				case <-ctx.Done():
				}
			}()
			return door.serve(ctx)
		})
	}
	return group.Wait()
}

// LeaveH3 ends HTTP/3, whose sockets cannot be handed over, before all else, while Serve
// runs: its answers under way have [role.DrainTimeout], and its clients come back by TCP. It
// returns when that is done. It is called once.
func (d *Doors) LeaveH3() {
	close(d.leave)
	d.left.Wait()
}

// server is that of the listeners of TCP.
func (d *Doors) server(ctx context.Context, in Inside) *h1.Server {
	limits, log := d.opt.Limits, d.opt.Env.Log
	srv := &h1.Server{
		Handler: in.Ready,
		HTTP:    role.NewServer(ctx, in.All, log),
		H2: &h2.Server{
			Handler: in.Ready, HTTP: in.All, Log: log, Metrics: d.metrics, Refused: in.Refused,
			HeaderTime: limits.HeaderTime, Idle: limits.IdleTime, Stall: limits.Stall, MinRate: int(limits.MinRate),
		},
		Drain: d.drain, Stall: limits.Stall, Limits: limits.conns(), Log: log, Metrics: d.metrics,
		Refused: in.Refused,
	}
	srv.HTTP.MaxHeaderBytes = int(limits.HeaderSize)
	srv.HTTP.ReadHeaderTimeout, srv.HTTP.IdleTimeout = limits.HeaderTime, limits.IdleTime
	return srv
}

// maxIdle is how long idle connections are kept for another request when another process
// takes over, at most.
const maxIdle = 30 * time.Second

// drain is what connections may do when ctx has ended. When another process has taken over
// nobody waits for them: then those that are idle may have another request.
func (d *Doors) drain(stopped context.Context) h1.Drain {
	if !d.opt.Released {
		return h1.Drain{AtMost: role.DrainTimeout}
	}
	atMost := role.DrainTime(stopped)
	if atMost <= role.DrainTimeout {
		return h1.Drain{AtMost: atMost}
	}
	return h1.Drain{AtMost: atMost, Idle: min(atMost/10, maxIdle)}
}
