package api

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// payloads are JSON values, each to come back as it is written here.
func payloads() []string {
	set := map[string]bool{}
	for _, payload := range goodEnvelopes() {
		set[payload] = true
	}
	for _, payload := range []string{
		`null`, `false`, `true`, `0`, `-0`, `-0.0`, `[]`, `""`, `{}`, `9007199254740993`, `-9007199254740993`, `1e400`, `-1e400`, `1E+400`,
		`1e999999`, `0.10`, `1.0`, `100e-2`, `0.1e1`, `0.30000000000000004`, "{\n  \"a\" :\t1 ,\r\n \"b\":[ ]\n}", `[ 1 , 2 ]`,
		`{"z":1,"a":2,"m":3}`, `{"a":1,"a":2,"a":{"a":3}}`, `{"":"","A":1,"a":2}`, `"\u0041\u00e9\u2028\ud83d\ude00"`, `"é 😀"`,
		`"\ud800"`, `"\udc00"`, `"\ud800\ud800"`, `{"\ud800":1,"\udfff":2}`, `"\u0000"`, `{"\u0000":"\u0000"}`, `"\/\b\f\n\r\t\"\\"`,
		`"<script>&amp;'\u003c"`, `"\u2028` + "\u2028\u007f\"", `"\uFEFF\ufeff"`, `"'; DROP TABLE events; --"`, `"$1 %s ${x} {{y}}"`,
		strings.Repeat("1", 5000), `"` + strings.Repeat("x", 200_000) + `"`, `[` + strings.Repeat("[],", 20_000) + `0]`,
	} {
		set[payload] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func TestPayloadsComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for _, payload := range payloads() {
			id := s.accept(t, key, `{"type":"a \"b\" \\ é","payload":`+payload+`,"dedup_id":null}`)
			want := `{"events":[{"id":"` + id + `","type":"a \"b\" \\ é","payload":` + payload +
				`,"status":"pending","created-at":"` + createdAt(t, id) + `"}],"count":1}`
			s.do(t, "GET", "/api/inbox?limit=1", key, "").isExactly(t, payload, 200, want)
		}
	})
}

// The whole of the inbox is in order too where it is written in parts.
func TestLargeInbox(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		var want []string
		for i := range 35 {
			payload := `"` + strings.Repeat(string(rune('a'+i%26)), 20_000) + `"`
			id := s.accept(t, key, `{"type":"t","payload":`+payload+`}`)
			want = append(want, id+payload)
		}
		slices.Reverse(want)
		var got []string
		for _, e := range s.inbox(t, key, "?limit=100").Events {
			got = append(got, e.ID+string(e.Payload))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d events differ from the %d that were sent", len(got), len(want))
		}
	})
}

// createdAt is the time in an event's id, as the inbox is to show it.
func createdAt(t *testing.T, id string) string {
	t.Helper()
	parsed, err := trigger.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Time().UTC().Format("2006-01-02T15:04:05.000Z")
}
