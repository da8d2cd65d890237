package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// dbID scans an id from either database: PostgreSQL returns text, SQLite bytes.
type dbID trigger.ID

// Scan implements sql.Scanner.
func (id *dbID) Scan(value any) error {
	switch v := value.(type) {
	case []byte:
		if len(v) == len(id) {
			copy(id[:], v)
			return nil
		}
	case string:
		parsed, err := trigger.ParseID(v)
		if err != nil {
			return err
		}
		*id = dbID(parsed)
		return nil
	}
	return fmt.Errorf("an id is stored as %T", value)
}

// nobody returns the zero claim, for a delivery that is not claimed.
func nobody() []byte { return make([]byte, len(trigger.ID{})) }

// newID returns an id for nodes and claims, which need no order.
func newID(at time.Time) trigger.ID { return trigger.NewID(at, 0, rand.Uint64()) }

// fromMicros and micros convert stored times.
func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func fromMicrosSpan(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

func micros(t time.Time) int64 { return t.UnixMicro() }

// sortIDs sorts ids, and so also by time.
func sortIDs(ids []trigger.ID) {
	slices.SortFunc(ids, func(a, b trigger.ID) int { return bytes.Compare(a[:], b[:]) })
}
