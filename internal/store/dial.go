package store

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxSilence bounds the wait for an answer of PostgreSQL. The server's own
// timeouts end every statement long before, except a commit's wait for its
// standby. A longer silence means that something between keeps the connection
// open though the server is gone. Then the outcome of the work is unknown, and
// the connection must be closed.
const maxSilence = 30 * time.Second

// patientDial connects as dialer does, and ends a Read after the silence.
func patientDial(silence *atomic.Int64) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer().DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &patientConn{Conn: conn, silence: silence}
		c.timer = time.AfterFunc(maxSilence, c.end)
		c.timer.Stop()
		return c, nil
	}
}

// patientConn bounds the wait of each Read by a timer, which does not depend on
// a wall clock. Idle connections have no Read.
type patientConn struct {
	net.Conn
	silence *atomic.Int64
	timer   *time.Timer

	mu       sync.Mutex
	deadline time.Time // as set by the owner
}

// end ends a Read that waits. It does not affect later ones.
func (c *patientConn) end() { _ = c.Conn.SetReadDeadline(time.Unix(1, 0)) }

// Read implements net.Conn.
func (c *patientConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	err := c.Conn.SetReadDeadline(c.deadline)
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	c.timer.Reset(time.Duration(c.silence.Load()))
	defer c.timer.Stop()
	return c.Conn.Read(b)
}

// SetReadDeadline implements net.Conn. It also applies to a Read that waits.
func (c *patientConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *patientConn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return c.Conn.SetDeadline(t)
}
