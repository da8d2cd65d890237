package torture

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// newReceiverAt returns a receiver without a port, whose clock and windows are a
// run's.
func newReceiverAt(r *run, now func() time.Time) *receiver {
	return &receiver{book: r.book, now: now, begun: at(0), windows: r.windows}
}

// A connection may be held up for one attempt. Only a fault that may have stopped
// the server excuses more.
func TestHeldConnectionsAreJudged(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, fault string
		from, to    float64
		broken      bool
	}{
		{"in time", "kill", 30, 32, false},
		{"too long", "kill", 30, 34, true},
		{"beside a fault", "kill", 14, 22, false},
		{"beside other endpoints that hang", faultHang + "101", 14, 22, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRun(tt.fault)
			clock := at(tt.from)
			receiver := newReceiverAt(r, func() time.Time { return clock })
			receiver.held.mu.Lock()
			defer receiver.held.mu.Unlock()
			clock = at(tt.to)
			receiver.judgeHeld(&heldConn{since: at(tt.from), what: "101"})
			if broken := len(r.book.strays) > 0; broken != tt.broken {
				t.Errorf("%q, want a breach: %v", r.book.strays, tt.broken)
			}
			if len(receiver.held.over) != 1 {
				t.Errorf("%d connections are over, want 1", len(receiver.held.over))
			}
		})
	}
}

// A connection that is open when all has settled is a breach, though there were
// faults meanwhile.
func TestHeldConnectionsAreReleased(t *testing.T) {
	t.Parallel()
	r := newRun("kill")
	r.Now = func() time.Time { return at(15) }
	r.receiver = newReceiverAt(r, r.Now)
	client, server := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.receiver.hold(&heldConn{Conn: server, what: "a handshake"}, 0, "")
	}()
	if err := until(t.Context(), startPatience, "held", func(context.Context) bool { return r.receiver.countHeld() == 1 }); err != nil {
		t.Fatal(err)
	}
	r.judgeAttempts(t.Context())
	<-ended
	_ = client.Close()
	if b := r.report.Breaches[outlived]; b == nil || b.Count != 1 || !strings.Contains(b.Examples[0], "a handshake is still kept") {
		t.Errorf("%+v, want one breach of a handshake", b)
	}
}

// pipes is a listener that accepts some connections and ends then.
type pipes struct{ left []net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	if len(p.left) == 0 {
		return nil, net.ErrClosed
	}
	conn := p.left[0]
	p.left = p.left[1:]
	return conn, nil
}

func (p *pipes) Close() error   { return nil }
func (p *pipes) Addr() net.Addr { return nil }

// A spell stalls every other handshake, whichever half it has chosen.
func TestStallerStallsHalf(t *testing.T) {
	t.Parallel()
	for salt := range 2 {
		r := newReceiverAt(newRun("kill"), time.Now)
		r.spell.Store(&spell{stalling, salt})
		s := &staller{Listener: &pipes{}, receiver: r}
		var clients []net.Conn
		for range 10 {
			client, server := net.Pipe()
			clients = append(clients, client)
			s.Listener.(*pipes).left = append(s.Listener.(*pipes).left, server)
		}
		served := 0
		for _, err := s.Accept(); err == nil; _, err = s.Accept() {
			served++
		}
		if served != 5 {
			t.Errorf("under a spell with salt %d, %d of 10 connections are served, want 5", salt, served)
		}
		if err := until(t.Context(), startPatience, "held", func(context.Context) bool { return r.countHeld() == 5 }); err != nil {
			t.Error(err)
		}
		for _, client := range clients {
			_ = client.Close()
		}
		if err := until(t.Context(), startPatience, "released", func(context.Context) bool { return r.countHeld() == 0 }); err != nil {
			t.Error(err)
		}
	}
}

// An endpoint under a spell says that it switches, or hints, and never ends.
func TestSpells(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mood  mood
		every time.Duration
		say   string
	}{
		{switching, 0, switchingAnswer},
		{hinting, time.Millisecond, earlyAnswer + earlyAnswer},
	} {
		r := newRun("kill")
		receiver := newReceiverAt(r, time.Now)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			first, _, _ := strings.Cut(tt.say, "\r\n\r\n")
			receiver.hang(w, &hook{}, "event", "an endless answer", tt.every, first+"\r\n\r\n")
		}))
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(tt.say))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != tt.say {
			t.Errorf("%q came, %v; want %q", got, err, tt.say)
		}
		_ = conn.Close()
		if err := until(t.Context(), startPatience, "released", func(context.Context) bool { return receiver.countHeld() == 0 }); err != nil {
			t.Error(err)
		}
		server.Close()
	}
}
