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

// spell is a mood that half of the endpoints have for a while, instead of their
// own.
type spell struct {
	mood mood
	salt int
}

// cast returns a fault that casts a spell and returns when the spell is over.
// It closes none of the connections kept by the spell, because the server must.
func cast(m mood) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, random *rand.Rand) error {
		r.receiver.casting.Lock() // one at a time
		defer r.receiver.casting.Unlock()
		r.receiver.spell.Store(&spell{m, random.IntN(2)})
		r.receiver.rest() // because, for example, only new connections have handshakes
		_ = pause(ctx, time.Duration(2500+random.IntN(3000))*time.Millisecond)
		r.receiver.spell.Store(nil)
		return nil
	}
}

// under reports whether the endpoint or connection with number n is under a
// spell with this mood.
func (r *receiver) under(m mood, n int) bool {
	s := r.spell.Load()
	return s != nil && s.mood == m && n%2 == s.salt && r.calm.Load() == 0 && !r.healed.Load()
}

// heldConn is a connection that the receiver does not close.
type heldConn struct {
	net.Conn
	what  string
	event string // the id of the event in its request; may be empty
	hook  *hook
	since time.Time
}

// held has all connections of a run that the receiver does not close.
type held struct {
	mu   sync.Mutex
	open map[*heldConn]bool
	over []heldConn // closed and checked
}

// hold waits until the server closes a connection. Meanwhile it writes say to
// it at each interval; if every is zero, it writes nothing.
func (r *receiver) hold(h *heldConn, every time.Duration, say string) {
	h.since = r.now()
	r.held.mu.Lock()
	if r.held.open == nil {
		r.held.open = map[*heldConn]bool{}
	}
	r.held.open[h] = true
	r.held.mu.Unlock()
	ended := make(chan struct{})
	go func() { // until either side closes the connection
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

// heldPatience is how long the server may keep a connection: for one attempt,
// whose deadline includes everything.
const heldPatience = attemptTimeout + 2*margin

// judgeHeld checks how long the server has kept a connection, unless a fault
// may have stopped the server itself. The caller must hold held.mu.
func (r *receiver) judgeHeld(h *heldConn) {
	now := r.now()
	if took := now.Sub(h.since); took > heldPatience && !r.windows.cover(h.since, now) {
		r.book.stray(fmt.Sprintf("%s: %s was kept for %v", outlived, h.what, took))
	}
	r.held.over = append(r.held.over, heldConn{event: h.event, hook: h.hook, since: h.since})
}

// countHeld returns the number of open connections that are held.
func (r *receiver) countHeld() int {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	return len(r.held.open)
}

// closeHeld closes all held connections after calling each for them.
func (r *receiver) closeHeld(each func(*heldConn)) {
	r.held.mu.Lock()
	defer r.held.mu.Unlock()
	for h := range r.held.open {
		each(h)
		_ = h.Conn.Close()
	}
	clear(r.held.open)
}

// hang hijacks the connection of a request and holds it.
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

// The answers that never end.
const (
	switchingAnswer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: torture\r\n\r\n"
	earlyAnswer     = "HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n"
	earlyEvery      = attemptTimeout / 4 // so that the client does not refuse them as too many
)

// staller is a listener for TLS. During a spell it leaves every other handshake
// unanswered.
type staller struct {
	net.Listener
	receiver *receiver
	n        int // connections so far
}

// Accept returns the next connection to serve. It must not be called
// concurrently.
func (s *staller) Accept() (net.Conn, error) {
	for {
		conn, err := s.Listener.Accept()
		s.n++
		if err != nil || !s.receiver.under(stalling, s.n) {
			return conn, err
		}
		go s.receiver.hold(&heldConn{Conn: conn, what: "a handshake that was not answered"}, 0, "")
	}
}

// listenTLS starts the receiver's second port, for https, and writes its
// certificate to a file.
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
	go func() { _ = r.server.Serve(tls.NewListener(&staller{Listener: listener, receiver: r}, config)) }() // until close
	return nil
}

// maxHeld is how many held attempts are checked.
const maxHeld = 50

// judgeAttempts checks the held attempts: each must have closed its connection,
// must be recorded, and must have kept its deadline. All faults are healed, so
// none excuses a connection that is still open.
func (r *run) judgeAttempts(ctx context.Context) {
	_ = until(ctx, heldPatience, "", func(context.Context) bool { return r.receiver.countHeld() == 0 })
	r.receiver.closeHeld(func(h *heldConn) {
		r.report.breach(outlived, "%s is still kept, after %v", h.what, r.Now().Sub(h.since))
	})
	r.receiver.held.mu.Lock()
	defer r.receiver.held.mu.Unlock()
	r.report.HeldUp = len(r.receiver.held.over)
	n := 0
	for i := range r.receiver.held.over {
		h := &r.receiver.held.over[i]
		if h.event == "" || r.windows.cover(h.since, h.since.Add(heldPatience)) {
			continue
		}
		if n++; n > maxHeld {
			return
		}
		r.judgeAttempt(ctx, h)
	}
}

// shownAttempt is an attempt in an answer of the API.
type shownAttempt struct {
	At      time.Time
	Webhook int64   `json:"webhook_id"`
	Took    float64 `json:"took_seconds"`
}

// judgeAttempt checks the record of one held attempt.
func (r *run) judgeAttempt(ctx context.Context, h *heldConn) {
	attempts, err := pagesOf[shownAttempt](ctx, r, h.hook.tenant, "/v1/events/"+h.event+"/attempts")
	recorded := false
	for _, a := range attempts {
		recorded = recorded || a.Webhook == h.hook.id && a.At.Sub(h.since).Abs() < attemptTimeout+margin
		if took := time.Duration(a.Took * float64(time.Second)); took > heldPatience && !r.windows.cover(a.At, a.At.Add(took)) {
			r.report.breach(outlived, "an attempt of event %s at webhook %d took %v", h.event, h.hook.n, took)
		}
	}
	if err != nil || !recorded {
		r.report.breach(outlived, "the attempt of event %s at webhook %d, at %s, is not recorded: %v",
			h.event, h.hook.n, h.since.UTC().Format(time.RFC3339Nano), err)
	}
}
