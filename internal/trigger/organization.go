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
	Version   int64 // bumped by every change of its webhooks
	Suspended bool  // nothing is taken from it or sent for it
	CreatedAt time.Time

	RateLimit     *int // events a minute, 0 for no limit; nil: its tier's
	Inbox         InboxMode
	Deduplication Deduplication
	TypesVersion  int64 // bumped by every change of its event types
}

// InboxMode says what an organization's inbox takes; "" is Unmatched.
type InboxMode string

// The modes.
const (
	Unmatched  InboxMode = "unmatched"  // what no webhook wants
	Everything InboxMode = "everything" // that, and what webhooks get too
)

// ParseInboxMode reads a mode's name. Invalid if there is no such mode.
func ParseInboxMode(s string) (InboxMode, error) {
	switch m := InboxMode(s); m {
	case Unmatched, Everything:
		return m, nil
	}
	return "", Errorf(Invalid, "inbox must be unmatched or everything; got %.60q", s)
}

// Deduplication says what becomes of an event whose dedup id is known with
// another payload; "" is Lenient.
type Deduplication string

// The ways.
const (
	Lenient Deduplication = "lenient" // a duplicate like all others, and the answer says that it differs
	Strict  Deduplication = "strict"  // refused
)

// ParseDeduplication reads a way's name. Invalid if there is no such way.
func ParseDeduplication(s string) (Deduplication, error) {
	switch d := Deduplication(s); d {
	case Lenient, Strict:
		return d, nil
	}
	return "", Errorf(Invalid, "deduplication must be lenient or strict; got %.60q", s)
}

// MaxRateLimit is the highest rate limit that an organization can be given, in
// events a minute.
const MaxRateLimit = 1_000_000_000

// Tier is what an organization pays for; it decides its rate limit.
type Tier string

// The tiers.
const (
	Free         Tier = "free"
	Professional Tier = "professional"
	Enterprise   Tier = "enterprise"
)

// ParseTier reads a tier's name. Invalid if there is no such tier.
func ParseTier(s string) (Tier, error) {
	switch t := Tier(s); t {
	case Free, Professional, Enterprise:
		return t, nil
	}
	return "", Errorf(Invalid, "tier must be free, professional or enterprise; got %.60q", s)
}

// CheckName judges an organization's name: 1–255 bytes of valid UTF-8 without
// control characters. Invalid otherwise.
func CheckName(name string) error {
	return checkText("organization_name", name, MaxName)
}

// checkText judges a short text that people chose: 1–limit bytes, valid
// UTF-8, no control characters.
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
