package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// What a terminal might obey is escaped, and JSON stays the same JSON, however
// it is cut into writes.
func TestTerminalWriter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"plain\ttext\n":        "plain\ttext\n",
		"é€😀":                  "é€😀",
		"\"\u009b31m\"":        `"\u009b31m"`,
		"\x1b[2J\x07\x7f":      `\u001b[2J\u0007\u007f`,
		"a\u202eb\u2066\u200b": `a\u202eb\u2066\u200b`,
		"\u2028\u2029\ufeff":   `\u2028\u2029\ufeff`,
		"\U000e0041":           `\udb40\udc41`,
		"{\r\n}":               "{ \n}",
		"\x9b\xff":             `\ufffd\ufffd`,
	} {
		for _, size := range []int{1, 2, 3, 5, 100} {
			var b bytes.Buffer
			w := &terminalWriter{to: &b}
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				if written, err := w.Write([]byte(rest[:n])); written != n || err != nil {
					t.Fatalf("%q: %d %v", text, written, err)
				}
				rest = rest[n:]
			}
			if b.String() != want {
				t.Errorf("%q in writes of %d: %q, want %q", text, size, b.String(), want)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.String().Draw(t, "value")
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := &terminalWriter{to: &b}
		cut := rapid.IntRange(0, len(text)).Draw(t, "cut")
		_, _ = w.Write(text[:cut])
		_, _ = w.Write(text[cut:])
		var got string
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || got != strings.ToValidUTF8(value, string(utf8.RuneError)) {
			t.Fatalf("%q has become %q: %v", text, b.String(), err)
		}
	})
	if _, err := (&terminalWriter{to: failing{}}).Write([]byte("x")); err == nil {
		t.Error("an error of the terminal is not told")
	}
}

// failing cannot be written.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, os.ErrClosed }

// Only a terminal is kept from what others have made: a file has the bytes as
// they are.
func TestForTerminal(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if w := forTerminal(file); w != file {
		t.Errorf("a file is taken for a terminal: %T", w)
	}
	device, err := os.OpenFile("/dev/null", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	if _, ok := forTerminal(device).(*terminalWriter); !ok {
		t.Error("a device of characters is not taken for a terminal")
	}
}
