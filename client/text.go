package client

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// textError means that a string of a call cannot be sent.
type textError struct {
	name string // of a member, parameter or header
	at   int    // the first invalid byte, from 1
}

// Error names the string, but does not show it, because it may be a secret.
func (e *textError) Error() string {
	return fmt.Sprintf("%s must be UTF-8; its byte %d is not", e.name, e.at)
}

// Unwrap returns errUnsendable, so that the call is not tried again.
func (e *textError) Unwrap() error { return errUnsendable }

// checkText returns an error if a text is not UTF-8. It must not be sent,
// because encoding/json would replace invalid bytes with U+FFFD, and so make
// two different texts equal, for example two dedup ids.
func checkText(name, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	at := 0
	for rest := text; ; {
		r, size := utf8.DecodeRuneInString(rest)
		if r == utf8.RuneError && size == 1 {
			return &textError{name, at + 1}
		}
		rest, at = rest[size:], at+size
	}
}

// checkTexts is checkText for all strings in a value that is sent as JSON. It
// leaves raw JSON to the server. name is the name of the value, "" at the top.
func checkTexts(name string, v reflect.Value) error {
	switch v.Kind() {
	case reflect.String:
		return checkText(name, v.String())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return checkTexts(name, v.Elem())
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 { // json.RawMessage
			return nil
		}
		for i := range v.Len() {
			if err := checkTexts(name, v.Index(i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			err := checkTexts(name, key)
			if err == nil {
				err = checkTexts(joined(name, key.String()), v.MapIndex(key))
			}
			if err != nil {
				return err
			}
		}
	case reflect.Struct:
		return checkMembers(name, v)
	}
	return nil
}

// checkMembers is checkTexts for a struct.
func checkMembers(name string, v reflect.Value) error {
	if v.Type() == reflect.TypeFor[time.Time]() {
		return nil
	}
	for i := range v.NumField() {
		if err := checkTexts(memberName(name, v.Type().Field(i)), v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// memberName returns the JSON name of a struct field. The fields of an [Opt]
// have the name of the Opt.
func memberName(outer string, field reflect.StructField) string {
	if !field.IsExported() {
		return outer
	}
	name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
	if name == "" { // of a WebhookAuth, which encodes itself
		name = strings.ToLower(field.Name)
	}
	return joined(outer, name)
}

// joined returns the name of a member inside of outer, which may be empty.
func joined(outer, name string) string { return strings.TrimPrefix(outer+"."+name, ".") }

// checkRequest is checkText for the URL and the headers.
func checkRequest(u *url.URL, header http.Header) error {
	for element := range strings.SplitSeq(u.Path, "/") {
		if err := checkText("the id or name in the path", element); err != nil {
			return err
		}
	}
	for _, values := range []map[string][]string{u.Query(), header} {
		for _, name := range slices.Sorted(maps.Keys(values)) {
			for _, value := range values[name] {
				if err := checkText(name, value); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
