package store

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxSilence is for how long an answer of PostgreSQL is waited for. Its own
// timeouts end every statement long before, but for a commit's wait for its
// standby. A longer silence is that of a connection which something between
// keeps open though nobody is there: what became of the work is unknown, and
// the connection is of no use.
const maxSilence = 30 * time.Second

// patientDial connects as dialer does, and ends silences.
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

// patientConn lets each Read wait for some time only, by a timer: no clock that
// may be off has a say. Nobody reads from an idle connection.
type patientConn struct {
	net.Conn
	silence *atomic.Int64
	timer   *time.Timer

	mu       sync.Mutex
	deadline time.Time // as the owner has set it
}

// end lets a Read that waits return. One that comes later does not notice.
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

// SetReadDeadline implements net.Conn. It ends a Read that waits.
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
