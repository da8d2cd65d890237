package client

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// maxMessage bounds one message of a stream, in bytes: more than any event has.
const maxMessage = 64 << 20

// message is a message of an event stream.
type message struct {
	event string        // its name; "" for the default
	data  []byte        // lines with \n between
	id    string        // the last id of the stream
	retry time.Duration // the last retry of the stream
}

// messages parses an event stream according to the HTML standard (section
// 9.2.6, "Interpreting an event stream"): lines end with \n, \r\n or \r, a
// colon begins a comment, an empty line ends a message, a message without data
// is ignored, and an incomplete message at the end of the stream is dropped.
type messages struct {
	r     *bufio.Reader
	begun bool   // past the byte order mark
	cr    bool   // the last line ended with \r, so a following \n belongs to it
	line  []byte // reused
	size  int    // of the current message
	limit int    // maximum of size
	id    string
	retry time.Duration
}

func newMessages(r io.Reader) *messages { return &messages{r: bufio.NewReader(r), limit: maxMessage} }

// next returns the next message, or io.EOF at the end.
func (s *messages) next() (message, error) {
	var m message
	var data []byte
	has := false
	s.size = 0
	for {
		line, err := s.readLine()
		if err != nil {
			return message{}, err
		}
		if len(line) == 0 {
			if has {
				m.data, m.id, m.retry = data[:len(data)-1], s.id, s.retry
				return m, nil
			}
			m, s.size = message{}, 0
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(name) {
		case "event":
			m.event = string(value)
		case "data":
			data, has = append(append(data, value...), '\n'), true
		case "id":
			if bytes.IndexByte(value, 0) < 0 {
				s.id = string(value)
			}
		case "retry":
			if ms, err := strconv.ParseUint(string(value), 10, 31); err == nil {
				s.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
}

// readLine returns a line without its end, valid until the next call.
func (s *messages) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			return nil, err
		}
		if s.size++; s.size > s.limit {
			return nil, fmt.Errorf("%w: a message is over %d bytes", errMalformed, s.limit)
		}
		skip := s.cr && b == '\n'
		s.cr = b == '\r'
		switch {
		case skip:
		case b == '\n' || b == '\r':
			if !s.begun {
				s.begun, s.line = true, bytes.TrimPrefix(s.line, []byte("\ufeff"))
			}
			return s.line, nil
		default:
			s.line = append(s.line, b)
		}
	}
}
