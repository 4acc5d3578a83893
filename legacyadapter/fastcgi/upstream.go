package fastcgi

import (
	"errors"
	"net"
	"sync"
	"time"

	"banyan/proxy/upstream"
)

// Upstream is a php-fpm, and the files beside its scripts.
type Upstream struct {
	cfg     Config
	links   *upstream.Links[*link]
	fixed   []byte // the parameters that are the same for all requests
	conns   sync.Pool
	scripts scripts
	named   named
}

var _ upstream.Front = (*Upstream)(nil)

// New makes an upstream; nothing is dialled before the first request.
func New(cfg Config) (*Upstream, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	network, addr, err := ParseAddress(cfg.Address)
	if err != nil {
		return nil, err
	}
	u := &Upstream{cfg: cfg, fixed: fixedParams(&cfg), scripts: scripts{known: map[string]int64{}}, named: newNamed(&cfg)}
	u.links = upstream.NewLinks(upstream.LinksConfig{Name: cfg.Name, Network: network, Addr: addr, MaxConns: cfg.MaxConns, MaxIdle: cfg.MaxConns,
		IdleTimeout: cfg.IdleTimeout, Dial: cfg.Timeouts.Dial, MaxConnsName: "max_connections and pm.max_children"}, newLink)
	u.conns.New = func() any { return newConn(u) }
	return u, nil
}

// Name is the configured name.
func (u *Upstream) Name() string { return u.cfg.Name }

// Front implements upstream.Front.
func (u *Upstream) Front() {}

// Get implements upstream.Upstream. php-fpm is only asked for a connection once the request is known to run a script:
// so Send has the errors of a pool that is busy.
func (u *Upstream) Get(_ upstream.Timeouts, fresh bool) (upstream.Conn, error) {
	c := u.conns.Get().(*conn)
	c.fresh = fresh
	return c, nil
}

// Stats tells how many connections to php-fpm there are.
func (u *Upstream) Stats() upstream.Stats { return u.links.Stats() }

// Close closes idle connections, and the others as they are released.
func (u *Upstream) Close() { u.links.Close() }

// link is one connection to php-fpm.
type link struct {
	nc       net.Conn
	sock     *upstream.Socket
	readBy   upstream.Deadline
	writeBy  upstream.Deadline
	expires  int64
	requests int
	reused   bool
}

func newLink(nc net.Conn) (*link, error) {
	sock, err := upstream.NewSocket(nc)
	return &link{nc: nc, sock: sock}, err
}

// Close implements upstream.Link.
func (l *link) Close() error { return l.nc.Close() }

// Expires implements upstream.Link.
func (l *link) Expires() int64 { return l.expires }

// Again implements upstream.Link.
func (l *link) Again() { l.reused = true }

// pending tells whether php-fpm has sent something, or closed.
func (l *link) pending() bool {
	_, err := l.sock.Look()
	return err == nil
}

// wait sets the time by which the next read has to end.
func (l *link) wait(d time.Duration) error {
	return l.readBy.Extend(l.nc.SetReadDeadline, upstream.Now(), d)
}

var errCut = errors.New("connection closed before the answer was complete")
