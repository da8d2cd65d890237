package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"triggerd/client"
)

// maxLine is the longest line that is sent, in bytes: no server can be
// configured to accept a longer event.
const maxLine = 32 << 20

// byteOrderMark is written by some programs at the beginning of a text.
const byteOrderMark = "\ufeff"

// line is one event of the input, unchanged; or the problem, if it is too long
// to be kept.
type line struct {
	text    []byte
	number  int // in the input, from 1
	problem *client.Error
}

// lineReader reads non-empty lines. Its memory is bounded for any input.
type lineReader struct {
	from   *bufio.Reader
	most   int // maximum number of bytes of a line
	number int // of the last line
}

// newLineReader skips a byte order mark at the beginning.
func newLineReader(from io.Reader, most int) *lineReader {
	r := bufio.NewReaderSize(from, 64<<10)
	if begin, _ := r.Peek(len(byteOrderMark)); string(begin) == byteOrderMark {
		_, _ = r.Discard(len(begin)) // it was peeked
	}
	return &lineReader{from: r, most: most}
}

// next returns the next line without the white space around it. The error is
// io.EOF after the last one.
func (r *lineReader) next() (line, error) {
	for {
		r.number++
		text, long, err := r.read()
		if text = bytes.Trim(text, " \t\r\n"); len(text) > 0 && (err == nil || err == io.EOF) {
			l := line{text: text, number: r.number}
			if long || len(text) > r.most {
				l.text, l.problem = nil, tooLong(r.most)
			}
			return l, nil
		}
		if err != nil {
			return line{}, err
		}
	}
}

// read reads a line to its end. long reports that it is over the limit, and
// that text is only its beginning.
func (r *lineReader) read() (text []byte, long bool, err error) {
	for {
		part, err := r.from.ReadSlice('\n')
		if long = long || len(text)+len(part) > r.most+len("\r\n"); !long {
			text = append(text, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return text, long, err
		}
	}
}

func tooLong(most int) *client.Error {
	return &client.Error{
		Title: "Body too large", Status: http.StatusRequestEntityTooLarge, Code: client.CodeBodyTooLarge,
		Detail: fmt.Sprintf("the line is over %d bytes", most),
	}
}

// readLines sends the non-empty lines to a channel.
func readLines(ctx context.Context, from io.Reader, lines chan<- line) error {
	r := newLineReader(from, maxLine)
	for {
		l, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case lines <- l:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
