package deliver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"triggerd/internal/trigger"
)

// attemptContext is the key under which a request's context contains itself.
// The transport dials, and makes TLS handshakes, with a context that has the
// request's values but not its end, because another request may use the
// connection. Ours end with the attempt, so that it leaves nothing behind.
type attemptContext struct{}

// How long a connection may be used, so that a change of a receiver's address
// takes effect within a minute; and how long before the receiver would close an
// idle one, by its Keep-Alive header, it is no longer used.
const (
	maxConnAge      = 30 * time.Second
	keepAliveMargin = time.Second
)

// newTransport returns the transport for all webhooks. It checks each address
// with the guard, uses no proxy, does not decompress, and keeps enough idle
// connections for a lane at full speed. It is used without an http.Client,
// because that fails if the Location of a redirect cannot be parsed.
func newTransport(g *Guard) *http.Transport {
	resolver, _ := g.Resolver.(*net.Resolver) // another resolver is used only by Target
	dialer := &net.Dialer{Control: g.Control, Resolver: resolver}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	t := &http.Transport{
		Protocols:              &protocols,
		TLSClientConfig:        &tls.Config{GetClientCertificate: noCertificate},
		DisableCompression:     true,
		MaxIdleConns:           maxAttempts,
		MaxIdleConnsPerHost:    trigger.MaxConcurrency,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		WriteBufferSize:        8 << 10,
	}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dial(ctx, dialer, nil, network, address)
	}
	t.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return dial(ctx, dialer, t.TLSClientConfig, network, address)
	}
	return t
}

// dial connects for an attempt, with a TLS handshake if there is a TLS
// configuration. If the attempt ends first, dial closes the connection, in any
// phase.
func dial(ctx context.Context, dialer *net.Dialer, config *tls.Config, network, address string) (net.Conn, error) {
	attempt, isAttempt := ctx.Value(attemptContext{}).(context.Context)
	if isAttempt {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(attempt, cancel)()
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err == nil && config != nil {
		conn, err = shakeHands(ctx, conn, config, address)
	}
	if err != nil {
		return nil, err
	}
	return newReceiverConn(ctx, conn), nil
}

// shakeHands makes a TLS connection of conn, or closes it.
func shakeHands(ctx context.Context, conn net.Conn, config *tls.Config, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	config = config.Clone()
	config.ServerName = host
	secured := tls.Client(conn, config)
	err = secured.HandshakeContext(ctx)
	if watch, ok := ctx.Value(stopwatchKey{}).(*stopwatch); ok {
		watch.noteIf(&watch.tls, err)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// receiverConn is a connection to a receiver. The transport writes requests to
// it, so it knows whether any part of one was written. It wraps TLS, because
// the handshake writes too.
//
// A receiver may answer before it has read the whole request, and close the
// connection. The rest of the request is then lost, but the answer counts. So
// if a write finds the connection closed after an earlier write, it fails only
// when there is nothing more to read.
type receiverConn struct {
	net.Conn
	oldAt   time.Time                 // when it becomes too old for another request; zero: never
	idleTo  atomic.Pointer[time.Time] // when the receiver closes it if idle; nil: unknown
	written atomic.Bool               // some of the request
	over    chan struct{}             // closed when there is nothing more to read
	end     func()                    // closes over
}

func newReceiverConn(ctx context.Context, conn net.Conn) *receiverConn {
	over := make(chan struct{})
	c := &receiverConn{Conn: conn, over: over, end: sync.OnceFunc(func() { close(over) })}
	if watch, ok := ctx.Value(stopwatchKey{}).(*stopwatch); ok {
		c.oldAt = watch.now().Add(maxConnAge)
	}
	return c
}

// Write implements [net.Conn].
func (c *receiverConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	closed := errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	if n > 0 {
		c.written.Store(true)
	}
	if closed && c.written.Load() {
		<-c.over // at the latest until the attempt's deadline, which closes the connection
	}
	return n, err
}

// Read implements [net.Conn].
func (c *receiverConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.end()
	}
	return n, err
}

// Close implements [net.Conn].
func (c *receiverConn) Close() error {
	c.end()
	return c.Conn.Close()
}

// begin is called before a request uses the connection. It closes a connection
// that must not be used again, so that the request uses another.
func (c *receiverConn) begin(now time.Time, reused bool) {
	c.written.Store(false)
	idleTo := c.idleTo.Load()
	if reused && (!c.oldAt.IsZero() && !now.Before(c.oldAt) || idleTo != nil && !now.Before(*idleTo)) {
		_ = c.Close()
	}
}

// keptAlive parses an answer's Keep-Alive header, for example "timeout=5,
// max=100". The receiver closes the connection after so many idle seconds, and
// a request sent just then would be lost.
func (c *receiverConn) keptAlive(header string, now time.Time) {
	for parameter := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		seconds, err := strconv.ParseUint(value, 10, 16)
		if err == nil && strings.EqualFold(name, "timeout") {
			to := now.Add(time.Duration(seconds)*time.Second - keepAliveMargin)
			c.idleTo.Store(&to)
		}
	}
}
