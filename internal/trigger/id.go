package trigger

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// ID is a UUIDv7 (RFC 9562, section 5.7). Its first 48 bits are the
// milliseconds of the Unix time, the next 12 their fraction. So ids sort by
// time, and an event needs no other time. The zero ID is not used.
type ID [16]byte

// NewID returns the id of an event that is accepted at the given time. seq
// (0..65535) orders ids of the same time. 46 bits of random make ids unique
// over nodes.
func NewID(at time.Time, seq uint16, random uint64) ID {
	id := MinID(at)
	tail := uint64(0b10)<<62 | uint64(seq)<<46 | random>>18
	binary.BigEndian.PutUint64(id[8:], tail)
	return id
}

// MinID returns the lowest id of the given time, which bounds ranges over time:
// all earlier ids are lower, all others are not. The time must be from 1970 to
// 10889, as UUIDv7 can hold.
func MinID(at time.Time) (id ID) {
	micros := uint64(at.UnixMicro())
	fraction := micros % 1000 * 4096 / 1000
	binary.BigEndian.PutUint64(id[:8], micros/1000<<16|0x7000|fraction)
	id[8] = 0x80
	return id
}

// Time returns the time of the id, exact to a microsecond.
func (id ID) Time() time.Time {
	head := binary.BigEndian.Uint64(id[:8])
	fraction := (head&0xfff*1000 + 4095) / 4096
	return time.UnixMicro(int64(head>>16*1000 + fraction)).UTC()
}

// IsZero reports whether the id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the canonical form: 36 characters, lower case.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText returns String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

var errID = errors.New("not an id: want 32 hexadecimal digits in the form 8-4-4-4-12")

// ParseID reads the canonical form, in either case.
func ParseID(s string) (id ID, err error) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, errID
	}
	digits := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil {
		return ID{}, errID
	}
	return id, nil
}
