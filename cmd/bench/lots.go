package main

import (
	"encoding/binary"
	"strconv"
	"time"

	"triggerd/internal/trigger"
)

// lot is rows of one table, which are computed from their number.
type lot struct {
	table   string
	columns []string
	rows    int
	row     func(i int) []any // ids are a trigger.ID
}

// owner is an organization that gets rows.
type owner struct {
	key         string // its API key
	id, version int64
	webhook     int64
	eventType   string
}

// past is events that were accepted some time ago, at even intervals, by some
// organizations in turn. All columns follow from the number of an event, so
// that any number of writers can write any part.
type past struct {
	owners  []owner
	events  int
	dedup   int // dedup ids; the first belong to these events, the others to removed events
	payload int // bytes
	since   time.Time
	span    time.Duration
}

func (p *past) owner(i int) *owner { return &p.owners[i%len(p.owners)] }

func (p *past) at(i int) time.Time {
	return p.since.Add(p.span / time.Duration(p.events) * time.Duration(i)).Truncate(time.Microsecond)
}

// id returns the id of an event. Removed events are older than the first, ten a
// second.
func (p *past) id(i int) trigger.ID {
	at := p.since.Add(-time.Duration(i-p.events+1) * time.Second / 10)
	if i < p.events {
		at = p.at(i)
	}
	return trigger.NewID(at, uint16(i), mixed(i))
}

// claim returns the claim id under which an event was delivered.
func (p *past) claim(i int) trigger.ID { return trigger.NewID(p.at(i), uint16(i), ^mixed(i)) }

// mixed spreads a number over 64 bits.
func mixed(i int) uint64 { return uint64(i) * 0x9e3779b97f4a7c15 }

func (p *past) body(i int) []byte {
	return appendPayload(make([]byte, 0, p.payload+40), i, 0, p.payload)
}

// dedupID returns an event's dedup id, "" if it has none. The ids of one
// organization are in the order of their events, because such inserts into the
// index are fast, and so far apart that ids of a load come between them.
func (p *past) dedupID(i int) string {
	if i >= p.dedup {
		return ""
	}
	digits := strconv.AppendInt(make([]byte, 0, 24), int64(i)*int64(idSpace/p.dedup)+idSpace, 10)
	return idWord + string(digits[1:])
}

// accepted returns the events.
func (p *past) accepted() lot {
	columns := []string{"bucket", "organization_id", "id", "type", "payload", "dedup_id", "version", "extra"}
	return lot{"events", columns, p.events, func(i int) []any {
		o := p.owner(i)
		return []any{trigger.Bucket(o.id), o.id, p.id(i), o.eventType, p.body(i), p.dedupID(i), o.version, ""}
	}}
}

// tried returns an attempt at each of the events in a range: its first one, and
// also its last one unless the outcome is a failure.
func (p *past) tried(from, to int, outcome trigger.Outcome, status int) lot {
	columns := []string{
		"bucket", "organization_id", "event_id", "webhook_id", "job", "claim", "number", "at", "took",
		"outcome", "status", "error", "response",
	}
	return lot{"attempts", columns, to - from, func(i int) []any {
		i += from
		o := p.owner(i)
		begun := p.at(i).Add(time.Millisecond).UnixMicro()
		return []any{
			trigger.Bucket(o.id), o.id, p.id(i), o.webhook, int64(0), p.claim(i), 1, begun, int64(1500),
			string(outcome), status, "",
			[]byte{},
		}
	}}
}

// owed returns a delivery of each of the events in a range, to a webhook or, if
// that is 0, to the inbox.
func (p *past) owed(from, to int, state trigger.DeliveryState, webhook int64) lot {
	columns := []string{
		"bucket", "organization_id", "state", "event_id", "webhook_id", "job", "attempts", "due_at", "claim", "reason",
	}
	attempts, reason := 0, ""
	if state == trigger.DeliveryFailed {
		attempts, reason = 1, trigger.ReasonExhausted
	}
	return lot{"deliveries", columns, to - from, func(i int) []any {
		i += from
		o := p.owner(i)
		due := p.at(i).UnixMicro()
		return []any{trigger.Bucket(o.id), o.id, int16(state), p.id(i), webhook, int64(0), attempts, due, trigger.ID{}, reason}
	}}
}

// known returns the dedup ids, sorted by organization.
func (p *past) known() (lots []lot) {
	columns := []string{"bucket", "organization_id", "dedup_id", "event_id", "payload_hash"}
	for first := range p.owners {
		rows := (p.dedup - first + len(p.owners) - 1) / len(p.owners)
		lots = append(lots, lot{"dedup", columns, max(0, rows), func(i int) []any {
			i = first + i*len(p.owners)
			o := p.owner(i)
			return []any{trigger.Bucket(o.id), o.id, p.dedupID(i), p.id(i), p.hash(i)}
		}})
	}
	return lots
}

// hash returns the hash of an event's payload; for a removed event, any hash.
func (p *past) hash(i int) []byte {
	if i >= p.events {
		return binary.BigEndian.AppendUint64(make([]byte, 8, 16), mixed(i))
	}
	hash := (&trigger.Event{Payload: p.body(i)}).PayloadHash()
	return hash[:]
}
