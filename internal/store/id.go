package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"triggerd/internal/trigger"
)

// dbID scans an id from either database: PostgreSQL gives text, SQLite bytes.
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

// nobody is the claim of a delivery that is nobody's.
func nobody() []byte { return make([]byte, len(trigger.ID{})) }

// newID makes an id that has no place in an order: of nodes and claims.
func newID(at time.Time) trigger.ID { return trigger.NewID(at, 0, rand.Uint64()) }

// fromMicros and micros turn stored times into times and back.
func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }

func fromMicrosSpan(us int64) time.Duration { return time.Duration(us) * time.Microsecond }

func micros(t time.Time) int64 { return t.UnixMicro() }

// sortIDs puts ids into their order, which is that of their times.
func sortIDs(ids []trigger.ID) {
	slices.SortFunc(ids, func(a, b trigger.ID) int { return bytes.Compare(a[:], b[:]) })
}
