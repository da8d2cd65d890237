package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLoadExamples(t *testing.T) {
	t.Parallel()
	examples, err := loadExamples()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(examples), 726; got != want {
		t.Errorf("%d examples, want %d", got, want)
	}
	types := make(map[string]bool)
	indented, nonASCII := 0, 0
	for i, e := range examples {
		types[e.Type] = true
		if !json.Valid(e.Payload) || !bytes.HasPrefix(e.Payload, []byte("{")) || !bytes.HasSuffix(e.Payload, []byte("}")) {
			t.Errorf("example %d, %s: not one JSON object: %.80q", i, e.Type, e.Payload)
		}
		if len(e.Type) > 255 || strings.ContainsFunc(e.Type, unicode.IsControl) || !strings.HasPrefix(e.Type, "github.") {
			t.Errorf("example %d: type %q", i, e.Type)
		}
		if bytes.Contains(e.Payload, []byte("\n  ")) {
			indented++
		}
		if bytes.ContainsFunc(e.Payload, func(r rune) bool { return r >= utf8.RuneSelf }) {
			nonASCII++
		}
	}
	if got, want := len(types), 172; got != want {
		t.Errorf("%d types, want %d", got, want)
	}
	for _, want := range []string{"github.issues.opened", "github.push"} {
		if !types[want] {
			t.Errorf("no example of type %s", want)
		}
	}
	if indented == 0 || nonASCII == 0 {
		t.Errorf("%d payloads with white space, %d beyond ASCII; want some of each", indented, nonASCII)
	}
}
