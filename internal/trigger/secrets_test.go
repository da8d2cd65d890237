package trigger_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// numbered makes the nth secret; no two are the same.
func numbered(n int, pair bool) trigger.Secret {
	random := [32]byte{byte(n), 1}
	if pair {
		return trigger.NewKeyPair(random)
	}
	return trigger.NewSecret(random)
}

// issued is what a test knows of a secret: when it signs for the last time.
type issued struct {
	secret trigger.Secret
	until  time.Time // zero: not before it is rotated
}

// rotated says what a rotation must come to, in the words of its promise: an
// old secret ends after the overlap, but not later than it would have, and
// the newest five are kept.
func rotated(old []issued, next issued, now time.Time, overlap time.Duration) []issued {
	want := []issued{next}
	for _, o := range old {
		if until := now.Add(overlap); o.until.IsZero() || until.Before(o.until) {
			o.until = until
		}
		if now.Before(o.until) {
			want = append(want, o)
		}
	}
	return want[:min(len(want), 5)]
}

func checkIssued(t *rapid.T, got trigger.Secrets, want []issued) {
	if len(got) != len(want) {
		t.Fatalf("%d secrets, want %d", len(got), len(want))
	}
	for i, w := range want {
		if got[i].Reveal() != w.secret.Reveal() || !got[i].Until.Equal(w.until) {
			t.Fatalf("secret %d is %s until %v, want %s until %v", i, got[i].Reveal(), got[i].Until, w.secret.Reveal(), w.until)
		}
	}
}

func drawOverlap(t *rapid.T) time.Duration {
	return rapid.OneOf(
		rapid.SampledFrom([]time.Duration{-time.Hour, 0, 1, trigger.DefaultOverlap, trigger.MaxOverlap}),
		rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(trigger.MaxOverlap)).Draw(t, "nanos"))
		}),
	).Draw(t, "overlap")
}

// Whatever the rotations, each signature in the header is of one secret that
// has not ended, each such secret signs, and no other does.
func TestRotateAndSign(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(exampleTime, 0)
		ever := []trigger.Secret{numbered(0, rapid.Bool().Draw(t, "pair"))}
		secrets, want := trigger.OneSecret(ever[0]), []issued{{secret: ever[0]}}
		checkIssued(t, secrets, want)
		for n := range rapid.IntRange(0, 12).Draw(t, "rotations") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(10*24*time.Hour)).Draw(t, "later")))
			next, overlap := numbered(n+1, rapid.Bool().Draw(t, "pair")), drawOverlap(t)
			before, kept := secrets, slices.Clone(secrets)
			ever, secrets = append(ever, next), secrets.Rotate(next, now, overlap)
			want = rotated(want, issued{secret: next}, now, overlap)
			checkIssued(t, secrets, want)
			if !slices.EqualFunc(before, kept, func(a, b trigger.IssuedSecret) bool {
				return a.Reveal() == b.Reveal() && a.Until.Equal(b.Until)
			}) {
				t.Fatal("Rotate changes the secrets it was called on")
			}
		}
		at := now.Add(time.Duration(rapid.Int64Range(0, int64(trigger.MaxOverlap+time.Hour)).Draw(t, "signed later")))
		if i := rapid.IntRange(0, len(want)-1).Draw(t, "end"); !want[i].until.IsZero() {
			at = want[i].until.Add(time.Duration(rapid.IntRange(-1, 1).Draw(t, "around the end")))
		}
		want = slices.DeleteFunc(want, func(i issued) bool { return !i.until.IsZero() && !at.Before(i.until) })
		checkHeader(t, ever, want, delivered{trigger.MinID(now), at}, secrets.Sign(trigger.MinID(now), at, []byte(exampleBody)))
	})
}

// delivered is which event was signed, and when.
type delivered struct {
	id trigger.ID
	at time.Time
}

// checkHeader takes a header for what its receivers see: each part verifies
// with one of all secrets there ever were, the newest first.
func checkHeader(t *rapid.T, ever []trigger.Secret, want []issued, d delivered, header string) {
	parts := strings.Split(header, " ")
	if len(parts) != len(want) {
		t.Fatalf("%d signatures of %d secrets: %s", len(parts), len(want), header)
	}
	for i, part := range parts {
		for _, secret := range ever {
			err := verify(secret, d.id.String(), d.at, []byte(exampleBody), part)
			if fits := secret.Reveal() == want[i].secret.Reveal(); fits != (err == nil) {
				t.Fatalf("part %d, %s, against %s: %v", i, part, secret.Reveal(), err)
			}
		}
	}
	for _, w := range want {
		if err := verify(w.secret, d.id.String(), d.at, []byte(exampleBody), header); err != nil {
			t.Fatalf("a receiver with %s does not take %s: %v", w.secret.Reveal(), header, err)
		}
	}
}

func TestOverlapEndsOnTime(t *testing.T) {
	t.Parallel()
	now := time.Unix(exampleTime, 0)
	const day = 24 * time.Hour
	one := trigger.OneSecret(numbered(1, false))
	two := one.Rotate(numbered(2, true), now, day)
	tests := []struct {
		name    string
		secrets trigger.Secrets
		at      time.Time
		want    string // the numbers of the secrets that sign
	}{
		{"one", one, now.Add(1000 * day), "1"},
		{"begin", two, now, "2 1"},
		{"before the end", two, now.Add(day - 1), "2 1"},
		{"end", two, now.Add(day), "2"},
		{"never ends", two, now.Add(1000 * day), "2"},
		{"no overlap", one.Rotate(numbered(2, true), now, 0), now, "2"},
		{"none left of it", one.Rotate(numbered(2, true), now, -day), now.Add(-2 * day), "2"},
		{"not longer than before", two.Rotate(numbered(3, false), now.Add(day/2), 30*day), now.Add(day), "3 2"},
		{"shorter than before", two.Rotate(numbered(3, false), now, time.Hour), now.Add(time.Hour), "3"},
		{"at its end", two.Rotate(numbered(3, false), now.Add(day), day), now, "3 2"},
		{"none", nil, now, ""},
		{"first of none", trigger.Secrets(nil).Rotate(numbered(3, false), now, day), now, "3"},
	}
	for _, tt := range tests {
		var want []string
		for n := range strings.FieldsSeq(tt.want) {
			secret := numbered(int(n[0]-'0'), n == "2")
			want = append(want, secret.Sign(trigger.ID{}.String(), tt.at, nil))
		}
		if got := tt.secrets.Sign(trigger.ID{}, tt.at, nil); got != strings.Join(want, " ") {
			t.Errorf("%s: signed %q, want %q", tt.name, got, want)
		}
	}
}

// A client that does not know whether its rotation was heard repeats it.
func TestRotateTwiceIsOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(exampleTime, 0)
	key := privateKey(7)
	secrets := trigger.OneSecret(numbered(1, false)).Rotate(numbered(2, true), now, time.Hour)
	again := secrets
	for range 9 {
		again = again.Rotate(numbered(2, true), now, time.Hour)
	}
	if got, want := again.Sign(trigger.ID{}, now, nil), secrets.Sign(trigger.ID{}, now, nil); got != want {
		t.Errorf("signed %q, want %q", got, want)
	}
	back := secrets.Rotate(numbered(1, false), now, time.Minute)
	if len(back) != 2 || back[0].Reveal() != numbered(1, false).Reveal() || !back[0].Until.IsZero() || !back[1].Until.Equal(now.Add(time.Minute)) {
		t.Errorf("rotated back to %v until %v", len(back), back[0].Until)
	}
	// The same bytes as a key of HMAC are another secret.
	mixed := trigger.OneSecret(parseSecret(t, "whsk_"+key)).Rotate(parseSecret(t, "whsec_"+key), now, time.Hour)
	if len(mixed) != 2 {
		t.Errorf("%d secrets of two kinds, want 2", len(mixed))
	}
}

// privateKey is the base64 of a private key, whose bytes may be a symmetric
// secret as well.
func privateKey(n byte) string {
	return strings.TrimPrefix(trigger.NewKeyPair([32]byte{n}).Reveal(), "whsk_")
}

// A secret whose time is not over is not ended by too many rotations.
func TestPushesOut(t *testing.T) {
	t.Parallel()
	now, day := time.Unix(1_800_000_000, 0), 24*time.Hour
	secrets := trigger.OneSecret(numbered(1, true))
	for n := range 4 {
		if next := numbered(n+2, true); secrets.PushesOut(next, now, day) {
			t.Errorf("%d secrets are too many", n+2)
		} else {
			secrets = secrets.Rotate(next, now, day)
		}
	}
	sixth := numbered(6, true)
	for name, c := range map[string]struct {
		got, want bool
	}{
		"a sixth":                {secrets.PushesOut(sixth, now, day), true},
		"one that is there":      {secrets.PushesOut(numbered(3, true), now, day), false},
		"an end of all others":   {secrets.PushesOut(sixth, now, 0), false},
		"when their time is up":  {secrets.PushesOut(sixth, now.Add(2*day), day), false},
		"shortly before it ends": {secrets.PushesOut(sixth, now.Add(day-time.Second), day), true},
	} {
		if c.got != c.want {
			t.Errorf("%s: %v, want %v", name, c.got, c.want)
		}
	}
}
