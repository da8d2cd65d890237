package deliver

import (
	"crypto/tls"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"triggerd/internal/trigger"
)

// stopwatch measures the phases of an attempt. The transport may call it from
// goroutines that outlive the request, for example if a dial began and another
// connection became free first.
type stopwatch struct {
	now   func() time.Time
	begun time.Time

	dns, connect, tls, firstByte atomic.Int64
	certificateWanted            atomic.Bool // the receiver requested a client certificate

	connected bool          // the request got a connection
	conn      *receiverConn // the connection; nil if another transport made it
	reused    bool          // it had an earlier request

	leadsTo string // the target of a redirect, by redirectTo
}

// stopwatchKey is the key under which a request's context has its stopwatch.
type stopwatchKey struct{}

// noCertificate notes that a receiver requested a client certificate, and
// returns an empty one.
func noCertificate(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
	if watch, ok := info.Context().Value(stopwatchKey{}).(*stopwatch); ok {
		watch.certificateWanted.Store(true)
	}
	return &tls.Certificate{}, nil
}

func (s *stopwatch) note(at *atomic.Int64) { at.Store(int64(s.now().Sub(s.begun))) }

func (s *stopwatch) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		DNSDone:              func(httptrace.DNSDoneInfo) { s.note(&s.dns) },
		ConnectDone:          func(_, _ string, err error) { s.noteIf(&s.connect, err) },
		GotConn:              s.gotConn,
		GotFirstResponseByte: func() { s.note(&s.firstByte) },
	}
}

// gotConn notes the connection, after its handshake. The transport calls it
// from the goroutine of the request.
func (s *stopwatch) gotConn(info httptrace.GotConnInfo) {
	s.connected = true
	if conn, ok := info.Conn.(*receiverConn); ok {
		conn.begin(s.now(), info.Reused)
		s.conn, s.reused = conn, info.Reused
	}
}

func (s *stopwatch) noteIf(at *atomic.Int64, err error) {
	if err == nil {
		s.note(at)
	}
}

func (s *stopwatch) timing() trigger.Timing {
	return trigger.Timing{
		DNS: time.Duration(s.dns.Load()), Connect: time.Duration(s.connect.Load()),
		TLS: time.Duration(s.tls.Load()), FirstByte: time.Duration(s.firstByte.Load()),
	}
}
