package store

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// dialer connects to PostgreSQL so that the kernel notices within about ten
// seconds if the peer vanishes. We never cancel statements that write, because
// a cancelled wait for a standby looks like a success.
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
		Control: func(network, _ string, c syscall.RawConn) error {
			if network == "unix" {
				return nil
			}
			var err error
			if e := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000)
			}); e != nil {
				return e
			}
			return err
		},
	}
}
