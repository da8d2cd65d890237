package api

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// opt is a member of a body that may be absent, null, or a value.
type opt[T any] struct {
	Given bool // present
	Null  bool
	Value T
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *opt[T]) UnmarshalJSON(b []byte) error {
	o.Given, o.Null = true, string(b) == "null"
	if o.Null {
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// or returns the value, or fallback if the member is absent or null.
func (o *opt[T]) or(fallback T) T {
	if !o.Given || o.Null {
		return fallback
	}
	return o.Value
}

// readBody decodes the body of a request into a struct by its json tags, and
// returns its bytes. An empty body counts as {}. The error is Malformed if there
// is a query or the body is not a JSON object. It is Invalid, with a pointer, if
// a member is unknown, repeated, or of another type.
func (a *API) readBody(w http.ResponseWriter, r *request, into any) ([]byte, error) {
	if _, err := parameters(r); err != nil {
		return nil, err
	}
	body, free, err := a.readJSON(w, r)
	if err != nil {
		return nil, err
	}
	defer free() // the decoded value is small
	if len(body) == 0 {
		body = []byte("{}")
	}
	return body, decode(body, into, "#")
}

// decode is readBody for the value at a pointer of the body.
func decode(body []byte, into any, at string) error {
	if err := checkJSON(body); err != nil {
		return err
	}
	root := gjson.ParseBytes(body)
	switch {
	case !root.IsObject() && at == "#":
		return trigger.Errorf(trigger.Malformed, "body must be a JSON object")
	case !root.IsObject():
		return trigger.Errorf(trigger.Invalid, "%s must be an object", at[2:]).At(at)
	}
	known, seen := membersOf(into), map[string]bool{}
	var err error
	root.ForEach(func(key, value gjson.Result) bool {
		switch {
		case !known[key.Str]:
			err = trigger.Errorf(trigger.Invalid, "unknown member %.64q", key.Str).At(at + pointerTo(key.Str)[1:])
		case seen[key.Str]:
			err = trigger.Errorf(trigger.Invalid, "%s must appear only once", key.Str).At(at + pointerTo(key.Str)[1:])
		case hasLoneSurrogate(body[value.Index : value.Index+len(value.Raw)]):
			err = trigger.Errorf(trigger.Invalid, "%s must not have a lone surrogate in a string", key.Str).At(at + pointerTo(key.Str)[1:])
		}
		seen[key.Str] = true
		return err == nil
	})
	if err != nil {
		return err
	}
	err = json.Unmarshal(body, into)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		member := strings.Split(e.Field, ".")[0]
		if member == "" { // inside an opt, which does not know its name
			member = guilty(root, into)
		}
		return wrongType(member, root.Get(member), e).At(at + "/" + member)
	}
	if err != nil {
		return trigger.Errorf(trigger.Invalid, "the body cannot be read: a value is out of range").At(at)
	}
	return nil
}

// wrongType returns an error about a member whose value, or an element of it,
// has the wrong type.
func wrongType(member string, value gjson.Result, e *json.UnmarshalTypeError) *trigger.Error {
	wants := map[reflect.Kind]string{
		reflect.Bool: "true or false", reflect.Float64: "a number", reflect.Int: "an integer", reflect.Int64: "an integer",
		reflect.Slice: "an array", reflect.String: "a string", reflect.Struct: "an object",
	}
	got := "a " + e.Value
	switch {
	case e.Value == "array" || e.Value == "object":
		got = "an " + e.Value
	case e.Value == "bool":
		got = "a boolean"
	case strings.HasPrefix(e.Value, "number "):
		got = "the " + clipped(e.Value)
	}
	if value.IsArray() && e.Value != "array" {
		member = "each element of " + member
	}
	return trigger.Errorf(trigger.Invalid, "%s must be %s; got %s", member, wants[e.Type.Kind()], got)
}

// guilty returns the name of the member that does not fit the struct.
func guilty(root gjson.Result, into any) (name string) {
	t := reflect.TypeOf(into).Elem()
	root.ForEach(func(key, value gjson.Result) bool {
		for i := range t.NumField() {
			field := t.Field(i)
			if tag, _, _ := strings.Cut(field.Tag.Get("json"), ","); tag == key.Str &&
				json.Unmarshal([]byte(value.Raw), reflect.New(field.Type).Interface()) != nil {
				name = key.Str
			}
		}
		return name == ""
	})
	return name
}

// membersOf returns the JSON names of a struct's members.
func membersOf(into any) map[string]bool {
	t := reflect.TypeOf(into).Elem()
	known := make(map[string]bool, t.NumField())
	for i := range t.NumField() {
		tag, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known[tag] = true
	}
	return known
}

// maxIdempotencyKey is the limit of an Idempotency-Key, in bytes.
const maxIdempotencyKey = 200

// idempotencyKey returns the header, bare or a quoted string, or "" if absent.
func idempotencyKey(r *request) (string, error) {
	values := r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return "", nil
	}
	key := strings.TrimSpace(values[0])
	if inner, ok := strings.CutPrefix(key, `"`); ok && strings.HasSuffix(inner, `"`) && len(key) > 1 {
		key = strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(strings.TrimSuffix(inner, `"`))
	}
	if len(values) > 1 || key == "" || len(key) > maxIdempotencyKey || strings.ContainsFunc(key, func(c rune) bool { return c < 0x20 || c > 0x7e }) {
		return "", trigger.Errorf(trigger.Invalid, "Idempotency-Key must be given exactly once, with 1 to %d printable ASCII characters", maxIdempotencyKey)
	}
	return key, nil
}

// once returns what the store needs to execute a request once.
func once(r *request, body []byte) (o store.Once, err error) {
	if o.Key, err = idempotencyKey(r); err != nil || o.Key == "" {
		return o, err
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s\n", r.Method, r.URL.EscapedPath())
	h.Write(body)
	return store.Once{Key: o.Key, Fingerprint: [32]byte(h.Sum(nil))}, nil
}

// repeated reports whether the request was executed before, and what it made. It
// marks the answer as replayed.
func repeated(w http.ResponseWriter, err error) (made int64, again bool, other error) {
	if e, ok := errors.AsType[*store.RepeatedError](err); ok {
		w.Header().Set("Idempotency-Replayed", "true")
		return e.Made, true, nil
	}
	return 0, false, err
}

// goneSince answers a repeated request if what it made was deleted.
func goneSince(w http.ResponseWriter, message string) error {
	w.Header().Del("Idempotency-Replayed") // the answer is not the first one
	return trigger.Errorf(trigger.Conflict, "%s", message)
}

// shownTime returns the form of a time in /v1, nil if it is zero.
func shownTime(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	text := string(trigger.AppendTime(nil, t))
	return &text
}

// shownText returns nil for "".
func shownText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// seconds converts a number of seconds from least to most, to the microsecond.
func seconds(name string, value float64, least, most time.Duration) (time.Duration, error) {
	if d := time.Duration(math.Round(value*1e6)) * time.Microsecond; value >= least.Seconds() && value <= most.Seconds() {
		return d, nil
	}
	return 0, trigger.Errorf(trigger.Invalid, "%s must be from %s to %s; got %v", name,
		strconv.FormatFloat(least.Seconds(), 'f', -1, 64), strconv.FormatFloat(most.Seconds(), 'f', -1, 64), value).At("#/" + name)
}
