package torture

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// spell is a mood that half of the webhooks' endpoints are in, whatever else
// they would be.
type spell struct {
	mood mood
	salt int
}

// cast begins a spell and returns when it is over. The connections that it
// holds up are left to the server to close.
func cast(m mood) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, random *rand.Rand) error {
		s := &spell{m, random.IntN(2)}
		if !r.receiver.spell.CompareAndSwap(nil, s) { // there is one already
			return nil
		}
		r.receiver.rest() // so that handshakes come
		_ = pause(ctx, time.Duration(2500+random.IntN(3000))*time.Millisecond)
		r.receiver.spell.Store(nil)
		return nil
	}
}

// under reports whether a spell of some mood holds for the n-th of something.
func (r *receiver) under(m mood, n int) bool {
	s := r.spell.Load()
	return s != nil && s.mood == m && n%2 == s.salt && !r.kind.Load() && !r.healed.Load()
}

// heldConn is a connection that only the server can end.
type heldConn struct {
	net.Conn
	what  string
	event string // that was sent on it; "": it did not come so far
	hook  *hook
	since time.Time
}

// held are all connections of a run that only the server could end.
type held struct {
	mu   sync.Mutex
	open map[*heldConn]bool
	over []heldConn // judged, and without their connection
}

// hold waits until the server ends a connection, and says something on it
// meanwhile, if there is something to say.
func (r *receiver) hold(h *heldConn, every time.Duration, say string) {
	h.since = r.now()
	r.held.mu.Lock()
	if r.held.open == nil {
		r.held.open = map[*heldConn]bool{}
	}
	r.held.open[h] = true
	r.held.mu.Unlock()
	ended := make(chan struct{})
	go func() { // until the server ends it, or the receiver is closed
		defer close(ended)
		_, _ = io.Copy(io.Discard, h.Conn)
	}()
	for waiting := true; waiting; {
		if every == 0 {
			<-ended
			break
		}
		timer := time.NewTimer(every)
		select {
		case <-ended:
			waiting = false
		case <-timer.C:
			_, _ = io.WriteString(h.Conn, say)
		}
		timer.Stop()
	}
	_ = h.Conn.Close()
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	if r.held.open[h] {
		delete(r.held.open, h)
		r.judgeHeld(h)
	}
}

// judgeHeld judges how long the server has kept a connection: one attempt has
// one deadline. Where a fault may have stopped the server itself, nobody knows.
// The caller holds held.mu.
func (r *receiver) judgeHeld(h *heldConn) {
	now := r.now()
	if took := now.Sub(h.since); took > attemptTimeout+2*margin && !r.windows.cover(h.since, now) {
		r.book.stray(fmt.Sprintf("%s: %s was kept for %v", outlived, h.what, took))
	}
	r.held.over = append(r.held.over, heldConn{event: h.event, hook: h.hook, since: h.since})
}

// closeHeld judges what is still open, and closes it.
func (r *receiver) closeHeld() {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	for h := range r.held.open {
		r.judgeHeld(h)
		_ = h.Conn.Close()
	}
	clear(r.held.open)
}

// hang takes a request's connection over and holds it.
func (r *receiver) hang(w http.ResponseWriter, h *hook, event, what string, every time.Duration, say string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if _, err := io.WriteString(conn, say); err != nil {
		_ = conn.Close()
		return
	}
	r.hold(&heldConn{Conn: conn, what: fmt.Sprintf("%s by webhook %d", what, h.n), event: event, hook: h}, every, say)
}

// What endpoints say that never come to an end.
const (
	switchingAnswer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: torture\r\n\r\n"
	earlyAnswer     = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"
	earlyEvery      = attemptTimeout / 4 // so that they are few within the timeout
)

// staller is a listener for TLS, which during a spell leaves handshakes
// unanswered.
type staller struct {
	net.Listener
	receiver *receiver
}

// Accept returns the next connection that is served.
func (s *staller) Accept() (net.Conn, error) {
	for n := 0; ; n++ {
		conn, err := s.Listener.Accept()
		if err != nil || !s.receiver.under(stalling, n) {
			return conn, err
		}
		go s.receiver.hold(&heldConn{Conn: conn, what: "a handshake that was not answered"}, 0, "")
	}
}

// listenTLS starts the receiver's second port, for https, and writes the
// certificate that it is known by to a file.
func (r *receiver) listenTLS(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: r.now().Add(-48 * time.Hour), NotAfter: r.now().Add(480 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.secure = listener
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	go func() { _ = r.server.Serve(tls.NewListener(&staller{listener, r}, config)) }() // until close
	return nil
}

// maxHeld is how many deliveries that were held up are looked at in the end.
const maxHeld = 50

// judgeAttempts looks whether each request that was held up ended in an
// attempt that is recorded and kept its deadline.
func (r *run) judgeAttempts(ctx context.Context) {
	r.receiver.closeHeld()
	r.receiver.held.mu.Lock()
	defer r.receiver.held.mu.Unlock()
	n := 0
	for i := range r.receiver.held.over {
		h := &r.receiver.held.over[i]
		if h.event == "" || r.windows.cover(h.since, h.since.Add(attemptTimeout+2*margin)) {
			continue
		}
		if n++; n > maxHeld {
			return
		}
		attempts, err := pagesOf[struct {
			At      time.Time
			Webhook int64   `json:"webhook_id"`
			Took    float64 `json:"took_seconds"`
		}](ctx, r, h.hook.tenant, "/v1/events/"+h.event+"/attempts")
		recorded := false
		for _, a := range attempts {
			recorded = recorded || a.Webhook == h.hook.id && a.At.Sub(h.since).Abs() < attemptTimeout+margin
			if took := time.Duration(a.Took * float64(time.Second)); took > attemptTimeout+2*margin && !r.windows.cover(a.At, a.At.Add(took)) {
				r.report.breach(outlived, "an attempt of event %s at webhook %d took %v", h.event, h.hook.n, took)
			}
		}
		if err != nil || !recorded {
			r.report.breach(outlived, "the attempt of event %s at webhook %d, of %s, is not recorded: %v",
				h.event, h.hook.n, h.since.UTC().Format(time.RFC3339Nano), err)
		}
	}
}
