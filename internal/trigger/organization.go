package trigger

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Organization is a tenant: everything else belongs to exactly one.
type Organization struct {
	ID        int64 // from 1, never used again
	Name      string
	Tier      Tier
	Version   int64 // incremented by every change of its webhooks
	Suspended bool  // its requests are refused, and its events are not delivered
	CreatedAt time.Time

	RateLimit     *int // events a minute, 0 for no limit; nil: the limit of its tier
	Inbox         InboxMode
	Deduplication Deduplication
	TypesVersion  int64 // incremented by every change of its event types
}

// InboxMode says which events go to an organization's inbox; "" is Unmatched.
type InboxMode string

// The modes.
const (
	Unmatched  InboxMode = "unmatched"  // events that match no webhook
	Everything InboxMode = "everything" // all events
)

// ParseInboxMode reads the name of a mode. An unknown name is Invalid.
func ParseInboxMode(s string) (InboxMode, error) {
	switch m := InboxMode(s); m {
	case Unmatched, Everything:
		return m, nil
	}
	return "", Errorf(Invalid, "inbox must be unmatched or everything; got %.60q", s)
}

// Deduplication says what happens to an event whose dedup id is stored with
// another payload; "" is Lenient.
type Deduplication string

// The values.
const (
	Lenient Deduplication = "lenient" // it is a duplicate, and the answer says that it differs
	Strict  Deduplication = "strict"  // it is refused
)

// ParseDeduplication reads a value by its name. An unknown name is Invalid.
func ParseDeduplication(s string) (Deduplication, error) {
	switch d := Deduplication(s); d {
	case Lenient, Strict:
		return d, nil
	}
	return "", Errorf(Invalid, "deduplication must be lenient or strict; got %.60q", s)
}

// MaxRateLimit is the highest rate limit of an organization, in events a
// minute.
const MaxRateLimit = 1_000_000_000

// Tier is what an organization pays for. It determines the rate limit.
type Tier string

// The tiers.
const (
	Free         Tier = "free"
	Professional Tier = "professional"
	Enterprise   Tier = "enterprise"
)

// ParseTier reads the name of a tier. An unknown name is Invalid.
func ParseTier(s string) (Tier, error) {
	switch t := Tier(s); t {
	case Free, Professional, Enterprise:
		return t, nil
	}
	return "", Errorf(Invalid, "tier must be free, professional or enterprise; got %.60q", s)
}

// CheckName returns an Invalid error unless an organization's name has 1–255
// bytes of valid UTF-8 without control characters.
func CheckName(name string) error {
	return checkText("organization_name", name, MaxName)
}

// checkText returns an error unless a short text has 1–limit bytes of valid
// UTF-8 without control characters.
func checkText(what, s string, limit int) error {
	switch {
	case s == "":
		return Errorf(Invalid, "%s must not be empty", what)
	case len(s) > limit:
		return Errorf(Invalid, "%s must have at most %d bytes; got %d", what, limit, len(s))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, isControl):
		return Errorf(Invalid, "%s must be valid UTF-8 without control characters", what)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }
