package client

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// told is a message without the bytes of others.
type told struct {
	event, data, id string
	retry           time.Duration
}

func readAll(r io.Reader) (all []told, err error) {
	s := newMessages(r)
	for {
		m, err := s.next()
		if err != nil {
			return all, err
		}
		all = append(all, told{m.event, string(m.data), m.id, m.retry})
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]told{
		"":                                  nil,
		"data: a\n\n":                       {{data: "a"}},
		"data:a\n\n":                        {{data: "a"}},
		"data:  a\n\n":                      {{data: " a"}},
		"data: a\r\n\r\n":                   {{data: "a"}},
		"data: a\r\r":                       {{data: "a"}},
		"data: a\r\n\rdata: b\n\r\n":        {{data: "a"}, {data: "b"}},
		"\ufeffdata: a\n\n":                 {{data: "a"}},
		"\n\ufeffdata: a\n\n":               nil,
		"data: a\ndata: b\n\n":              {{data: "a\nb"}},
		"data\n\n":                          {{data: ""}},
		"data\ndata\n\n":                    {{data: "\n"}},
		"data: a":                           nil,
		"data: a\n":                         nil,
		": heartbeat\n\n":                   nil,
		":data: a\n\ndata: b\n\n":           {{data: "b"}},
		"id: 1\ndata: a\n\ndata: b\n\n":     {{data: "a", id: "1"}, {data: "b", id: "1"}},
		"id: 1\n\ndata: b\n\n":              {{data: "b", id: "1"}},
		"id: 1\ndata: a\n\nid\ndata: b\n\n": {{data: "a", id: "1"}, {data: "b"}},
		"id: 1\x00\ndata: a\n\n":            {{data: "a"}},
		"event: e\n\ndata: a\n\n":           {{data: "a"}},
		"event: e\ndata: a\n\ndata: b\n\n":  {{event: "e", data: "a"}, {data: "b"}},
		"retry: 1500\ndata: a\n\n":          {{data: "a", retry: 1500 * time.Millisecond}},
		"retry: -1\nretry: x\ndata: a\n\n":  {{data: "a"}},
		" data: a\nDATA: a\nother: a\n\n":   nil,
		"data: {\"a\":\"b: c\"}\n\n":        {{data: `{"a":"b: c"}`}},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text))} {
			got, err := readAll(r)
			diff(t, name, err, io.EOF)
			if d := cmp.Diff(want, got, cmp.AllowUnexported(told{})); d != "" {
				t.Errorf("%q, %s: %s", text, name, d)
			}
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a", "data: a", ":a\n", "data: a\n"} {
		s := newMessages(repeated(text))
		diff(t, "limit", s.limit, maxMessage)
		s.limit = 1000
		if _, err := s.next(); !errors.Is(err, errMalformed) {
			t.Error(err)
		}
	}
	s := newMessages(strings.NewReader(strings.Repeat("data: a\n\n:\n\n", 99)))
	for s.limit = 20; ; {
		if _, err := s.next(); err != nil {
			diff(t, "small ones", err, io.EOF)
			break
		}
	}
}

// repeated is a text without an end.
type repeated string

func (r repeated) Read(b []byte) (int, error) {
	n := max(1, len(b)/len(r))
	return copy(b, strings.Repeat(string(r), n)), nil
}

// plain parses as the standard says it, with the whole text at hand.
func plain(text string) (all []told) {
	text = strings.TrimPrefix(text, "\ufeff")
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	var m told
	var data *string
	lines := strings.Split(text, "\n")
	for _, line := range lines[:len(lines)-1] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if data != nil {
				m.data = strings.TrimSuffix(*data, "\n")
				all = append(all, m)
			}
			m.event, m.data, data = "", "", nil
		case name == "event":
			m.event = value
		case name == "data":
			if data == nil {
				data = new(string)
			}
			*data += value + "\n"
		case name == "id" && !strings.Contains(value, "\x00"):
			m.id = value
		case name == "retry":
			if ms, err := strconv.ParseUint(value, 10, 31); err == nil {
				m.retry = time.Duration(ms) * time.Millisecond
			}
		}
	}
	return all
}

func FuzzMessages(f *testing.F) {
	for _, seed := range []string{
		"id: 1\ndata: {}\n\n: heartbeat\n\nid: 2\ndata: {}\n\n", "data: a\r\n\r\ndata: b\r\rdata\n\n", "\ufeffevent: e\nretry: 5\ndata:x\ndata: y\n\n",
		"id: \x00\ndata: \xff\n\n", "\r\n\n\r", "data: a\n\ndata: b", ":\n:\n\n", "id\nevent\ndata\nretry\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		want := plain(string(text))
		for _, r := range []io.Reader{bytes.NewReader(text), iotest.OneByteReader(bytes.NewReader(text))} {
			got, err := readAll(r)
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			if d := cmp.Diff(want, got, cmp.AllowUnexported(told{})); d != "" {
				t.Errorf("%q: %s", text, d)
			}
		}
	})
}
