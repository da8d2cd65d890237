package torture

import (
	"bufio"
	"bytes"
	wire "encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
)

// message returns a message of PostgreSQL's protocol. A kind of 0 is a client's
// first message.
func message(kind byte, body string) []byte {
	text := wire.BigEndian.AppendUint32(nil, uint32(len(body)+4))
	text = append(text, body...)
	if kind == 0 {
		return text
	}
	return append([]byte{kind}, text...)
}

// newUpstream starts a server that answers each statement with four messages. It
// returns its address.
func newUpstream(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			answerStatements(conn) // one connection at a time
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-ended
	})
	return listener.Addr().String()
}

func answerStatements(conn net.Conn) {
	defer conn.Close()
	from := bufio.NewReader(conn)
	if _, _, err := carry(from, io.Discard, false); err != nil {
		return
	}
	for {
		kind, _, err := carry(from, io.Discard, true)
		if err != nil {
			return
		}
		if kind == 'B' || kind == 'Q' {
			for _, answer := range []byte("DDCZ") {
				if _, err := conn.Write(message(answer, strings.Repeat("row", 1000))); err != nil {
					return
				}
			}
		}
	}
}

// A relay cuts the connection whose statement it aims at, after as many messages
// as it is told, and no other.
func TestRelayCuts(t *testing.T) {
	t.Parallel()
	const read = "SELECT id FROM webhooks"
	tests := []struct {
		name  string
		ask   []byte
		after int
		want  string // types of the messages that come
	}{
		{"another statement", message('Q', "SELECT 1\x00"), 0, "DDCZ"},
		{"a simple statement, at once", message('Q', read+"\x00"), 0, ""},
		{"a simple statement, after two messages", message('Q', read+"\x00"), 2, "DD"},
		{
			"a prepared statement",
			append(message('P', "name\x00"+read+"\x00\x00\x00"), message('B', "\x00name\x00\x00\x00\x00\x00\x00\x00")...), 3, "DDC",
		},
		{"a statement of another name", append(message('P', "name\x00"+read+"\x00\x00\x00"), message('B', "\x00other\x00\x00\x00")...), 3, "DDCZ"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := newRelay(newUpstream(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.close() })
			p.aimAt(func(statement string) (int, bool) { return tt.after, statement == read })
			got := exchange(t, p, tt.ask, len("DDCZ"))
			cuts := 0
			if tt.want != "DDCZ" {
				cuts = 1
			}
			if got != tt.want || p.countCuts() != cuts {
				t.Errorf("%q came, with %d cuts; want %q with %d", got, p.countCuts(), tt.want, cuts)
			}
		})
	}
}

// exchange connects as PostgreSQL's clients do, sends something, and returns the
// types of up to most messages that come.
func exchange(t *testing.T, p *relay, ask []byte, most int) (kinds string) {
	t.Helper()
	conn, err := net.Dial("tcp", p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	wantsTLS := message(0, string(wire.BigEndian.AppendUint32(nil, 80877103)))
	if _, err := conn.Write(wantsTLS); err != nil {
		return ""
	}
	from := bufio.NewReader(conn)
	if no, err := from.ReadByte(); err != nil || no != 'N' {
		return ""
	}
	if _, err := conn.Write(append(message(0, "\x00\x03\x00\x00user\x00x\x00\x00"), ask...)); err != nil {
		return ""
	}
	for len(kinds) < most {
		var text bytes.Buffer
		kind, _, err := carry(from, &text, true)
		if err != nil {
			return kinds
		}
		kinds += string(rune(kind))
	}
	return kinds
}

// A relay that is cut ends all connections and takes no new ones until it is
// mended.
func TestRelayIsCutAndMended(t *testing.T) {
	t.Parallel()
	p, err := newRelay(newUpstream(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.close() })
	ask := message('Q', "SELECT 1\x00")
	if got := exchange(t, p, ask, 4); got != "DDCZ" {
		t.Errorf("%q came before the cut", got)
	}
	conn, err := net.Dial("tcp", p.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(message(0, string(wire.BigEndian.AppendUint32(nil, 80877103)))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil { // now the relay has it
		t.Fatal(err)
	}
	p.cut()
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came through a relay that is cut", n)
	}
	if got := exchange(t, p, ask, 4); got != "" {
		t.Errorf("%q came through a relay that is cut", got)
	}
	p.mend()
	if got := exchange(t, p, ask, 4); got != "DDCZ" {
		t.Errorf("%q came after it was mended", got)
	}
}
