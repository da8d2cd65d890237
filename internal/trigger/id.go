package trigger

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"time"
)

// ID is a UUIDv7 (RFC 9562, section 5.7): its first 48 bits are the
// milliseconds of the Unix time, the next 12 their fraction, so that ids sort
// by time and the id is the only clock an event has. The zero ID is nobody's.
type ID [16]byte

// NewID makes the id of an event that is accepted at the given time. seq
// orders ids of one moment (0..65535), random makes them unique over nodes:
// 46 of its bits are used.
func NewID(at time.Time, seq uint16, random uint64) ID {
	id := MinID(at)
	tail := uint64(0b10)<<62 | uint64(seq)<<46 | random>>18
	binary.BigEndian.PutUint64(id[8:], tail)
	return id
}

// MinID is the lowest id of the given time: all ids of that time or later are
// at or above it, all earlier ones below. It is the bound of ranges over time.
// The time is one that UUIDv7 can hold, from 1970 to 10889.
func MinID(at time.Time) (id ID) {
	micros := uint64(at.UnixMicro())
	fraction := micros % 1000 * 4096 / 1000
	binary.BigEndian.PutUint64(id[:8], micros/1000<<16|0x7000|fraction)
	id[8] = 0x80
	return id
}

// Time is when the id was made, exact to a microsecond.
func (id ID) Time() time.Time {
	head := binary.BigEndian.Uint64(id[:8])
	fraction := (head&0xfff*1000 + 4095) / 4096
	return time.UnixMicro(int64(head>>16*1000 + fraction)).UTC()
}

// IsZero reports whether the id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// String gives the canonical form: 36 characters, lower case.
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

// MarshalText is String, for what is written as JSON.
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
