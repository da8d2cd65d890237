package main

import (
	lists "container/list"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"triggerd/internal/limit"
)

const (
	// enoughDescriptors is how many a server should be allowed: 10,000
	// connections of clients, those of 3,072 attempts, and some for the database.
	enoughDescriptors = 16_384
	// maxDescriptors bounds what is made of a larger limit: each connection
	// costs memory, too.
	maxDescriptors = 65_536
)

// allowedDescriptors returns how many descriptors the process may have.
func allowedDescriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > maxDescriptors {
		return maxDescriptors
	}
	return int(limit.Cur) // which the runtime has raised to the hard limit
}

// warnDescriptors says at the start what will be felt under load.
func warnDescriptors(log *slog.Logger) {
	if allowed := allowedDescriptors(); allowed < enoughDescriptors {
		log.Warn("the limit of file descriptors is low: with many connections new ones will wait; raise ulimit -n, or LimitNOFILE of systemd",
			"allowed", allowed, "wanted", enoughDescriptors)
	}
}

// connections keeps the connections of clients within bounds, so that neither
// many of them nor one address takes all descriptors. [http.Server] tells it by
// ConnState what becomes of each. To make room for a new one it closes the one
// that has been idle for the longest time. Where none is idle, the new one is
// limited: it may only ask for /livez and /readyz.
type connections struct {
	evictAt    int // from so many on, idle ones are closed for new ones
	most       int // that are not limited
	perAddress int // of them, except those of proxies
	spare      int // that are limited
	proxies    []netip.Prefix

	mu      sync.Mutex
	open    map[net.Conn]*connection
	full    int // connections that are not limited
	idle    lists.List
	byAddr  map[netip.Prefix]*addressConnections
	limited lists.List      // the oldest first
	names   map[string]bool // remote addresses of those that are limited

	limitedNow            atomic.Int64 // the length of limited, without the lock
	evicted, limitedSoFar atomic.Int64
}

// addressConnections are those of one address.
type addressConnections struct {
	full int
	idle lists.List
}

// connection is one that is open and not being closed.
type connection struct {
	conn           net.Conn
	from           netip.Prefix   // invalid: a proxy's, which is not counted
	idle, idleFrom *lists.Element // in the lists of idle ones; nil: it is not idle
	limited        *lists.Element // nil: it is not limited
}

// newConnections divides the descriptors that the process may have: three
// quarters until idle connections are closed, an eighth that is left to
// deliveries, the database and files.
func newConnections(descriptors int, proxies []netip.Prefix) *connections {
	most := descriptors * 7 / 8
	return &connections{
		evictAt: descriptors * 3 / 4, most: most, perAddress: most * 3 / 4, spare: min(max(descriptors/32, 4), 64), proxies: proxies,
		open: map[net.Conn]*connection{}, byAddr: map[netip.Prefix]*addressConnections{}, names: map[string]bool{},
	}
}

// changed implements ConnState of [http.Server].
func (c *connections) changed(conn net.Conn, state http.ConnState) { closeAll(c.note(conn, state)) }

// closeAll closes connections at once. TLS would first send a farewell, which
// may have to wait.
func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		_ = conn.Close()
	}
}

// note follows a connection, and returns those that must be closed.
func (c *connections) note(conn net.Conn, state http.ConnState) (closing []net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateNew {
		return c.add(conn)
	}
	known := c.open[conn]
	if known == nil {
		return nil // it is being closed
	}
	switch state {
	case http.StateActive:
		c.wake(known)
	case http.StateIdle:
		c.rest(known)
	default: // closed, or hijacked
		c.remove(known)
	}
	return nil
}

// add counts a new connection, and returns those that must be closed for it.
func (c *connections) add(conn net.Conn) (closing []net.Conn) {
	added := &connection{conn: conn, from: c.addressOf(conn)}
	c.open[conn] = added
	at := c.byAddr[added.from]
	if at != nil && at.full >= c.perAddress {
		closing = append(closing, c.evict(&at.idle)...)
	}
	if c.full >= c.evictAt {
		closing = append(closing, c.evict(&c.idle)...)
	}
	if c.full >= c.most || at != nil && at.full >= c.perAddress {
		return append(closing, c.limit(added)...)
	}
	c.full++
	if added.from.IsValid() {
		if at = c.byAddr[added.from]; at == nil { // it may have gone with its last connection
			at = &addressConnections{}
			c.byAddr[added.from] = at
		}
		at.full++
	}
	return closing
}

// addressOf is what a connection counts as; invalid for a proxy, which has those
// of many clients.
func (c *connections) addressOf(conn net.Conn) netip.Prefix {
	remote := conn.RemoteAddr().String()
	from := limit.Address(remote)
	peer, _ := netip.ParseAddrPort(remote)
	if slices.ContainsFunc(c.proxies, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap()) }) {
		return netip.Prefix{}
	}
	return from
}

// limit lets a connection ask for /livez and /readyz alone. Where there are too
// many of these, the oldest is closed: whoever wants an answer has got it.
func (c *connections) limit(added *connection) (closing []net.Conn) {
	if c.limited.Len() >= c.spare {
		oldest := c.limited.Front().Value.(*connection)
		c.remove(oldest)
		closing = append(closing, oldest.conn)
	}
	added.limited = c.limited.PushBack(added)
	c.names[added.conn.RemoteAddr().String()] = true
	c.limitedNow.Add(1)
	c.limitedSoFar.Add(1)
	return closing
}

// evict takes the connection out that has been idle in a list for the longest
// time, if there is one.
func (c *connections) evict(idle *lists.List) (closing []net.Conn) {
	oldest := idle.Front()
	if oldest == nil {
		return nil
	}
	known := oldest.Value.(*connection)
	c.remove(known)
	c.evicted.Add(1)
	return []net.Conn{known.conn}
}

// rest notes that a connection waits for its next request.
func (c *connections) rest(known *connection) {
	if known.idle != nil || known.limited != nil {
		return
	}
	known.idle = c.idle.PushBack(known)
	if at := c.byAddr[known.from]; at != nil {
		known.idleFrom = at.idle.PushBack(known)
	}
}

// wake notes that a connection has a request.
func (c *connections) wake(known *connection) {
	if known.idle != nil {
		c.idle.Remove(known.idle)
		known.idle = nil
	}
	if known.idleFrom != nil {
		c.byAddr[known.from].idle.Remove(known.idleFrom)
		known.idleFrom = nil
	}
}

// remove forgets a connection.
func (c *connections) remove(known *connection) {
	c.wake(known)
	delete(c.open, known.conn)
	if known.limited != nil {
		c.limited.Remove(known.limited)
		delete(c.names, known.conn.RemoteAddr().String())
		c.limitedNow.Add(-1)
		return
	}
	c.full--
	if at := c.byAddr[known.from]; at != nil {
		if at.full--; at.full == 0 {
			delete(c.byAddr, known.from)
		}
	}
}

// admits reports whether a connection, by its remote address, may ask for
// everything.
func (c *connections) admits(remote string) bool {
	if c.limitedNow.Load() == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.names[remote]
}

// relieve closes a sixteenth of the idle connections, and at least one, since
// there are no descriptors left.
func (c *connections) relieve() {
	c.mu.Lock()
	var closing []net.Conn
	for range c.idle.Len()/16 + 1 {
		closing = append(closing, c.evict(&c.idle)...)
	}
	c.mu.Unlock()
	closeAll(closing)
}

// count returns how many are open.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// loudListener tells when no connection can be accepted, as when there are no
// descriptors left, and then has some closed. The server pauses, up to a second,
// and tries again.
type loudListener struct {
	net.Listener
	log     *slog.Logger
	relieve func()
}

// Accept implements net.Listener.
func (l loudListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Warn("no connection can be accepted", "error", err)
	}
	if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		l.relieve()
	}
	return conn, err
}
