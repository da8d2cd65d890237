package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"unicode"
	"unicode/utf8"
)

// terminalWriter writes text from senders and receivers to a terminal safely.
// Characters that could move the cursor, or change the order of the text, are
// written as JSON escapes, so JSON keeps its meaning.
type terminalWriter struct {
	to io.Writer

	mu   sync.Mutex
	rest []byte // the beginning of an incomplete character
}

// forTerminal returns a writer that protects a terminal, if the file is one;
// otherwise the file. Pipes and files get the bytes unchanged.
func forTerminal(file *os.File) io.Writer {
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return file
	}
	return &terminalWriter{to: file}
}

// Write implements [io.Writer].
func (w *terminalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := append(w.rest, p...)
	whole := len(text)
	for at := max(0, whole-utf8.UTFMax+1); at < len(text); at++ {
		if utf8.RuneStart(text[at]) && !utf8.FullRune(text[at:]) {
			whole = at
			break
		}
	}
	w.rest = bytes.Clone(text[whole:])
	if _, err := w.to.Write(escaped(text[:whole])); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escaped escapes characters that could control a terminal.
func escaped(text []byte) []byte {
	b := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == '\n', r == '\t':
			b = append(b, byte(r))
		case r == utf8.RuneError && size == 1:
			b = append(b, `\ufffd`...)
		case !isObeyed(r):
			b = append(b, text[:size]...)
		case r == '\r': // between the tokens of JSON
			b = append(b, ' ')
		case r > 0xffff:
			high, low := (r-0x10000)>>10+0xd800, (r-0x10000)&0x3ff+0xdc00
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
		text = text[size:]
	}
	return b
}

// isObeyed reports whether a character is not shown but has an effect:
// controls, direction changes, and other invisible characters.
func isObeyed(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}
