package api

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

func TestSamples(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r, other := s.newRegistrar(t), s.newRegistrar(t)
		if got := r.bare(t, "GET", "/v1/samples", ""); got.status != 200 || got.body != `[]` {
			t.Errorf("none: %d %s", got.status, got.body)
		}
		var ids []string
		for i := range 5 {
			accepted, err := r.c.PostEvent(t.Context(), client.EventInput{
				Type: []string{"a.x", "b.x"}[i%2], Payload: json.RawMessage(`{ "n": ` + strconv.Itoa(i) + `.00, "s":"<é>" }`), DedupID: "d" + strconv.Itoa(i),
			})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, accepted.ID)
		}
		list, err := r.c.Samples(t.Context(), "", 0)
		if err != nil || len(list) != 3 || list[0].ID != ids[4] || list[1].ID != ids[3] || list[2].ID != ids[2] ||
			string(list[0].Data) != `{ "n": 4.00, "s":"<é>" }` {
			t.Errorf("the newest: %+v %v", list, err)
		}
		if list, err := r.c.Samples(t.Context(), "b.*", 100); err != nil || len(list) != 2 || list[0].ID != ids[3] || list[1].ID != ids[1] {
			t.Errorf("of a type: %+v %v", list, err)
		}
		// exactly as they are delivered
		id, _ := trigger.ParseID(ids[4])
		e, _, err := s.store.Event(t.Context(), r.orgOf(t).ID, id)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.bare(t, "GET", "/v1/samples?limit=1", ""); got.body != `[`+string(e.AppendBody(nil, trigger.FormatStandard))+`]` ||
			got.header.Get("Content-Type") != "application/json" {
			t.Errorf("%v %s", got.header, got.body)
		}
		if got := other.bare(t, "GET", "/v1/samples", ""); got.body != `[]` {
			t.Errorf("another's: %s", got.body)
		}
		for path, at := range map[string]string{"?limit=0": "limit", "?limit=101": "limit", "?limit=x": "limit", "?examples=no": "examples", "?x=1": "x", "?type=" + strings.Repeat("*", 9): "type", "?limit=1&limit=1": "limit"} {
			refused(t, path, r.bare(t, "GET", "/v1/samples"+path, ""), 400, "invalid_parameter", at)
		}
	})
}

// What is to be delivered later, and what the server says about itself, is no
// sample, unless it is asked for.
func TestSamplesLeaveOut(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r := s.newRegistrar(t)
		org := r.orgOf(t).ID
		notice := (&trigger.Notice{Type: trigger.WebhookPaused, About: 1, Once: "x"}).Event(org)
		batch := &store.Batch{}
		at := s.store.Now().Add(-time.Minute)
		add := func(e *trigger.Event) string {
			at = at.Add(time.Millisecond)
			e.ID, e.OrganizationID = trigger.NewID(at, 0, uint64(len(batch.Events))), org
			batch.Events, batch.Deliveries = append(batch.Events, e), append(batch.Deliveries, nil)
			return e.ID.String()
		}
		plain := add(&trigger.Event{Type: "a", Payload: []byte(`1`)})
		posted := add(&trigger.Event{Type: trigger.WebhookPaused, Payload: []byte(`"of the user's own"`)})
		past := add(&trigger.Event{Type: "a", Payload: []byte(`2`), DeliverAt: at.Add(time.Second)})
		told := add(notice)
		for range 250 {
			add(&trigger.Event{Type: "a", Payload: []byte(`3`), DeliverAt: at.Add(time.Hour)})
		}
		if _, err := s.store.AddEvents(t.Context(), batch, false); err != nil {
			t.Fatal(err)
		}
		for pattern, want := range map[string][]string{
			"": {past, posted, plain}, "a": {past, plain}, "*": {past, posted, plain}, "webhook.*": {told, posted}, "webhook.paused": {told, posted}, "b": {},
		} {
			list, err := r.c.Samples(t.Context(), pattern, 10)
			var ids []string
			for _, sample := range list {
				ids = append(ids, sample.ID)
			}
			if err != nil || strings.Join(ids, " ") != strings.Join(want, " ") {
				t.Errorf("%q: %v %v, want %v", pattern, ids, err, want)
			}
		}
	})
}

func TestSamplesOfEventTypes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r := s.newRegistrar(t)
		r.put(t, "user.created", client.EventTypeInput{Schema: json.RawMessage(`{"examples":[{ "name" : "Ada" },{"name":"Grace"}],"default":1}`), Mode: client.ModeOff})
		db.Clock.Advance(time.Second)
		if err := s.store.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.put(t, "user.deleted", client.EventTypeInput{Schema: json.RawMessage(`{"examples":[],"default":{"id":1}}`)})
		r.put(t, "order", client.EventTypeInput{Schema: json.RawMessage(`{"example":"<x>"}`)})
		r.put(t, "none", client.EventTypeInput{Schema: json.RawMessage(`{"properties":{"a":{"examples":[1]}}}`)})
		r.put(t, "bare", client.EventTypeInput{})
		first := r.bare(t, "GET", "/v1/samples?type=user.*", "")
		var list []client.Delivery
		if err := json.Unmarshal([]byte(first.body), &list); err != nil || len(list) != 3 || list[0].Type != "user.deleted" || string(list[0].Data) != `{"id":1}` ||
			string(list[1].Data) != `{ "name" : "Ada" }` || string(list[2].Data) != `{"name":"Grace"}` || list[1].ID == list[2].ID {
			t.Errorf("%s %v", first.body, err)
		}
		for _, sample := range list {
			if id, err := trigger.ParseID(sample.ID); err != nil || sample.ID[14] != '7' || id.Time().Truncate(time.Millisecond) != sample.Timestamp {
				t.Errorf("%+v", sample)
			}
		}
		// the same ones again, whatever else is changed
		r.put(t, "user.created", client.EventTypeInput{Schema: json.RawMessage(`{"examples":[{ "name" : "Ada" },{"name":"Grace"}]}`), Description: "x"})
		if again := r.bare(t, "GET", "/v1/samples?type=user.*&examples=true", ""); again.body != first.body {
			t.Errorf("then %s, now %s", first.body, again.body)
		}
		if got := r.bare(t, "GET", "/v1/samples?type=order", ""); !strings.Contains(got.body, `"type":"order"`) || !strings.Contains(got.body, `"data":"<x>"`) {
			t.Errorf("%s", got.body)
		}
		for _, query := range []string{"?type=none", "?type=bare", "?type=user.*&examples=false", "?type=other"} {
			if got := r.bare(t, "GET", "/v1/samples"+query, ""); got.body != `[]` {
				t.Errorf("%s: %s", query, got.body)
			}
		}
		if list, err := r.c.Samples(t.Context(), "", 2); err != nil || len(list) != 2 {
			t.Errorf("%+v %v", list, err)
		}
		if _, err := r.c.PostEvent(t.Context(), client.EventInput{Type: "user.created", Payload: json.RawMessage(`7`)}); err != nil {
			t.Fatal(err)
		}
		if list, err := r.c.Samples(t.Context(), "user.*", 3); err != nil || len(list) != 1 || string(list[0].Data) != `7` {
			t.Errorf("beside an event: %+v %v", list, err)
		}
	})
}

// Large events are written as they are read.
func TestLargeSamples(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r := s.newRegistrar(t)
		payload := json.RawMessage(`"` + strings.Repeat("x", 900<<10) + `"`)
		for range 12 {
			if _, err := r.c.PostEvent(t.Context(), client.EventInput{Type: "a", Payload: payload}); err != nil {
				t.Fatal(err)
			}
		}
		list, err := r.c.Samples(t.Context(), "", 100)
		if err != nil || len(list) != 12 {
			t.Fatalf("%d: %v", len(list), err)
		}
		for _, sample := range list {
			if string(sample.Data) != string(payload) {
				t.Fatal("another payload")
			}
		}
		eventually(t, "all memory is given back", func() bool {
			s.api.used.mu.Lock()
			defer s.api.used.mu.Unlock()
			return s.api.used.used == 0
		})
	})
}
