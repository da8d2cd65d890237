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

// attemptContext is the key under which a request's context has itself. The
// transport dials, and shakes hands, with a context that has the values of the
// request's but not its end, since another request may use the connection. Ours
// do not: an attempt takes nothing along that it leaves behind.
type attemptContext struct{}

// How long a connection may be used, so that a receiver whose name leads
// elsewhere is followed within a minute; and how long before the receiver would
// close an idle one, by its Keep-Alive header, it is no longer used.
const (
	maxConnAge      = 30 * time.Second
	keepAliveMargin = time.Second
)

// newTransport makes the transport for all webhooks. It asks the guard about
// each address it connects to, uses no proxy, unpacks nothing, and keeps enough
// idle connections for a lane at full speed. There is no http.Client above it:
// that would fail where the Location of a redirect cannot be parsed.
func newTransport(g *Guard) *http.Transport {
	resolver, _ := g.Resolver.(*net.Resolver) // any other can only look up for Target
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

// dial connects for an attempt, and shakes hands if there is a TLS
// configuration. If the attempt ends before that is done, the connection is
// closed, in whatever phase it is.
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

// shakeHands makes a connection one of TLS, or closes it.
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
// it, so it knows whether anything of one was written: above TLS, which writes
// for itself, too.
//
// A receiver may answer before it has read all of the request, and close the
// connection: what is then written is lost, and the answer counts. So a write
// that finds the connection closed, after another that did not, fails only when
// there is nothing more to read.
type receiverConn struct {
	net.Conn
	oldAt   time.Time                 // when it is too old for another request; zero: never
	idleTo  atomic.Pointer[time.Time] // when the receiver closes it, if it stays idle; nil: unknown
	written atomic.Bool               // something of the request
	over    chan struct{}             // is closed when there is nothing more to read
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
		<-c.over // at the latest at the attempt's deadline, which closes the connection
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

// begin is called before a request goes over the connection. If that must not be
// used again, it is closed: the request then goes over another.
func (c *receiverConn) begin(now time.Time, reused bool) {
	c.written.Store(false)
	idleTo := c.idleTo.Load()
	if reused && (!c.oldAt.IsZero() && !now.Before(c.oldAt) || idleTo != nil && !now.Before(*idleTo)) {
		_ = c.Close()
	}
}

// keptAlive follows an answer's Keep-Alive header, for example "timeout=5, max=100":
// the receiver closes the connection after so many idle seconds, and a request
// that meets this would be lost.
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
