package trigger_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func TestNewEventJudgesTheType(t *testing.T) {
	t.Parallel()
	for _, tt := range texts {
		_, err := trigger.NewEvent(1, tt.text, "", []byte("null"))
		wantValid(t, tt.name, err, tt.valid)
	}
}

func TestNewEventJudgesTheDedupID(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		dedupID string
		valid   bool
	}{
		{"none", "", true},
		{"255 bytes", strings.Repeat("a", 255), true},
		{"256 bytes", strings.Repeat("a", 256), false},
		{"256 bytes in 128 characters", strings.Repeat("é", 128), false},
		{"control characters but NUL", "a\n\t\x1f\x7f\u0080", true},
		{"NUL", "\x00", false},
		{"NUL within", "a\x00b", false},
		{"lone byte", "a\xff", false},
		{"surrogate", "a\xed\xa0\x80", false},
	}
	for _, tt := range tests {
		_, err := trigger.NewEvent(1, "t", tt.dedupID, []byte("null"))
		wantValid(t, tt.name, err, tt.valid)
	}
}

func TestNewEventKeepsWhatItIsGiven(t *testing.T) {
	t.Parallel()
	got, err := trigger.NewEvent(7, "user.created", "d-1", []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &trigger.Event{OrganizationID: 7, Type: "user.created", DedupID: "d-1", Payload: []byte(`{"a":1}`)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := got.Size(); n < len("user.created"+"d-1"+`{"a":1}`)+len(got.ID) {
		t.Errorf("Size() = %d, less than its parts", n)
	}
}

func TestPayloadHash(t *testing.T) {
	t.Parallel()
	payload := []byte(`{"a": 1}`)
	sum := sha256.Sum256(payload)
	if got := (&trigger.Event{Payload: payload}).PayloadHash(); !bytes.Equal(got[:], sum[:16]) {
		t.Errorf("PayloadHash() = %x, want %x", got, sum[:16])
	}
}

func TestAppendBodyIsPinned(t *testing.T) {
	t.Parallel()
	event := &trigger.Event{
		ID:      trigger.NewID(time.Date(2025, 11, 11, 17, 30, 0, 1_999_000, time.UTC), 1, 1<<18),
		Type:    `a"b\c/d<é🙂`,
		Payload: []byte(`{"b": 0.10, "a":"<\u00e9\ud800>"}`),
		DedupID: "not shown",
	}
	want := `before {"id":"019a73f7-a1c1-7ffb-8000-400000000001","type":"a\"b\\c/d<é🙂",` +
		`"timestamp":"2025-11-11T17:30:00.001Z","data":{"b": 0.10, "a":"<\u00e9\ud800>"}}`
	if diff := cmp.Diff(want, string(event.AppendBody([]byte("before "), trigger.FormatStandard))); diff != "" {
		t.Error(diff)
	}
}

// body is what a receiver reads; its Data is kept as it stands there.
type body struct {
	ID        string          `json:"id"`
	Type      string          `json:"type"`
	Timestamp time.Time       `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

func checkBody(t interface{ Fatalf(string, ...any) }, event *trigger.Event) {
	raw := event.AppendBody(nil, trigger.FormatStandard)
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	var got body
	if err := decoder.Decode(&got); err != nil || decoder.InputOffset() != int64(len(raw)) {
		t.Fatalf("%s is not one JSON object: %v", raw, err)
	}
	if got.ID != event.ID.String() || got.Type != event.Type {
		t.Fatalf("id %q, type %q; want %q, %q", got.ID, got.Type, event.ID, event.Type)
	}
	if want := event.ID.Time().Truncate(time.Millisecond); !got.Timestamp.Equal(want) {
		t.Fatalf("timestamp %v, want %v", got.Timestamp, want)
	}
	if !bytes.Equal(got.Data, event.Payload) {
		t.Fatalf("data %q, want the very bytes %q", got.Data, event.Payload)
	}
}

func TestAppendBodyKeepsPayloads(t *testing.T) {
	t.Parallel()
	payloads := []string{
		"null", "false", "0", "[]", `""`, "{}", "9007199254740993", "1e400", "0.10", "-0", "1E+2",
		`{"b":1,"a":2,"b":3}`, "{ \"a\" :\t[ 1,\r\n2 ] }", `"<script>&\u2028\/"`, "\"\u2028é\"", `"\ud800"`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64),
	}
	for _, payload := range payloads {
		event, err := trigger.NewEvent(1, "t", "", []byte(payload))
		if err != nil {
			t.Fatal(err)
		}
		event.ID = trigger.NewID(time.UnixMicro(1_800_000_000_123_456), 3, 4)
		checkBody(t, event)
	}
}

// drawType draws a valid event type, rich in what JSON must escape.
func drawType(t *rapid.T) string {
	char := rapid.OneOf(
		rapid.RuneFrom([]rune(`"\/.<>&'`+"\u2028\u2029\ufffd")),
		rapid.Rune().Filter(func(r rune) bool { return !unicode.IsControl(r) }),
	)
	return rapid.StringOfN(char, 1, -1, trigger.MaxType).Draw(t, "type")
}

func TestAppendBodyKeepsTypes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		event, err := trigger.NewEvent(1, drawType(t), "", []byte(`{"a": [1]}`))
		if err != nil {
			t.Fatal(err)
		}
		event.ID, _ = drawID(t, rapid.Int64Range(0, 1<<52).Draw(t, "micros"), "id")
		checkBody(t, event)
	})
}

func FuzzNewEvent(f *testing.F) {
	f.Add("user.created", "d", []byte(`{"a":1}`))
	f.Add("a\"\\é\u2028", "", []byte(`[1e400, "\ud800"]`))
	f.Add("a\x7f", "\x00", []byte(`nul`))
	f.Fuzz(func(t *testing.T, eventType, dedupID string, payload []byte) {
		event, err := trigger.NewEvent(1, eventType, dedupID, payload)
		valid := eventType != "" && len(eventType) <= 255 && utf8.ValidString(eventType) &&
			!strings.ContainsFunc(eventType, unicode.IsControl) &&
			len(dedupID) <= 255 && utf8.ValidString(dedupID) && !strings.Contains(dedupID, "\x00")
		wantValid(t, eventType+" "+dedupID, err, valid)
		if valid && json.Valid(payload) && bytes.Equal(payload, bytes.TrimSpace(payload)) {
			checkBody(t, event)
		}
	})
}

func TestAppendTime(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 3600)
	tests := []struct {
		at   time.Time
		want string
	}{
		{time.Date(2025, 11, 11, 17, 30, 0, 0, time.UTC), "2025-11-11T17:30:00.000Z"},
		{time.Date(2025, 11, 11, 0, 30, 0, 999_999_999, zone), "2025-11-10T23:30:00.999Z"},
	}
	for _, tt := range tests {
		if got := string(trigger.AppendTime([]byte("x"), tt.at)); got != "x"+tt.want {
			t.Errorf("AppendTime(%v) = %s, want x%s", tt.at, got, tt.want)
		}
	}
}

func TestParseStatus(t *testing.T) {
	t.Parallel()
	for _, status := range []trigger.Status{trigger.Pending, trigger.Delivered, trigger.Failed} {
		if got, err := trigger.ParseStatus(string(status)); got != status || err != nil {
			t.Errorf("ParseStatus(%q) = %q, %v", status, got, err)
		}
	}
	for _, s := range []string{"", "Pending", " pending", "open", "failed\x00"} {
		got, err := trigger.ParseStatus(s)
		wantValid(t, s, err, false)
		if got != "" {
			t.Errorf("ParseStatus(%q) = %q", s, got)
		}
	}
}

func TestStatusOf(t *testing.T) {
	t.Parallel()
	tests := []struct {
		open, failed bool
		want         trigger.Status
	}{
		{false, false, trigger.Delivered},
		{false, true, trigger.Failed},
		{true, false, trigger.Pending},
		{true, true, trigger.Pending},
	}
	for _, tt := range tests {
		if got := trigger.StatusOf(tt.open, tt.failed); got != tt.want {
			t.Errorf("StatusOf(%v, %v) = %s, want %s", tt.open, tt.failed, got, tt.want)
		}
	}
}
