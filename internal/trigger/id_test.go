package trigger_test

import (
	"bytes"
	"cmp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// drawMicros draws a time in microseconds since 1970 that, as 2 ms after it,
// an id can hold.
func drawMicros(t *rapid.T) int64 {
	return rapid.Int64Range(0, 1<<48*1000-2001).Draw(t, "micros")
}

func drawID(t *rapid.T, micros int64, name string) (id trigger.ID, seq uint16) {
	seq = rapid.Uint16().Draw(t, name+" seq")
	return trigger.NewID(time.UnixMicro(micros), seq, rapid.Uint64().Draw(t, name+" random")), seq
}

func TestIDHoldsItsTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		micros := drawMicros(t)
		nanos := rapid.Int64Range(0, 999).Draw(t, "nanos")
		zone := time.FixedZone("", rapid.IntRange(-12*3600, 14*3600).Draw(t, "zone"))
		at := time.UnixMicro(micros).Add(time.Duration(nanos)).In(zone)
		id := trigger.NewID(at, rapid.Uint16().Draw(t, "seq"), rapid.Uint64().Draw(t, "random"))
		if got, want := id.Time(), time.UnixMicro(micros).UTC(); got != want {
			t.Fatalf("Time() = %v, want %v", got, want)
		}
		if got := trigger.MinID(at).Time(); got.UnixMicro() != micros {
			t.Fatalf("MinID: Time() = %v, want %v", got, at)
		}
	})
}

func TestEveryMicrosecondOfAMillisecondHasItsOwnID(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for micro := range time.Duration(1000) {
		at := start.Add(micro * time.Microsecond)
		if got := trigger.NewID(at, 0, 0).Time(); got != at {
			t.Fatalf("Time() = %v, want %v", got, at)
		}
	}
}

func TestIDIsUUIDv7(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id, _ := drawID(t, drawMicros(t), "id")
		s := id.String()
		if s[14] != '7' || !strings.ContainsRune("89ab", rune(s[19])) || id.IsZero() {
			t.Fatalf("%s is no UUIDv7", s)
		}
	})
}

func TestIDUsesAllItsBits(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1<<48 - 1)
	lowest, highest := trigger.NewID(at, 0, 0), trigger.NewID(at, 1<<16-1, 1<<64-1)
	if got, want := lowest.String(), "ffffffff-ffff-7000-8000-000000000000"; got != want {
		t.Errorf("lowest = %s, want %s", got, want)
	}
	if got, want := highest.String(), "ffffffff-ffff-7000-bfff-ffffffffffff"; got != want {
		t.Errorf("highest = %s, want %s", got, want)
	}
}

func TestIDsOrderByTimeThenSeq(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		micros := drawMicros(t)
		later := micros + rapid.Int64Range(0, 2000).Draw(t, "later")
		a, aSeq := drawID(t, micros, "a")
		b, bSeq := drawID(t, later, "b")
		want := cmp.Or(cmp.Compare(micros, later), cmp.Compare(aSeq, bSeq))
		if want == 0 {
			return // random decides
		}
		if got := bytes.Compare(a[:], b[:]); got != want {
			t.Fatalf("%s (%d, %d) and %s (%d, %d) compare as %d, want %d", a, micros, aSeq, b, later, bSeq, got, want)
		}
		if got := strings.Compare(a.String(), b.String()); got != want {
			t.Fatalf("the texts %s and %s compare as %d, want %d", a, b, got, want)
		}
	})
}

func TestMinIDIsNotOverIDsOfItsTimeOrLater(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		micros := drawMicros(t)
		bound := trigger.MinID(time.UnixMicro(micros))
		id, _ := drawID(t, micros+rapid.Int64Range(0, 2000).Draw(t, "later"), "id")
		if bytes.Compare(bound[:], id[:]) > 0 {
			t.Fatalf("MinID %s is over %s, which is not earlier", bound, id)
		}
	})
}

func TestMinIDIsOverEarlierIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		micros := drawMicros(t)
		bound := trigger.MinID(time.UnixMicro(micros + rapid.Int64Range(1, 2000).Draw(t, "later")))
		id, _ := drawID(t, micros, "id")
		if bytes.Compare(bound[:], id[:]) <= 0 {
			t.Fatalf("MinID %s (%v) is not over %s (%v)", bound, bound.Time(), id, id.Time())
		}
	})
}

func TestParseIDRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id := trigger.ID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		for _, s := range []string{id.String(), strings.ToUpper(id.String())} {
			if got, err := trigger.ParseID(s); err != nil || got != id {
				t.Fatalf("ParseID(%s) = %v, %v", s, got, err)
			}
		}
	})
}

// The example of RFC 9562, appendix A.6.
func TestParseIDReadsTheRFC(t *testing.T) {
	t.Parallel()
	id, err := trigger.ParseID("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := id.Time().Truncate(time.Millisecond), time.UnixMilli(1645557742000).UTC(); got != want {
		t.Errorf("Time() = %v, want %v", got, want)
	}
	if got, want := id.String(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"; got != want {
		t.Errorf("String() = %s, want %s", got, want)
	}
}

func TestParseIDRefuses(t *testing.T) {
	t.Parallel()
	refused := []string{
		"",
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398",   // 35
		"017f22e2-79b0-7cc3-98c4-dc0c0c07398f0", // 37
		"017f22e279b07cc398c4dc0c0c07398f",
		"017f22e27-9b0-7cc3-98c4-dc0c0c07398f", // a dash too late
		"-17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
		"{17f22e2-79b0-7cc3-98c4-dc0c0c07398}",
		" 17f22e2-79b0-7cc3-98c4-dc0c0c07398f",
		"017f22e2-79b0-7cc3-98c4-dc0c0c0739é",
		"urn:uuid:017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
	}
	const good = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
	for at := range len(good) {
		refused = append(refused, good[:at]+"g"+good[at+1:], good[:at]+"+"+good[at+1:])
	}
	for _, s := range refused {
		if id, err := trigger.ParseID(s); err == nil || !id.IsZero() {
			t.Errorf("ParseID(%q) = %v, %v; want the zero ID and an error", s, id, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("017F22E2-79B0-7CC3-98C4-DC0C0C07398F")
	f.Add("00000000-0000-0000-0000-000000000000")
	f.Add("017f22e2-79b0-7cc3-98c4-dc0c0c07398g")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := trigger.ParseID(s)
		if err != nil {
			if !id.IsZero() {
				t.Errorf("ParseID(%q) = %v with error %v", s, id, err)
			}
			return
		}
		if id.String() != strings.ToLower(s) {
			t.Errorf("ParseID(%q) = %v", s, id)
		}
	})
}
