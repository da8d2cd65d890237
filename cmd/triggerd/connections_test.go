package main

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
)

// poor is a listener without descriptors.
type poor struct{ net.Listener }

func (poor) Accept() (net.Conn, error) {
	return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
}

func TestAcceptErrorsAreTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	if _, err := (loudListener{poor{}, logger}).Accept(); err == nil || !strings.Contains(log.String(), "too many open files") {
		t.Errorf("%v is not in the log: %s", err, log.String())
	}
	log.Reset()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if _, err := (loudListener{closed, logger}).Accept(); err == nil || log.Len() > 0 {
		t.Errorf("%v: the end of a listener is no trouble: %s", err, log.String())
	}
}
