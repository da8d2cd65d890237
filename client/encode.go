package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"time"
)

// encode encodes v as JSON, without the escapes for HTML. A
// [encoding/json.Marshaler] is copied unchanged, because encoding/json would
// compact it. It returns an error if a string is not UTF-8.
func encode(v any) ([]byte, error) {
	if m, ok := v.(json.Marshaler); ok {
		return m.MarshalJSON()
	}
	if err := checkTexts("", reflect.ValueOf(v)); err != nil {
		return nil, fmt.Errorf("triggerd: %w", err)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// splice encodes the struct v as an object, and adds a last member with the
// bytes of raw as its value, without white space around it. If raw is empty, it
// adds no member.
func splice(v any, name string, raw json.RawMessage) ([]byte, error) {
	b, err := encode(v)
	value := bytes.Trim(raw, " \t\r\n")
	if err != nil || len(value) == 0 {
		return b, err
	}
	if !json.Valid(value) {
		return nil, fmt.Errorf("triggerd: %s is not JSON", name)
	}
	b = b[:len(b)-1]
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(strconv.AppendQuote(b, name), ':')
	return append(append(b, value...), '}'), nil
}

// query collects query parameters, and leaves out zero values.
type query url.Values

func (q query) text(name, value string) {
	if value != "" {
		q[name] = []string{value}
	}
}

func (q query) number(name string, value int64) {
	if value != 0 {
		q.text(name, strconv.FormatInt(value, 10))
	}
}

func (q query) time(name string, value time.Time) {
	if !value.IsZero() {
		q.text(name, value.UTC().Format(time.RFC3339Nano))
	}
}

// on returns the path with the query.
func (q query) on(path string) string {
	if len(q) == 0 {
		return path
	}
	return path + "?" + url.Values(q).Encode()
}

// under returns the path with one more element, an id or a name.
func under(path string, id any) string { return path + "/" + url.PathEscape(fmt.Sprint(id)) }
