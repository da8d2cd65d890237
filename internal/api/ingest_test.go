package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// postV1 posts a body with a Content-Type.
func (s *server) postV1(t *testing.T, key, kind, body string, headers ...string) reply {
	t.Helper()
	return s.do(t, "POST", "/v1/events", key, body, append([]string{"Content-Type: " + kind}, headers...)...)
}

// verdict is what is said of one event.
type verdict struct {
	Index   *int   `json:"index"`
	Status  string `json:"status"`
	ID      string `json:"id"`
	Matches *bool  `json:"payload_matches"`
	Problem *struct {
		Code    string `json:"code"`
		Status  int    `json:"status"`
		EventID string `json:"event_id"`
	} `json:"problem"`
}

// short is a verdict in a word or two.
func (v verdict) short() string {
	switch {
	case v.Problem != nil:
		return v.Status + " " + v.Problem.Code
	case v.Matches != nil:
		return v.Status + " " + strconv.FormatBool(*v.Matches)
	}
	return v.Status
}

// verdicts reads the answer to a batch, and holds it to the order of its events.
func (r reply) verdicts(t *testing.T) (list []verdict) {
	t.Helper()
	if r.header.Get("Content-Type") == "application/x-ndjson" {
		for line := range strings.Lines(r.body) {
			var v verdict
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			list = append(list, v)
		}
	} else {
		var page struct{ Data []verdict }
		if err := json.Unmarshal([]byte(r.body), &page); err != nil {
			t.Fatalf("%v: %d %.300s", err, r.status, r.body)
		}
		list = page.Data
	}
	for i, v := range list {
		if v.Index == nil || *v.Index != i {
			t.Fatalf("verdict %d is of another: %.300s", i, r.body)
		}
	}
	return list
}

func shorts(list []verdict) string {
	words := make([]string, len(list))
	for i, v := range list {
		words[i] = v.short()
	}
	return strings.Join(words, ", ")
}

// payloadOf reads an event's payload back, byte for byte.
func (s *server) payloadOf(t *testing.T, key, id string) string {
	t.Helper()
	e, err := s.as(key).Event(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return string(e.Payload)
}

// Payloads are kept byte for byte, whatever form they come in.
func TestPayloadsInEveryForm(t *testing.T) {
	t.Parallel()
	payloads := []string{
		`1e400`, `-0`, `0.10000000000000000000000000000001`, `123456789012345678901234567890`, `"\u00e9\/\ud83d\ude00"`, `"\u0000"`,
		`{ "a" : [ 1 , 2 ],  "a" : { } }`, `[[[[]]]]`, `null`, `""`, `"<&>\u2028"`, `{"":"","\u0022":1}`, "{\t\"é\": \"\ufeff\"}",
	}
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		var lines, elements, cloud []string
		for i, p := range payloads {
			event := `{"type":"t","payload":` + p + `}`
			lines, elements = append(lines, event), append(elements, " "+event+"\n")
			cloud = append(cloud, fmt.Sprintf(`{"specversion":"1.0","id":"%d","source":"/batch","type":"t","data": %s }`, i, p))
			r := s.postV1(t, key, "application/json", event)
			r.wants(t, event, 201, `{"status":"accepted","id":"`)
			if got := s.payloadOf(t, key, r.member(t, "id")); got != p {
				t.Errorf("%s came back as %s", p, got)
			}
			r = s.postV1(t, key, "application/cloudevents+json", strings.Replace(cloud[i], "/batch", "/structured", 1))
			if r.wants(t, cloud[i], 201, ""); s.payloadOf(t, key, r.member(t, "id")) != p {
				t.Errorf("%s came back otherwise from a CloudEvent", p)
			}
			r = s.postV1(t, key, "application/json; charset=utf-8", p, "ce-specversion: 1.0", "ce-type: t", "ce-source: /binary", "ce-id: "+strconv.Itoa(i))
			if r.wants(t, p, 201, ""); s.payloadOf(t, key, r.member(t, "id")) != p {
				t.Errorf("%s came back otherwise from a binary CloudEvent", p)
			}
		}
		for kind, body := range map[string]string{
			"application/json":                   "\n[" + strings.Join(elements, ",") + "] ",
			"application/x-ndjson":               "\r\n\n" + strings.Join(lines, "\r\n\n") + "\n",
			"application/cloudevents-batch+json": "[" + strings.Join(cloud, ",") + "]",
		} {
			r := s.postV1(t, key, kind, body)
			list := r.verdicts(t)
			if r.status != 200 || len(list) != len(payloads) {
				t.Fatalf("%s: %d %.300s", kind, r.status, r.body)
			}
			for i, v := range list {
				if v.Status != "accepted" || s.payloadOf(t, key, v.ID) != payloads[i] {
					t.Errorf("%s: %s: %+v", kind, payloads[i], v)
				}
			}
		}
	})
}

// Each event of a batch gets its own verdict, in its place.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.MaxBody = 1000 })
		key := s.newKey(t, "enterprise")
		first := s.postV1(t, key, "application/json", `{"type":"t","payload":1,"dedup_id":"known"}`).member(t, "id")
		body := strings.Join([]string{
			`{"type":"t","payload":1}`, `{"type":"t","payload":1,"dedup_id":"known"}`, `{"type":"t","payload":1.0,"dedup_id":"known"}`,
			`{"type":"t","payload":2,"dedup_id":"new"}`, `{"type":"t","payload":2,"dedup_id":"new"}`, `{"type":"t","payload":3,"dedup_id":"new"}`,
			`{"type":"","payload":1}`, `{"type":"t"}`, `{"type":"t","payload":1,"more":1}`, `[]`, `{"type":"t","payload":"` + strings.Repeat("x", 1000) + `"}`,
			`{"type":"t","payload":9}`,
		}, "\n")
		const want = "accepted, duplicate true, duplicate false, accepted, duplicate true, duplicate false, rejected validation_failed, " +
			"rejected validation_failed, rejected validation_failed, rejected invalid_json, rejected body_too_large, accepted"
		r := s.postV1(t, key, "application/json", "["+strings.ReplaceAll(body, "\n", ",")+"]")
		list := r.verdicts(t)
		if r.status != 207 || shorts(list) != want {
			t.Errorf("%d %s", r.status, shorts(list))
		}
		if list[1].ID != first || list[2].ID != first || list[4].ID != list[3].ID || list[5].ID != list[3].ID {
			t.Errorf("duplicates have other ids: %s", r.body)
		}
		r = s.postV1(t, key, "application/x-ndjson", body+"\nnone\n")
		again := strings.Replace(want, "false, accepted", "false, duplicate true", 1) + ", rejected invalid_json"
		if got := shorts(r.verdicts(t)); r.status != 200 || got != again {
			t.Errorf("%d %s, want %s", r.status, got, again)
		}
		for i := range 2 * cacheSize { // until only the store knows them
			s.postV1(t, key, "application/json", fmt.Sprintf(`{"type":"t","payload":1,"dedup_id":"other-%d"}`, i)).wants(t, i, 201, "")
		}
		for range 2 { // from the store, then from the cache
			for payload, matches := range map[string]string{"1": "true", "1.0": "false", " 1 ": "true"} {
				s.postV1(t, key, "application/json", `{"dedup_id":"known","type":"x","payload":`+payload+`}`).
					isExactly(t, payload, 200, `{"status":"duplicate","id":"`+first+`","payload_matches":`+matches+`}`)
			}
		}
		s.do(t, "PATCH", "/v1/me", key, `{"deduplication":"strict"}`, "Content-Type: application/json").wants(t, "strict", 200, "")
		eventually(t, "the key is strict", func() bool {
			s.clock.Advance(4 * time.Second)
			r = s.postV1(t, key, "application/json", `{"dedup_id":"known","type":"x","payload":2}`)
			return r.status == 422
		})
		r.wants(t, "strict", 422, `"code":"payload_differs"`)
		r.wants(t, "strict", 422, `"event_id":"`+first+`"`)
		s.postV1(t, key, "application/json", `{"dedup_id":"known","type":"x","payload":1}`).wants(t, "strict", 200, `"payload_matches":true`)
		r = s.postV1(t, key, "application/json", `[{"dedup_id":"known","type":"x","payload":2},{"dedup_id":"s","type":"x","payload":2},{"dedup_id":"s","type":"x","payload":3}]`)
		if list := r.verdicts(t); shorts(list) != "rejected payload_differs, accepted, rejected payload_differs" ||
			list[0].Problem.EventID != first || list[2].Problem.EventID != list[1].ID {
			t.Errorf("%s", r.body)
		}
	})
}

// The header Idempotency-Key is the dedup id.
func TestIdempotencyKeyOfEvents(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		post := func(body, idempotency string) reply {
			return s.postV1(t, key, "application/json", body, "Idempotency-Key: "+idempotency)
		}
		id := post(`{"type":"t","payload":1}`, `one`).member(t, "id")
		post(`{"type":"t","payload":1}`, `"one"`).isExactly(t, "quoted", 200, `{"status":"duplicate","id":"`+id+`","payload_matches":true}`)
		post(`{"type":"t","payload":1,"dedup_id":"one"}`, `one`).wants(t, "equal", 200, id)
		post(`{"type":"t","payload":1,"dedup_id":"two"}`, `one`).wants(t, "other", 422, `"pointer":"#/dedup_id"`)
		post(`{"type":"t","payload":1}`, strings.Repeat("k", 200)).wants(t, "200 bytes", 201, "")
		post(`{"type":"t","payload":1}`, strings.Repeat("k", 201)).wants(t, "201 bytes", 422, "Idempotency-Key")
		post(`{"type":"t","payload":1}`, `""`).wants(t, "empty", 422, "Idempotency-Key")
		s.postV1(t, key, "application/json", `{"type":"t","payload":1}`, "Idempotency-Key: a", "Idempotency-Key: a").wants(t, "twice", 422, "Idempotency-Key")
		batch := `[{"type":"t","payload":1},{"type":"t","payload":2,"dedup_id":"own"},{"type":"t","payload":3}]`
		long := strings.Repeat("b", 200)
		list := post(batch, long).verdicts(t)
		if got := shorts(post(batch, long).verdicts(t)); got != "duplicate true, duplicate true, duplicate true" {
			t.Errorf("again: %s", got)
		}
		for i, dedup := range []string{long + "#0", "own", long + "#2"} {
			if e, err := s.as(key).Event(t.Context(), list[i].ID); err != nil || e.DedupID != dedup {
				t.Errorf("event %d has the dedup id %q, %v", i, e.DedupID, err)
			}
		}
		cloud := `{"specversion":"1.0","id":"1","source":"/s","type":"t"}`
		r := s.postV1(t, key, "application/cloudevents+json", cloud, "Idempotency-Key: unused")
		if e, err := s.as(key).Event(t.Context(), r.member(t, "id")); err != nil || e.DedupID != "/s 1" || string(e.Payload) != "null" || e.CloudEvent["source"] != "/s" {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// What a request may hold is bounded, and the bounds themselves are let through.
func TestBoundsOfPosts(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := newServer(t, db, func(a *API) { a.Ahead = time.Hour })
	key := s.newKey(t, "enterprise")
	one := `{"type":"t","payload":1}`
	array := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]" }
	if r := s.postV1(t, key, "application/json", array(1000)); r.status != 200 || len(r.verdicts(t)) != 1000 {
		t.Errorf("1000 events: %d %.300s", r.status, r.body)
	}
	s.postV1(t, key, "application/json", array(1001)).wants(t, "1001 events", 422, "1000")
	s.postV1(t, key, "application/x-ndjson", strings.Repeat(one+"\n", 1001)).wants(t, "1001 lines", 422, "1000")
	s.postV1(t, key, "application/json", "[]").wants(t, "none", 422, "validation_failed")
	s.postV1(t, key, "application/x-ndjson", "\n \n").wants(t, "no line", 422, "validation_failed")
	full := array(10)
	full += strings.Repeat(" ", 8<<20-len(full))
	s.postV1(t, key, "application/json", full).wants(t, "8 MiB", 200, `"index":9`)
	s.postV1(t, key, "application/json", full+" ").wants(t, "8 MiB + 1", 413, "body_too_large")
	single := `{"type":"t","payload":"` + strings.Repeat("x", 1<<20-len(`{"type":"t","payload":""}`)) + `"}`
	s.postV1(t, key, "application/json", single).wants(t, "1 MiB", 201, "")
	s.postV1(t, key, "application/json", single+" ").wants(t, "1 MiB + 1", 413, "body_too_large")
	if got := shorts(s.postV1(t, key, "application/json", "["+single+","+single[:len(single)-2]+`x"},`+one+"]").verdicts(t)); got !=
		"accepted, rejected body_too_large, accepted" {
		t.Errorf("a large one among others: %s", got)
	}
	for _, kind := range []string{"text/plain", "application/xml", "application/cloudevents+avro", "application/cloudevents-batch+avro"} {
		s.postV1(t, key, kind, one).wants(t, kind, 415, "unsupported_media_type")
	}
	s.postV1(t, key, "application/json", one, "Content-Encoding: gzip").wants(t, "gzip", 415, "unsupported_media_type")

	later := func(ahead time.Duration) reply {
		at := s.store.Now().Add(ahead).UTC().Format("2006-01-02T15:04:05.000000000Z")
		return s.postV1(t, key, "application/json", `{"type":"t","payload":1,"deliver_at":"`+at+`"}`)
	}
	later(time.Hour).wants(t, "an hour ahead", 201, "") // it is measured a little later
	later(time.Hour+10*time.Second).wants(t, "over an hour ahead", 422, `"pointer":"#/deliver_at"`)
	past := later(-time.Hour)
	if e, err := s.as(key).Event(t.Context(), past.member(t, "id")); err != nil || !e.DeliverAt.IsZero() {
		t.Errorf("in the past: %+v, %v", e, err)
	}
}

// The trace of a sender comes in the body, or else in a header of a single
// event's request.
func TestTraceparentOfEvents(t *testing.T) {
	t.Parallel()
	const a, b = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-11111111111111111111111111111111-2222222222222222-00"
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		trace := func(id string) string {
			e, err := s.as(key).Event(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return e.Traceparent
		}
		for _, c := range []struct{ kind, body, header, want string }{
			{"application/json", `{"type":"t","payload":1}`, a, a},
			{"application/json", `{"type":"t","payload":1,"traceparent":"` + b + `"}`, a, b},
			{"application/json", `{"type":"t","payload":1,"traceparent":"wrong"}`, a, a},
			{"application/json", `{"type":"t","payload":1}`, strings.ToUpper(a), ""},
			{"application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","traceparent":"` + b + `"}`, a, b},
			{"application/cloudevents+json", `{"specversion":"1.0","id":"2","source":"/s","type":"t"}`, a, a},
		} {
			r := s.postV1(t, key, c.kind, c.body, "traceparent: "+c.header)
			if got := trace(r.member(t, "id")); got != c.want {
				t.Errorf("%s with %s: %q", c.body, c.header, got)
			}
		}
		r := s.postV1(t, key, "application/json", `[{"type":"t","payload":1},{"type":"t","payload":1,"traceparent":"`+b+`"}]`, "traceparent: "+a)
		if list := r.verdicts(t); trace(list[0].ID) != "" || trace(list[1].ID) != b {
			t.Errorf("of a batch: %q %q", trace(list[0].ID), trace(list[1].ID))
		}
	})
}

// A batch passes the rate limit as a whole, or not at all.
func TestRateOfBatches(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, func(a *API) { a.Limits[trigger.Free] = 10 })
		key := s.newKey(t, "free")
		batch := func(n int) string { return strings.Repeat(`{"type":"t","payload":1}`+"\n", n) }
		left := func(r reply, n int) {
			t.Helper()
			if got := r.header.Get("RateLimit"); !strings.HasPrefix(got, fmt.Sprintf(`"default";r=%d;t=`, n)) || r.header.Get("RateLimit-Policy") != `"default";q=10;w=60` {
				t.Errorf("RateLimit is %s, want %d left", got, n)
			}
		}
		left(s.do(t, "GET", "/v1/events", key, ""), 10)
		r := s.postV1(t, key, "application/x-ndjson", batch(6))
		r.wants(t, "6", 200, "")
		left(r, 4)
		r = s.postV1(t, key, "application/x-ndjson", batch(5))
		r.wants(t, "5 of 4", 429, "rate_limited")
		left(r, 4)
		s.postV1(t, key, "application/x-ndjson", batch(11)).wants(t, "11 of 10", 422, "validation_failed")
		left(s.postV1(t, key, "application/json", `{"type":"t","payload":1}`), 3)
		left(s.postV1(t, key, "application/json", `{"type":"t"}`), 2)
		left(s.postV1(t, key, "application/x-ndjson", batch(2)), 0)
		s.postV1(t, key, "text/plain", "").wants(t, "over the limit", 429, "rate_limited")
		if n := s.inbox(t, key, "?limit=100").Count; n != 9 {
			t.Errorf("%d events are stored, want 9", n)
		}
		s.clock.Advance(minute)
		r = s.postV1(t, key, "application/x-ndjson", batch(10))
		r.wants(t, "a minute later", 200, "")
		left(r, 0)
	})
}

// What is found by several filters is what each of them finds, over all pages.
func TestEventFiltersOverHTTP(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		hook := s.newWebhook(t, key, `{"url":"https://example.com/1","event_type_filter":"a.*"}`)
		both := s.newWebhook(t, key, `{"url":"https://example.com/2","event_type_filter":"a.b"}`)
		c := s.as(key)
		ids := map[string][]string{}
		for i := range 9 {
			kind := []string{"a.a", "a.b", "c"}[i%3]
			made := sure(c.PostEvent(t.Context(), client.EventInput{Type: kind, Payload: json.RawMessage(strconv.Itoa(i)), DedupID: fmt.Sprint("d", i)}))(t)
			ids[kind] = append([]string{made.ID}, ids[kind]...)
		}
		s.settle(t, key, hook, trigger.Success) // a.a is delivered; a.b waits for the other
		zero := int64(0)
		find := func(q client.EventQuery) (found []string) {
			t.Helper()
			q.Limit = 2
			for e, err := range c.Events(t.Context(), q) {
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, e.ID)
			}
			return found
		}
		for _, f := range []struct {
			name string
			q    client.EventQuery
			want []string
		}{
			{"type", client.EventQuery{Type: "a.b"}, ids["a.b"]},
			{"delivered", client.EventQuery{Status: "delivered"}, ids["a.a"]},
			{"delivered by a webhook, pending at another", client.EventQuery{Status: "pending", WebhookID: &hook}, ids["a.b"]},
			{"of the other", client.EventQuery{WebhookID: &both}, ids["a.b"]},
			{"of the inbox", client.EventQuery{WebhookID: &zero}, ids["c"]},
			{"pending of the inbox", client.EventQuery{Status: "pending", WebhookID: &zero, Type: "*c"}, ids["c"]},
			{"none", client.EventQuery{Status: "failed"}, nil},
			{"dedup id", client.EventQuery{DedupID: "d8"}, ids["c"][:1]},
			{"dedup id and type", client.EventQuery{DedupID: "d8", Type: "a.*"}, nil},
			{"young ones are not settled", client.EventQuery{Order: "oldest"}, nil},
		} {
			if got := find(f.q); strings.Join(got, " ") != strings.Join(f.want, " ") {
				t.Errorf("%s: %v, want %v", f.name, got, f.want)
			}
		}
		db.Clock.Advance(31 * time.Second)
		if got := find(client.EventQuery{Order: "oldest"}); len(got) != 9 || got[0] != ids["a.a"][2] || got[8] != ids["c"][0] {
			t.Errorf("oldest first: %v", got)
		}
		page := s.do(t, "GET", "/v1/events?limit=2&type=a.*", key, "")
		cursor := page.member(t, "next_cursor")
		for _, query := range []string{"?type=c&cursor=", "?cursor=", "?type=a.*&order=oldest&cursor="} {
			s.do(t, "GET", "/v1/events"+query+cursor, key, "").wants(t, query, 400, "invalid_cursor")
		}
		for _, query := range []string{"?status=open", "?order=up", "?webhook_id=-1", "?dedup_id=", "?since=today", "?limit=0", "?limit=101", "?a=1", "?type=a&type=b"} {
			s.do(t, "GET", "/v1/events"+query, key, "").wants(t, query, 400, "invalid_parameter")
		}
	})
}

// An event tells all that is known of it; a scheduled one can be taken back.
func TestEventDetailAndDelete(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key, other := s.newKey(t, "free"), s.newKey(t, "free")
		hook := s.newWebhook(t, key, `{"url":"https://example.com/1","event_type_filter":"a"}`)
		c := s.as(key)
		sent := sure(c.PostEvent(t.Context(), client.EventInput{Type: "a", Payload: json.RawMessage(`1`), DedupID: "d"}))(t)
		s.settle(t, key, hook, trigger.Permanent)
		e := sure(c.Event(t.Context(), sent.ID))(t)
		if e.Status != "failed" || len(e.Deliveries) != 1 || e.Deliveries[0].WebhookID != hook || e.Deliveries[0].Attempts != 1 || e.Deliveries[0].LastAttempt == nil {
			t.Errorf("%+v", e)
		}
		if list := sure(c.EventAttempts(t.Context(), sent.ID))(t); len(list) != 1 || list[0].Number != 1 || list[0].EventID != sent.ID {
			t.Errorf("attempts %+v", list)
		}
		later := sure(c.PostEvent(t.Context(), client.EventInput{Type: "b", Payload: json.RawMessage(`1`), DeliverAt: s.store.Now().Add(time.Hour), DedupID: "l"}))(t)
		if why := sure(c.EventWhy(t.Context(), later.ID))(t); len(why) != 2 || why[0].WebhookID != 0 || why[0].Verdict != "waiting" ||
			why[0].NextAttemptAt.Before(s.store.Now().Add(time.Minute)) || why[1].Verdict != "filtered" {
			t.Errorf("why %+v", why)
		}
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{}))(t); len(got.Data) != 0 {
			t.Errorf("claimed before it is due: %+v", got)
		}
		isCode(t, "another's", s.as(other).DeleteEvent(t.Context(), later.ID), client.CodeNotFound)
		if err := c.DeleteEvent(t.Context(), later.ID); err != nil {
			t.Error(err)
		}
		isCode(t, "deleted", c.DeleteEvent(t.Context(), later.ID), client.CodeNotFound)
		_, err := c.Event(t.Context(), later.ID)
		isCode(t, "deleted", err, client.CodeNotFound)
		db.Clock.Advance(2 * time.Hour)
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{}))(t); len(got.Data) != 0 {
			t.Errorf("claimed though deleted: %+v", got)
		}
		if again := sure(c.PostEvent(t.Context(), client.EventInput{Type: "b", Payload: json.RawMessage(`1`), DedupID: "l"}))(t); again.Status != "duplicate" {
			t.Errorf("the dedup id of a deleted event: %+v", again)
		}
	})
}

// FuzzPostEvents posts anything: nothing fails on our side, and what is
// accepted reads back byte for byte.
func FuzzPostEvents(f *testing.F) {
	for _, seed := range []struct{ kind, body string }{
		{"application/json", `{"type":"t","payload":{"a": 1.0}}`},
		{"application/json", `[{"type":"t","payload":1,"dedup_id":"d"},{"type":"t","payload":"\ud800"}]`},
		{"application/x-ndjson", "{\"type\":\"t\",\"payload\":1}\r\n\n{\"type\":\"t\",\"payload\":\"\\u0000\",\"deliver_at\":\"2026-01-01T00:00:00Z\"}"},
		{"application/cloudevents+json", `{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"AA=="}`},
		{"application/cloudevents-batch+json", `[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":null,"traceparent":"x"}]`},
		{"", `{"type":"t","payload":`},
		{"text/plain", "\xff"},
	} {
		f.Add(seed.kind, seed.body)
	}
	f.Fuzz(func(t *testing.T, kind, body string) {
		if strings.ContainsFunc(kind, func(r rune) bool { return r < ' ' || r > '~' }) {
			return
		}
		s := newServer(t, storetest.SQLite(t))
		key := s.newKey(t, "enterprise")
		r := s.postV1(t, key, kind, body)
		if r.status >= 500 || r.status < 200 {
			t.Fatalf("%d %.300s", r.status, r.body)
		}
		var list []verdict
		if strings.HasPrefix(r.body, `{"data":`) || r.header.Get("Content-Type") == "application/x-ndjson" {
			list = r.verdicts(t)
		} else if r.status < 300 {
			list = []verdict{{Status: r.member(t, "status"), ID: r.member(t, "id")}}
		}
		for _, v := range list {
			if v.Status != "accepted" {
				continue
			}
			payload := s.payloadOf(t, key, v.ID)
			if r.status != http.StatusCreated && v.Index == nil || !json.Valid([]byte(payload)) || !strings.Contains(body, payload) && payload != "null" {
				t.Errorf("%s is not of %q", payload, body)
			}
		}
	})
}
