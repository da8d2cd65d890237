package main

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
)

// enoughDescriptors is how many a server should be allowed: 10,000 connections
// of clients, those of 2,048 attempts, and some for the database.
const enoughDescriptors = 16_384

// warnDescriptors says at the start what will be felt under load.
func warnDescriptors(log *slog.Logger) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && uint64(limit.Max) < enoughDescriptors {
		log.Warn("few descriptors are allowed: with many connections new ones will wait; raise ulimit -n, or LimitNOFILE of systemd",
			"allowed", limit.Max, "wanted", enoughDescriptors)
	}
}

// loudListener tells when no connection can be accepted, as when there are no
// descriptors left. The server pauses, up to a second, and tries again.
type loudListener struct {
	net.Listener
	log *slog.Logger
}

// Accept implements net.Listener.
func (l loudListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		l.log.Warn("no connection can be accepted", "error", err)
	}
	return conn, err
}
