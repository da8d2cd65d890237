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
func patientDial(now func() time.Time, silence *atomic.Int64) pgconn.DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer().DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &patientConn{Conn: conn, now: now, silence: silence}, nil
	}
}

// patientConn lets each Read wait for some time only, and for less where its
// owner says so. Nobody reads from an idle connection.
type patientConn struct {
	net.Conn
	now     func() time.Time
	silence *atomic.Int64

	mu       sync.Mutex
	deadline time.Time // the owner's; zero: none
}

// Read implements net.Conn.
func (c *patientConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	deadline := c.now().Add(time.Duration(c.silence.Load()))
	if !c.deadline.IsZero() && c.deadline.Before(deadline) {
		deadline = c.deadline
	}
	err := c.Conn.SetReadDeadline(deadline)
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
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
