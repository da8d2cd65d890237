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
	// enoughDescriptors is the recommended number of descriptors: 10,000 client
	// connections, 3,072 attempts, and some for the database.
	enoughDescriptors = 16_384
	// maxDescriptors bounds the use of a larger limit, because each connection
	// also costs memory.
	maxDescriptors = 65_536
)

// allowedDescriptors returns the limit of descriptors of the process.
func allowedDescriptors() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > maxDescriptors {
		return maxDescriptors
	}
	return int(limit.Cur) // the runtime has raised it to the hard limit
}

// warnDescriptors warns at the start about a low limit.
func warnDescriptors(log *slog.Logger) {
	if allowed := allowedDescriptors(); allowed < enoughDescriptors {
		log.Warn("the limit of file descriptors is low: with many connections new ones will wait; raise ulimit -n, or LimitNOFILE of systemd",
			"allowed", allowed, "wanted", enoughDescriptors)
	}
}

// connections bounds the client connections, so that neither many of them nor
// one address takes all descriptors. [http.Server] reports the state of each to
// its method changed. To make room for a new connection it closes the one that
// has been idle longest. If none is idle, the new one is limited: it may only
// request /livez and /readyz.
type connections struct {
	evictAt    int // from this number on, idle ones are closed for new ones
	most       int // maximum number of connections that are not limited
	perAddress int // the same for one address, except for proxies
	spare      int // maximum number of limited connections
	proxies    []netip.Prefix

	mu      sync.Mutex
	open    map[net.Conn]*connection
	full    int // connections that are not limited
	idle    lists.List
	byAddr  map[netip.Prefix]*addressConnections
	limited lists.List      // the oldest first
	names   map[string]bool // remote addresses of limited connections

	limitedNow            atomic.Int64 // the length of limited, without the lock
	evicted, limitedSoFar atomic.Int64
}

// addressConnections are the connections of one address.
type addressConnections struct {
	full int
	idle lists.List
}

// connection is an open connection that is not being closed.
type connection struct {
	conn           net.Conn
	from           netip.Prefix   // invalid: a proxy, which is not counted
	idle, idleFrom *lists.Element // in the lists of idle ones; nil: not idle
	limited        *lists.Element // nil: not limited
}

// newConnections divides the descriptors of the process: from three quarters on
// idle connections are closed, and an eighth is reserved for deliveries, the
// database and files.
func newConnections(descriptors int, proxies []netip.Prefix) *connections {
	most := descriptors * 7 / 8
	return &connections{
		evictAt: descriptors * 3 / 4, most: most, perAddress: most * 3 / 4, spare: min(max(descriptors/32, 4), 64), proxies: proxies,
		open: map[net.Conn]*connection{}, byAddr: map[netip.Prefix]*addressConnections{}, names: map[string]bool{},
	}
}

// changed implements ConnState of [http.Server].
func (c *connections) changed(conn net.Conn, state http.ConnState) { closeAll(c.note(conn, state)) }

// closeAll closes connections at once. TLS would first send a close_notify,
// which may block.
func closeAll(conns []net.Conn) {
	for _, conn := range conns {
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		_ = conn.Close()
	}
}

// note records the new state of a connection, and returns connections that must
// be closed.
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

// add counts a new connection, and returns connections that must be closed for
// it.
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
		if at = c.byAddr[added.from]; at == nil { // its last connection may just have been evicted
			at = &addressConnections{}
			c.byAddr[added.from] = at
		}
		at.full++
	}
	return closing
}

// addressOf returns the prefix under which a connection is counted; invalid for
// a proxy, which has the connections of many clients.
func (c *connections) addressOf(conn net.Conn) netip.Prefix {
	remote := conn.RemoteAddr().String()
	from := limit.Address(remote)
	peer, _ := netip.ParseAddrPort(remote)
	if slices.ContainsFunc(c.proxies, func(p netip.Prefix) bool { return p.Contains(peer.Addr().Unmap()) }) {
		return netip.Prefix{}
	}
	return from
}

// limit restricts a connection to /livez and /readyz. If there are too many
// limited connections, the oldest is closed, because its answer has been sent.
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

// evict removes the connection of a list that has been idle longest, if there
// is one.
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

// rest records that a connection is idle.
func (c *connections) rest(known *connection) {
	if known.idle != nil || known.limited != nil {
		return
	}
	known.idle = c.idle.PushBack(known)
	if at := c.byAddr[known.from]; at != nil {
		known.idleFrom = at.idle.PushBack(known)
	}
}

// wake records that a connection has a request.
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

// admits reports whether a connection, given by its remote address, may use all
// routes.
func (c *connections) admits(remote string) bool {
	if c.limitedNow.Load() == 0 {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.names[remote]
}

// relieve closes a sixteenth of the idle connections, and at least one, because
// no descriptors are left.
func (c *connections) relieve() {
	c.mu.Lock()
	var closing []net.Conn
	for range c.idle.Len()/16 + 1 {
		closing = append(closing, c.evict(&c.idle)...)
	}
	c.mu.Unlock()
	closeAll(closing)
}

// count returns the number of open connections.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// loudListener logs when no connection can be accepted, for example because no
// descriptors are left, and then closes idle ones. The server pauses, up to a
// second, and tries again.
type loudListener struct {
	net.Listener
	log     *slog.Logger
	relieve func()
}

// Accept implements [net.Listener].
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
