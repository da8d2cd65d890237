package client

import "encoding/json"

// Opt is an optional member of a change (PATCH). The zero Opt leaves the member
// unchanged, [Set] sets it to a value, and [Null] resets it to its default.
type Opt[T any] struct {
	value T
	state optState
}

type optState byte

const (
	absent optState = iota
	null
	present
)

// Set returns an Opt with a value, which may be the zero value.
func Set[T any](value T) Opt[T] { return Opt[T]{value, present} }

// Null returns an Opt that is null, which resets a member to its default.
func Null[T any]() Opt[T] { return Opt[T]{state: null} }

// Get returns the value, and whether there is one.
func (o Opt[T]) Get() (T, bool) { return o.value, o.state == present }

// IsNull reports whether it is null, which is not the same as absent.
func (o Opt[T]) IsNull() bool { return o.state == null }

// IsZero reports whether it is absent, for encoding/json's omitzero.
func (o Opt[T]) IsZero() bool { return o.state == absent }

// MarshalJSON encodes the value, or null.
func (o Opt[T]) MarshalJSON() ([]byte, error) {
	if o.state != present {
		return []byte("null"), nil
	}
	return encode(o.value)
}

// UnmarshalJSON decodes a value, or null.
func (o *Opt[T]) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		*o = Null[T]()
		return nil
	}
	*o = Opt[T]{state: present}
	return json.Unmarshal(data, &o.value)
}
