package torture

import (
	"bufio"
	"bytes"
	wire "encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
)

// relay is a TCP proxy before a PostgreSQL server. It parses the protocol, so
// that it can cut a connection while the server answers a certain statement. It
// can also cut all connections.
type relay struct {
	upstream string
	listener net.Listener
	working  sync.WaitGroup

	mu   sync.Mutex
	away bool // refuses connections
	open map[net.Conn]bool
	aim  func(statement string) (after int, cut bool) // nil if no statement is cut
	cuts int                                          // statements that were cut
}

// newRelay starts a proxy on a port of its own.
func newRelay(upstream string) (*relay, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &relay{upstream: upstream, listener: listener, open: map[net.Conn]bool{}}
	p.working.Go(p.serve)
	return p, nil
}

func (p *relay) port() int { return p.listener.Addr().(*net.TCPAddr).Port }

func (p *relay) close() error {
	err := p.listener.Close()
	p.cut()
	p.working.Wait()
	return err
}

// cut closes all connections, and new ones at once, until mend.
func (p *relay) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for conn := range p.open {
		_ = conn.Close()
	}
}

func (p *relay) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = false
}

// aimAt sets the statements to cut. For each statement that begins, aim reports
// whether to cut its connection, and after how many messages of the server. It
// is called with the relay's mutex locked. If it is nil, no statement is cut.
func (p *relay) aimAt(aim func(statement string) (after int, cut bool)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.aim = aim
}

// countCuts returns how many statements were cut.
func (p *relay) countCuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

// keep notes an open connection. It returns false if the relay is cut.
func (p *relay) keep(conn net.Conn) (ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return false
	}
	p.open[conn] = true
	return true
}

func (p *relay) drop(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
	_ = conn.Close()
}

// serve accepts connections until the listener is closed.
func (p *relay) serve() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		p.working.Go(func() {
			defer p.drop(client)
			if !p.keep(client) {
				return
			}
			server, err := net.Dial("tcp", p.upstream)
			if err != nil {
				return
			}
			defer p.drop(server)
			if !p.keep(server) {
				return
			}
			p.join(client, server)
		})
	}
}

// session is one connection through the relay.
type session struct {
	*relay
	client, server net.Conn
	texts          map[string]string // prepared statements, by name

	mu   sync.Mutex
	left int // messages of the server until the cut; -1 without a cut
}

// join copies in both directions until one side closes its connection.
func (p *relay) join(client, server net.Conn) {
	s := &session{relay: p, client: client, server: server, texts: map[string]string{}, left: -1}
	var both sync.WaitGroup
	end := func() {
		_ = client.Close()
		_ = server.Close()
	}
	both.Go(func() {
		defer end()
		_ = s.ask() // it ends with the connection
	})
	both.Go(func() {
		defer end()
		_ = s.answer()
	})
	both.Wait()
}

// maxMessage is the largest size that a message can have.
const maxMessage = 1 << 30

// carry copies one message and returns its type and body. A client's first
// message has no type. The length in the message includes itself.
func carry(from *bufio.Reader, to io.Writer, typed bool) (kind byte, body []byte, err error) {
	head := make([]byte, 4, 5)
	if typed {
		head = head[:5]
	}
	if _, err := io.ReadFull(from, head); err != nil {
		return 0, nil, err
	}
	size := wire.BigEndian.Uint32(head[len(head)-4:])
	if size < 4 || size > maxMessage {
		return 0, nil, errors.New("not a message of PostgreSQL's protocol")
	}
	body = make([]byte, size-4)
	if _, err := io.ReadFull(from, body); err != nil {
		return 0, nil, err
	}
	if typed {
		kind = head[0]
	}
	_, err = to.Write(append(head, body...))
	return kind, body, err
}

// ask copies what the client sends.
func (s *session) ask() error {
	from := bufio.NewReader(s.client)
	if err := s.startUp(from); err != nil {
		return err
	}
	for {
		head, err := from.Peek(5)
		if err != nil {
			return err
		}
		if kind := head[0]; kind != 'P' && kind != 'B' && kind != 'Q' {
			if _, _, err := carry(from, s.server, true); err != nil {
				return err
			}
			continue
		}
		var message bytes.Buffer
		kind, body, err := carry(from, &message, true)
		if err != nil {
			return err
		}
		s.begin(kind, body)
		if _, err := s.server.Write(message.Bytes()); err != nil {
			return err
		}
	}
}

// startUp copies the first message of a client. If the client requests
// encryption, startUp declines, and the client sends its first message again.
func (s *session) startUp(from *bufio.Reader) error {
	const (
		wantsTLS = 80877103
		wantsGSS = 80877104
	)
	for {
		var message bytes.Buffer
		_, body, err := carry(from, &message, false)
		if err != nil {
			return err
		}
		if code := wire.BigEndian.Uint32(append(body, 0, 0, 0, 0)); code != wantsTLS && code != wantsGSS {
			_, err := s.server.Write(message.Bytes())
			return err
		}
		if _, err := s.client.Write([]byte{'N'}); err != nil {
			return err
		}
	}
}

// begin calls aim for a message that executes a statement (B, Q), and notes the
// text of a statement that is prepared (P).
func (s *session) begin(kind byte, body []byte) {
	first, rest, _ := bytes.Cut(body, []byte{0})
	second, _, _ := bytes.Cut(rest, []byte{0})
	text := string(first)
	switch kind {
	case 'P': // name, text
		s.texts[text] = string(second)
		return
	case 'B': // portal, name
		text = s.texts[string(second)]
	}
	s.relay.mu.Lock()
	defer s.relay.mu.Unlock()
	if s.aim == nil {
		return
	}
	if after, cut := s.aim(text); cut {
		s.cuts++
		s.mu.Lock()
		defer s.mu.Unlock()
		s.left = after
	}
}

// answer copies what the server sends, until the cut.
func (s *session) answer() error {
	from := bufio.NewReader(s.server)
	for {
		if _, err := from.Peek(1); err != nil {
			return err
		}
		s.mu.Lock()
		over := s.left == 0
		if s.left > 0 {
			s.left--
		}
		s.mu.Unlock()
		if over {
			return nil
		}
		if _, _, err := carry(from, s.client, true); err != nil {
			return err
		}
	}
}
