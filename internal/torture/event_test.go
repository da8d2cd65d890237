package torture

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"triggerd/internal/trigger"
)

// A payload says of itself whether a byte of it was changed.
func TestPayloadChecksItself(t *testing.T) {
	t.Parallel()
	for n := range 200 {
		payload := newPayload(7, n, 3, false)
		if !json.Valid(payload) {
			t.Fatalf("not JSON: %s", payload)
		}
		c, ok := readPayload(payload)
		if !ok || c.N != n || c.Tenant != 3 || c.Refused {
			t.Fatalf("%+v, intact: %v", c, ok)
		}
		at := rand.IntN(len(payload))
		payload[at] ^= 1
		if _, ok := readPayload(payload); ok {
			t.Errorf("a change at %d of %s is not seen", at, payload)
		}
		if _, ok := readPayload(payload[:at]); ok {
			t.Errorf("an end at %d is not seen", at)
		}
	}
}

// The same event has the same payload, whenever it is posted again.
func TestPayloadIsOfItsSeed(t *testing.T) {
	t.Parallel()
	first := string(newPayload(1, 5, 2, false))
	if again := string(newPayload(1, 5, 2, false)); again != first {
		t.Error("two payloads of one event differ")
	}
	if other := string(newPayload(2, 5, 2, false)); other == first {
		t.Error("two seeds have one payload")
	}
}

// The judge's matcher, which works by other means, agrees with the server's.
func TestMatchesAsTheServerDoes(t *testing.T) {
	t.Parallel()
	for _, pattern := range append(patterns(), "*e*", "user.created.*", "größe.?", "user.c[r]eated") {
		filter, err := trigger.ParsePattern(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, eventType := range append(types(), "user.", "xuser.created", "USER.created", "größe.x\n") {
			if got, want := matches(pattern, eventType), filter.Match(eventType); got != want {
				t.Errorf("%q matches %q: %v, the server says %v", pattern, eventType, got, want)
			}
		}
	}
}
