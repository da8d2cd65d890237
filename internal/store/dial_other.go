//go:build !linux

package store

import (
	"net"
	"time"
)

// dialer connects to PostgreSQL with keep-alives, as far as this system
// supports them.
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 2 * time.Second, Count: 3},
	}
}
