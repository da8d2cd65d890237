package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/fair"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// registrar is an organization with event types.
type registrar struct {
	*server
	c   *client.Client
	key string
}

func (s *server) newRegistrar(t *testing.T) *registrar {
	t.Helper()
	key := s.newKey(t, "enterprise")
	return &registrar{s, &client.Client{BaseURL: s.URL, Key: key, HTTP: s.Client(), Retries: -1}, key}
}

// bare sends a request as it stands.
func (r *registrar) bare(t *testing.T, method, path, body string) reply {
	t.Helper()
	return r.ask(t, method, path, body, "Authorization", "Bearer "+r.key)
}

// ask sends a request with one header.
func (r *registrar) ask(t *testing.T, method, path, body, name, value string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(name, value)
	res, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(text)}
}

// refused wants a problem, at a pointer or parameter, "" for none.
func refused(t *testing.T, what string, r reply, status int, code, at string) {
	t.Helper()
	var p client.Error
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.status != status || p.Code != code {
		t.Errorf("%.200s: %d %.300s, want %d %s", what, r.status, r.body, status, code)
		return
	}
	got := ""
	if len(p.Errors) > 0 {
		got = p.Errors[0].Pointer + p.Errors[0].Parameter
	}
	if got != at || internal.MatchString(strings.ReplaceAll(r.body, "/docs/problems", "")) {
		t.Errorf("%.200s: at %q, want %q: %.300s", what, got, at, r.body)
	}
}

func (r *registrar) put(t *testing.T, name string, in client.EventTypeInput) client.EventType {
	t.Helper()
	set, err := r.c.PutEventType(t.Context(), name, in)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func TestEventTypes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r, other := s.newRegistrar(t), s.newRegistrar(t)
		schema := "{ \"type\" : \"object\",\n\t\"title\":\"<é&\\u0000\u2028>\", \"maximum\":1.00,\"examples\":[{}] }"
		const path = "/v1/event-types/user.created"
		first := r.bare(t, "PUT", path, `{"schema":  `+schema+`  ,"mode":"reject","description":"a \"user\"\n"}`)
		if first.status != 201 || !strings.Contains(first.body, `"mode":"reject","schema":`+schema+`,"description":"a \"user\"`) {
			t.Fatalf("put: %d %s", first.status, first.body)
		}
		db.Clock.Advance(time.Second)
		if err := s.store.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := r.bare(t, "GET", path, ""); got.status != 200 || got.body != first.body {
			t.Errorf("get: %d %s, want %s", got.status, got.body, first.body)
		}
		if got := r.bare(t, "GET", "/v1/event-types", ""); got.body != `{"data":[`+first.body+`],"next_cursor":null}` {
			t.Errorf("list: %d %s", got.status, got.body)
		}
		before, err := r.c.EventType(t.Context(), "user.created")
		if err != nil || before.Mode != client.ModeReject || before.Description != "a \"user\"\n" {
			t.Errorf("%+v %v", before, err)
		}
		// all of it is replaced
		again := r.bare(t, "PUT", path, ``)
		var after client.EventType
		if err := json.Unmarshal([]byte(again.body), &after); err != nil || again.status != 200 || after.Mode != client.ModeWarn ||
			!strings.Contains(again.body, `"schema":null,"description":""`) || !after.CreatedAt.Equal(before.CreatedAt) ||
			!after.UpdatedAt.After(before.UpdatedAt) {
			t.Errorf("put again: %d %s %v", again.status, again.body, err)
		}
		// nobody else's
		refused(t, "another's", other.bare(t, "GET", path, ""), 404, "not_found", "")
		refused(t, "another's", other.bare(t, "DELETE", path, ""), 404, "not_found", "")
		if got := other.bare(t, "GET", "/v1/event-types", ""); got.body != `{"data":[],"next_cursor":null}` {
			t.Errorf("another's list: %s", got.body)
		}
		if err := r.c.DeleteEventType(t.Context(), "user.created"); err != nil {
			t.Error(err)
		}
		refused(t, "gone", r.bare(t, "GET", path, ""), 404, "not_found", "")
		refused(t, "gone", r.bare(t, "DELETE", path, ""), 404, "not_found", "")
	})
}

func TestEventTypeNames(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		r := newServer(t, db).newRegistrar(t)
		for _, name := range []string{"a", "a/b", "/a", "a//b", "a/../b", "ü €", "a%2Fb", "a?b#c", `"\`, "...", "*", strings.Repeat("x", 255)} {
			set, err := r.c.PutEventType(t.Context(), name, client.EventTypeInput{})
			if err != nil || set.Name != name {
				t.Errorf("%q became %q: %v", name, set.Name, err)
			}
			if got, err := r.c.EventType(t.Context(), name); err != nil || got.Name != name {
				t.Errorf("%q: %q %v", name, got.Name, err)
			}
			if err := r.c.DeleteEventType(t.Context(), name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
		for path, at := range map[string]string{"%2E": "name", "%2e%2E": "name", "%00": "name", "%C3": "name", strings.Repeat("x", 256): "name", "a%0Ab": "name"} {
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				refused(t, method+" "+path, r.bare(t, method, "/v1/event-types/"+path, ""), 400, "invalid_parameter", at)
			}
		}
		for _, path := range []string{"/v1/event-types/", "/v1/event-types/.", "/v1/event-types/a/b", "/v1/event-types/a/", "/v1/event-types/%2F"} {
			if got := r.bare(t, "PUT", path, ""); got.status != 404 {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
		}
	})
}

func TestEventTypesAreRefused(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r := s.newRegistrar(t)
		const path = "/v1/event-types/a"
		for _, c := range []struct {
			body, code, at string
			status         int
		}{
			{`{`, "invalid_json", "", 400},
			{`[]`, "invalid_json", "", 400},
			{`{"schema":{"a":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}}`, "invalid_json", "", 400},
			{`{"shema":{}}`, "validation_failed", "#/shema", 422},
			{`{"mode":"Warn"}`, "validation_failed", "#/mode", 422},
			{`{"mode":""}`, "validation_failed", "#/mode", 422},
			{`{"mode":1}`, "validation_failed", "#/mode", 422},
			{`{"description":"` + strings.Repeat("x", 1025) + `"}`, "validation_failed", "#/description", 422},
			{`{"schema":true}`, "validation_failed", "#/schema", 422},
			{`{"schema":{"type":"x"}}`, "validation_failed", "#/schema", 422},
			{`{"schema":{"$ref":"https://example.com/x"}}`, "validation_failed", "#/schema", 422},
			{`{"schema":{"title":"` + strings.Repeat("x", 64<<10-11) + `"}}`, "validation_failed", "#/schema", 422},
			{strings.Repeat(" ", 2<<20), "body_too_large", "", 413},
		} {
			refused(t, c.body, r.bare(t, "PUT", path, c.body), c.status, c.code, c.at)
		}
		refused(t, "query", r.bare(t, "PUT", path+"?a=1", `{}`), 400, "invalid_parameter", "a")
		refused(t, "query", r.bare(t, "GET", path+"?a=1", ``), 400, "invalid_parameter", "a")
		refused(t, "query", r.bare(t, "DELETE", path+"?a=1", ``), 400, "invalid_parameter", "a")
		refused(t, "query", r.bare(t, "GET", "/v1/event-types?limit=101", ``), 400, "invalid_parameter", "limit")
		refused(t, "cursor", r.bare(t, "GET", "/v1/event-types?cursor=xx", ``), 400, "invalid_cursor", "cursor")
		if got := r.bare(t, "GET", "/v1/event-types", ""); got.body != `{"data":[],"next_cursor":null}` {
			t.Errorf("something was stored: %s", got.body)
		}
		largest := `{"title":"` + strings.Repeat("x", 64<<10-12) + `"}`
		if got := r.bare(t, "PUT", path, `{"schema":`+largest+`}`); got.status != 201 || !strings.Contains(got.body, largest) {
			t.Errorf("%d %.300s", got.status, got.body)
		}
		org := s.keyOf(t, r.key).Organization.ID
		for i := range trigger.MaxEventTypes - 1 {
			if _, _, err := s.store.SetEventType(t.Context(), org, trigger.EventType{Name: "t" + strconv.Itoa(i), Mode: trigger.ValidationOff}); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, "too many", r.bare(t, "PUT", "/v1/event-types/more", `{}`), 409, "conflict", "")
		if got := r.bare(t, "PUT", path, `{}`); got.status != 200 {
			t.Errorf("a replacement: %d %s", got.status, got.body)
		}
		seen := 0
		last := ""
		for et, err := range r.c.EventTypes(t.Context()) {
			if err != nil || et.Name <= last {
				t.Fatalf("%q after %q: %v", et.Name, last, err)
			}
			seen, last = seen+1, et.Name
		}
		if seen != trigger.MaxEventTypes {
			t.Errorf("%d types are listed", seen)
		}
	})
}

// Events are judged as soon as the type is registered, at this node.
func TestEventsAreJudged(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r, other := s.newRegistrar(t), s.newRegistrar(t)
		post := func(c *client.Client, payload string) (client.Accepted, error) {
			return c.PostEvent(t.Context(), client.EventInput{Type: "a", Payload: json.RawMessage(payload)})
		}
		if _, err := post(r.c, `1`); err != nil {
			t.Fatal(err)
		}
		schema := json.RawMessage(`{"type":"object","properties":{"n":{"maximum":9007199254740992}},"required":["ü"]}`)
		r.put(t, "a", client.EventTypeInput{Schema: schema, Mode: client.ModeReject})
		_, err := post(r.c, `{"n":9007199254740993}`)
		e, ok := errors.AsType[*client.Error](err)
		if !ok || e.Status != 422 || e.Code != client.CodeValidationFailed || len(e.Errors) != 2 ||
			e.Errors[0].Pointer != "#/payload/%C3%BC" || e.Errors[1].Pointer != "#/payload/n" {
			t.Errorf("reject: %v", err)
		}
		if got := s.post(t, r.key, `{"type":"a","payload":1}`); got.status != 400 {
			t.Errorf("reject, by the original API: %d %s", got.status, got.body)
		}
		verdicts, err := r.c.PostEvents(t.Context(), []client.EventInput{
			{Type: "a", Payload: json.RawMessage(`1`)}, {Type: "a", Payload: json.RawMessage(`{"ü":1}`)}, {Type: "b", Payload: json.RawMessage(`1`)},
		})
		if err != nil || len(verdicts) != 3 || verdicts[0].Status != client.PostRejected || verdicts[0].Problem.Errors[0].Pointer != "#/payload" ||
			verdicts[1].Status != client.PostAccepted || verdicts[2].Status != client.PostAccepted {
			t.Errorf("a batch: %+v %v", verdicts, err)
		}
		if got, err := post(other.c, `1`); err != nil || got.Warnings != nil {
			t.Errorf("another organization: %+v %v", got, err)
		}
		r.put(t, "a", client.EventTypeInput{Schema: schema})
		if got, err := post(r.c, `{}`); err != nil || len(got.Warnings) != 1 || got.Warnings[0].Pointer != "#/payload/%C3%BC" {
			t.Errorf("warn: %+v %v", got, err)
		}
		if got, err := post(r.c, `{"ü":1}`); err != nil || got.Warnings != nil {
			t.Errorf("warn of what is right: %+v %v", got, err)
		}
		r.put(t, "a", client.EventTypeInput{Schema: schema, Mode: client.ModeOff})
		if got, err := post(r.c, `1`); err != nil || got.Warnings != nil {
			t.Errorf("off: %+v %v", got, err)
		}
		r.put(t, "a", client.EventTypeInput{Schema: schema, Mode: client.ModeReject})
		if _, err := post(r.c, `1`); err == nil {
			t.Error("reject again: accepted")
		}
		if err := r.c.DeleteEventType(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if got, err := post(r.c, `1`); err != nil || got.Warnings != nil {
			t.Errorf("deleted: %+v %v", got, err)
		}
	})
}

// orgOf is an organization as its key comes with it.
func (r *registrar) orgOf(t *testing.T) *trigger.Organization {
	t.Helper()
	org := r.keyOf(t, r.key).Organization
	return &org
}

// No event goes unjudged: one that cannot be judged is not accepted.
func TestTypesCannotBeRead(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r := s.newRegistrar(t)
		r.put(t, "a", client.EventTypeInput{Schema: json.RawMessage(`{"type":"null"}`), Mode: client.ModeReject})
		org := r.orgOf(t)
		c, fresh := newTypeCache(s.store, fair.ForProcessors()), newTypeCache(s.store, fair.ForProcessors())
		e := &trigger.Event{Type: "a", Payload: []byte(`1`)}
		if _, err := c.validateOne(t.Context(), org, e); trigger.KindOf(err) != trigger.Invalid {
			t.Fatalf("%v", err)
		}
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.validateOne(t.Context(), org, e); trigger.KindOf(err) != trigger.Invalid {
			t.Errorf("known: %v", err)
		}
		if _, err := fresh.validateOne(t.Context(), org, e); trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("unknown: %v", err)
		}
		org.TypesVersion++
		if _, err := c.validateOne(t.Context(), org, e); trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("a later version: %v", err)
		}
		if w, err := fresh.validateOne(t.Context(), &trigger.Organization{ID: org.ID}, e); w != nil || err != nil {
			t.Errorf("no types: %v %v", w, err)
		}
	})
}

func TestTypeCache(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		r := s.newRegistrar(t)
		r.put(t, "a", client.EventTypeInput{Schema: json.RawMessage(`{"type":"null"}`), Mode: client.ModeReject})
		// one that does not compile any more, as after an upgrade
		if _, _, err := s.store.SetEventType(t.Context(), r.orgOf(t).ID, trigger.EventType{Name: "bad", Schema: []byte(`{"type":"x"}`), Mode: "reject"}); err != nil {
			t.Fatal(err)
		}
		org, c := r.orgOf(t), newTypeCache(s.store, fair.ForProcessors())
		large := `"` + strings.Repeat("x", largePayload) + `"`
		var waiting sync.WaitGroup
		for i := range 50 {
			waiting.Go(func() {
				payload := large
				if i%2 == 0 {
					payload = `1`
				}
				if _, err := c.validateOne(t.Context(), org, &trigger.Event{Type: "a", Payload: []byte(payload)}); trigger.KindOf(err) != trigger.Invalid {
					t.Errorf("%v", err)
				}
			})
		}
		waiting.Wait()
		w, err := c.validateOne(t.Context(), org, &trigger.Event{Type: "bad", Payload: []byte(`1`)})
		if err != nil || len(w) != 1 || w[0].Pointer != "#/payload" {
			t.Errorf("what cannot be judged: %v %v", w, err)
		}
		if c.text != len("a")+len(`{"type":"null"}`)+len("bad")+len(`{"type":"x"}`) || c.compiled.Len() != 1 || c.weight == 0 || !c.judges.rest() {
			t.Errorf("%d bytes of text, %d schemas with %d bytes, %+v", c.text, c.compiled.Len(), c.weight, c.judges)
		}
		// an older version, as of a key that was read before, is not asked for again
		org.TypesVersion--
		if types, err := c.find(t.Context(), org); err != nil || types.version != org.TypesVersion+1 {
			t.Errorf("%+v %v", types, err)
		}
		// many: the bounds hold
		c.mu.Lock()
		for i := range 5 {
			c.orgs.Add(-int64(i), &judgedTypes{text: maxSchemaText / 3})
			c.text += maxSchemaText / 3
		}
		c.mu.Unlock()
		c.keep(1<<40, &judgedTypes{text: maxSchemaText}, 0)
		if c.text != maxSchemaText || c.orgs.Len() != 1 {
			t.Errorf("%d bytes of %d organizations", c.text, c.orgs.Len())
		}
		for range 100 {
			c.mu.Lock()
			c.compiled.Add(&judgedType{}, &eventSchema{weight: maxSchemaWeight / 10})
			c.weight += maxSchemaWeight / 10
			c.mu.Unlock()
			if _, err := c.compile(&judgedType{schema: []byte(`{}`)}); err != nil {
				t.Fatal(err)
			}
		}
		if c.weight > maxSchemaWeight+maxSchemaWeight/10 || c.compiled.Len() > 22 {
			t.Errorf("%d bytes of %d schemas", c.weight, c.compiled.Len())
		}
		// a request that has ended judges no more
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.validateOne(ctx, r.orgOf(t), &trigger.Event{Type: "a", Payload: []byte(large)}); trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("%v", err)
		}
		if !c.judges.rest() {
			t.Errorf("turns go on: %+v", c.judges)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	e := &trigger.Event{Type: "user.created", Payload: []byte(`{"id":12345,"name":"Ada Lovelace","email":"ada@example.com",` +
		`"tags":["a","b"],"address":{"street":"1 Main Street","city":"London","zip":"12345"},"age":36}`)}
	c := newTypeCache(&store.Store{}, fair.ForProcessors())
	c.keep(1, &judgedTypes{version: 1, types: map[string]*judgedType{"user.created": {mode: trigger.ValidationReject, schema: []byte(
		`{"type":"object","required":["id","name"],"additionalProperties":false,"properties":{"id":{"type":"integer","minimum":1},` +
			`"name":{"type":"string","minLength":1,"maxLength":200},"email":{"type":"string","pattern":"^[^@]+@[^@]+$"},` +
			`"tags":{"type":"array","items":{"type":"string"},"uniqueItems":true},"age":{"type":"integer","minimum":0,"maximum":150},` +
			`"address":{"$ref":"#/$defs/address"}},"$defs":{"address":{"type":"object","required":["city"],"properties":` +
			`{"street":{"type":"string"},"city":{"type":"string"},"zip":{"type":"string","pattern":"^[0-9]{5}$"}}}}}`)}}}, 0)
	for name, version := range map[string]int64{"without types": 0, "a typical schema": 1} {
		b.Run(name, func(b *testing.B) {
			org := &trigger.Organization{ID: 1, TypesVersion: version}
			b.ReportAllocs()
			for b.Loop() {
				if w, err := c.validateOne(b.Context(), org, e); w != nil || err != nil {
					b.Fatal(w, err)
				}
			}
		})
	}
}
