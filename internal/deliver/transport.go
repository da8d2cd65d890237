package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"triggerd/internal/trigger"
)

// attemptContext is the key under which a request's context has itself. The
// transport dials, and shakes hands, with a context that has the values of the
// request's but not its end, since another request may use the connection. Ours
// do not: an attempt takes nothing along that it leaves behind.
type attemptContext struct{}

// newTransport makes the transport for all webhooks. It asks the guard about
// each address it connects to, uses no proxy, unpacks nothing, and keeps enough
// idle connections for a lane at full speed. There is no http.Client above it:
// that would fail where the Location of a redirect cannot be parsed.
func newTransport(g *Guard) *http.Transport {
	resolver, _ := g.Resolver.(*net.Resolver) // any other can only look up for Target
	dialer := &net.Dialer{Control: g.Control, Resolver: resolver}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, dialer, network, address)
		},
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{GetClientCertificate: noCertificate},
		DisableCompression:     true,
		MaxIdleConns:           2048,
		MaxIdleConnsPerHost:    trigger.MaxConcurrency,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        8 << 10,
	}
}

// dial connects for an attempt. If the attempt ends before it has a connection,
// this one is closed, in whatever phase it is.
func dial(ctx context.Context, dialer *net.Dialer, network, address string) (net.Conn, error) {
	attempt, ok := ctx.Value(attemptContext{}).(context.Context)
	if !ok {
		return dialer.DialContext(ctx, network, address)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(attempt, cancel)()
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := attempt.Deadline(); ok {
		err = conn.SetDeadline(deadline) // of the handshake; GotConn ends it
	}
	return newAnsweredConn(conn), err
}

// answeredConn is a connection to a receiver, which may answer before it has
// read all of the request, and close the connection: what is then written is
// lost, and the answer counts. So a write that finds the connection closed, after
// another that did not, fails only when there is nothing more to read.
type answeredConn struct {
	net.Conn
	written atomic.Bool   // something of the request
	over    chan struct{} // is closed when there is nothing more to read
	end     func()        // closes over
}

func newAnsweredConn(conn net.Conn) *answeredConn {
	over := make(chan struct{})
	return &answeredConn{Conn: conn, over: over, end: sync.OnceFunc(func() { close(over) })}
}

// Write implements [net.Conn].
func (c *answeredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	closed := errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	if n > 0 {
		c.written.Store(true)
	}
	if closed && c.written.Load() {
		<-c.over // at the latest at the attempt's deadline, which closes the connection
	}
	return n, err
}

// Read implements [net.Conn].
func (c *answeredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.end()
	}
	return n, err
}

// Close implements [net.Conn].
func (c *answeredConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// beginRequest is called before a request goes over a connection.
func beginRequest(conn net.Conn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if c, ok := conn.(*answeredConn); ok {
		c.written.Store(false)
	}
}
