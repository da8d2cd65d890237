package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// abused is a server with an organization that has something of everything, to
// be asked for nonsense.
type abused struct {
	*server
	key string
	has things
	d   *described // of its own, since it compiles more
}

func newAbused(t *testing.T, db *storetest.DB) *abused {
	t.Helper()
	s := newServer(t, db, func(a *API) { a.AdminToken, a.Limits[trigger.Enterprise], a.MaxBody = "token", 0, 64<<10 })
	s.engine.attempt = trigger.Attempt{Number: 1, At: db.Clock.Now(), Outcome: trigger.Success, Status: 200}
	a := &abused{server: s, d: readDescription()}
	a.key, a.has = s.furnish(t, "theirs")
	return a
}

// ask sends a body to a route, as whoever may.
func (a *abused) ask(t *testing.T, rt route, query, body string, headers ...string) reply {
	t.Helper()
	key := a.key
	if rt.scope == scopeAdmin {
		key, headers = "", append(headers, adminToken)
	}
	return a.do(t, rt.method, a.has.fill(rt.path, nil)+query, key, body, headers...)
}

// good is a body that the route takes, member by member, as JSON.
func (a *abused) good(t *testing.T, o *operation) map[string]json.RawMessage {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(o.example()), &members); err != nil {
		t.Fatalf("%s: the example %s: %v", o.name, o.example(), err)
	}
	for name, value := range map[string]string{
		"webhook_id": a.has["webhook_id"], "claim": `"` + a.has["claim"] + `"`, "ids": `["` + a.has["claimed_id"] + `"]`, "wait_seconds": "0",
	} {
		if members[name] != nil {
			members[name] = json.RawMessage(value)
		}
	}
	return members
}

// with is a body with a member changed, or without it if value is "".
func with(members map[string]json.RawMessage, name, value string) string {
	changed := maps.Clone(members)
	if changed[name] = json.RawMessage(value); value == "" {
		delete(changed, name)
	}
	return string(marshal(changed))
}

// counts are the rows of what requests make.
func (a *abused) counts(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, table := range []string{"organizations", "api_keys", "webhooks", "events", "event_types", "replays", "idempotency", "attempts"} {
		n[table] = a.rows(t, table)
	}
	return n
}

// withBodies are the routes that take a body.
func (a *abused) withBodies() map[*operation]route {
	routes := map[*operation]route{}
	for _, rt := range a.api.newRoutes() {
		if o := a.d.operations[rt.method+" "+rt.path]; len(o.requests) > 0 {
			routes[o] = rt
		}
	}
	return routes
}

// refused reports an answer that does not refuse what was sent with the status
// and, if it is not "", does not point to what is wrong.
func (r reply) refused(t *testing.T, what string, status int, pointer string) {
	t.Helper()
	var p struct {
		Errors []trigger.Field
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil || r.status != status {
		t.Errorf("%.300s: %d %.300s, want %d", what, r.status, r.body, status)
		return
	}
	points := slices.ContainsFunc(p.Errors, func(f trigger.Field) bool {
		return f.Pointer == pointer || strings.HasPrefix(f.Pointer, pointer+"/")
	})
	if pointer != "" && !points {
		t.Errorf("%.300s: %.300s points not to %s", what, r.body, pointer)
	}
}

// Bodies that no route takes are refused by each, and nothing comes of them.
func TestNewMalformedBodies(t *testing.T) {
	t.Parallel()
	a := newAbused(t, storetest.SQLite(t))
	before := a.counts(t)
	for o, rt := range a.withBodies() {
		good := a.good(t, o)
		whole := with(good, "", "")
		members := whole[1 : len(whole)-1]
		for name, body := range map[string]string{
			"text": "hello", "a brace": "{", "two objects": "{}{}", "null": "null", "number": "1", "string": `"x"`, "bool": "true", "NUL": "{}\x00",
			"trailing comma": `{"a":1,}`, "comment": "{/* */}", "invalid UTF-8": "{\"a\":\"\xff\"}", "surrogate in UTF-8": "{\"a\":\"\xed\xa0\x80\"}",
			"byte order mark": "\ufeff{}", "65 levels": `{"a":` + nested(64, "[", "]") + "}", "10,000 open": strings.Repeat(`{"a":`, 10_000),
			"raw newline": "{\"a\":\"\n\"}", "white space": " \n", "single quotes": "{'a':1}",
		} {
			a.ask(t, rt, "", body).refused(t, o.name+" "+name, 400, "")
		}
		if o.name == "POST /v1/events" {
			a.ask(t, rt, "", "[]").refused(t, o.name+" []", 422, "")
		} else {
			a.ask(t, rt, "", "[]").refused(t, o.name+" []", 400, "")
			a.ask(t, rt, "", "["+with(good, "", "")+"]").refused(t, o.name+" in an array", 400, "")
		}
		a.ask(t, rt, "", with(good, "no such/~é", "1")).refused(t, o.name+" unknown", 422, "#/no%20such~1~0%C3%A9")
		a.ask(t, rt, "", with(good, "__proto__", "{}")).refused(t, o.name+" unknown", 422, "#/__proto__")
		a.ask(t, rt, "", with(good, strings.Repeat("n", 10_000), "1")).refused(t, o.name+" long name", 422, "#")
		a.ask(t, rt, "", with(good, "", "")[:1]+strings.Repeat(`"x":1,`, 5_000)+`"x":1}`).refused(t, o.name+" wide", 422, "#/x")
		for name, value := range good {
			twice := `{"` + name + `":` + string(value) + `,` + members + `}`
			a.ask(t, rt, "", twice).refused(t, o.name+" twice", 422, "#/"+name)
			escaped := fmt.Sprintf(`{"\u%04x%s":%s,%s}`, name[0], name[1:], value, members)
			a.ask(t, rt, "", escaped).refused(t, o.name+" twice, once escaped", 422, "#/"+name)
			upper := with(good, strings.ToUpper(name), string(value))
			a.ask(t, rt, "", upper).refused(t, o.name+" in another case", 422, "#/"+strings.ToUpper(name))
		}
		large := with(good, "no such", `"`+strings.Repeat("x", 64<<10)+`"`)
		a.ask(t, rt, "", large).refused(t, o.name+" over the limit", 413, "")
		for _, header := range []string{"Content-Type: text/plain", "Content-Type: application/x-www-form-urlencoded", "Content-Type: ;", "Content-Encoding: gzip"} {
			a.ask(t, rt, "", with(good, "", ""), header).refused(t, o.name+" "+header, 415, "")
		}
	}
	if after := a.counts(t); !maps.Equal(before, after) {
		t.Errorf("%v before, %v after", before, after)
	}
}

// nonsense are values of all types, and of all sizes that are refused
// somewhere.
func nonsense() []string {
	texts := []string{"", "x", `\u0000`, `\ud800`, "*********", "' OR 1=1 --", `a\r\nB: c`, "2026-01-01", "https://"}
	list := []string{"null", "true", "0", "1", "-1", "0.5", "1e30", "1e400", "12345678901234567890", "[]", "{}", "[null]", "[1]", `{"x":1}`, `{"":"x"}`, `{"type":"x"}`, `{"all":[]}`, nested(40, "[", "]")}
	for _, text := range texts {
		list = append(list, `"`+text+`"`)
	}
	for _, text := range []string{"x", `\u0000`, `\ud800`, strings.Repeat("x", 300), strings.Repeat("x", 5000)} {
		list = append(list, `["`+text+`"]`, `{"x":"`+text+`"}`)
	}
	for _, n := range []int{21, 51, 1001} {
		list = append(list, "["+strings.Repeat(`"x",`, n-1)+`"x"]`, "["+strings.Repeat(`1,`, n-1)+`1]`)
	}
	return list
}

// Each member of each body is sent all that its schema does not allow: it is
// refused with a pointer to the member, and nothing comes of it.
func TestNewWrongMembers(t *testing.T) {
	t.Parallel()
	a := newAbused(t, storetest.SQLite(t))
	before := a.counts(t)
	tried := 0
	for o, rt := range a.withBodies() {
		good := a.good(t, o)
		what := a.bodyOf(o)
		for name := range asObject(what.node["properties"]) {
			schema := a.d.schema(what.at + "/properties/" + name)
			_, node := a.d.follow(what.at + "/properties/" + name)
			for _, value := range append(nonsense(), beyondLimits(node)...) {
				if allows(schema, value) {
					continue
				}
				tried++
				a.ask(t, rt, "", with(good, name, value)).refused(t, o.name+" "+name+": "+value, 422, "#/"+name)
			}
			if slices.Contains(asList(what.node["required"]), any(name)) {
				a.ask(t, rt, "", with(good, name, "")).refused(t, o.name+" without "+name, 422, "#/"+name)
			}
		}
	}
	if after := a.counts(t); !maps.Equal(before, after) || tried < 1000 {
		t.Errorf("%v before, %v after %d requests", before, after, tried)
	}
}

// bodyOf is what the body of an operation must look like, where it is one
// object.
func (a *abused) bodyOf(o *operation) body {
	if o.name == "POST /v1/events" {
		at := "/components/schemas/EventInput"
		_, node := a.d.follow(at)
		return body{at, node, a.d.schema(at)}
	}
	return o.requests["application/json"]
}

// allows judges a value by a schema. Texts with escapes that no text may hold
// are judged as others.
func allows(schema *jsonschema.Schema, value string) bool {
	return validate(schema, []byte(value)) == nil
}

// beyondLimits are values just over the limits of a schema.
func beyondLimits(node map[string]any) (list []string) {
	if n, ok := node["maximum"].(json.Number); ok {
		list = append(list, n.String()+".001", n.String()+"1")
	}
	if n, ok := node["minimum"].(json.Number); ok {
		least, _ := n.Int64()
		list = append(list, fmt.Sprint(least-1), fmt.Sprint(least-1)+".999")
	}
	if n, ok := number(node["maxLength"]); ok {
		list = append(list, `"`+strings.Repeat("x", n+1)+`"`)
	}
	if n, ok := number(node["maxProperties"]); ok {
		members := map[string]string{}
		for i := range n + 1 {
			members[fmt.Sprint("x", i)] = "x"
		}
		list = append(list, string(marshal(members)))
	}
	return list
}

func number(v any) (int, bool) {
	n, ok := v.(json.Number)
	i, _ := n.Int64()
	return int(i), ok
}

// withinLimits are values just within the limits of a schema, made from one that is
// good.
func withinLimits(node map[string]any, good json.RawMessage) (list []string) {
	for _, name := range []string{"maximum", "minimum"} {
		if n, ok := node[name].(json.Number); ok {
			list = append(list, n.String())
		}
	}
	if n, ok := number(node["maxLength"]); ok && node["format"] != "uuid" {
		text := "https://example.com/"
		_ = json.Unmarshal(good, &text)
		list = append(list, `"`+text+strings.Repeat("x", n-len(text))+`"`)
	}
	if n, ok := number(node["maxItems"]); ok {
		items := []json.RawMessage{}
		if _ = json.Unmarshal(good, &items); len(items) > 0 {
			list = append(list, "["+strings.Repeat(string(items[0])+",", n-1)+string(items[0])+"]")
		}
	}
	if n, ok := number(node["maxProperties"]); ok {
		members := map[string]string{}
		for i := range n {
			members[fmt.Sprint("x", i)] = "x"
		}
		list = append(list, string(marshal(members)))
	}
	return list
}

// What is just within each limit that openapi.yaml names is not refused for it.
func TestNewLimits(t *testing.T) {
	t.Parallel()
	a := newAbused(t, storetest.SQLite(t))
	tried := 0
	for o, rt := range a.withBodies() {
		good := a.good(t, o)
		what := a.bodyOf(o)
		for name := range asObject(what.node["properties"]) {
			_, node := a.d.follow(what.at + "/properties/" + name)
			for _, value := range withinLimits(node, good[name]) {
				if rt.path == "/v1/inbox/claim" { // else it waits
					a.ask(t, route{"POST", "/v1/events", scopeIngest, nil}, "", `{"type":"t","payload":1}`)
				}
				tried++
				r := a.ask(t, rt, "", with(good, name, value))
				if r.status >= 300 && (r.status == 422 || r.status == 400) || r.status >= 500 {
					t.Errorf("%s with %s of %.100s: %d %.300s", o.name, name, value, r.status, r.body)
				}
			}
		}
	}
	if tried < 40 {
		t.Errorf("only %d limits were found", tried)
	}
}

// A header that makes a request harmless is itself judged.
func TestNewIdempotencyKeys(t *testing.T) {
	t.Parallel()
	a := newAbused(t, storetest.SQLite(t))
	before := a.counts(t)
	tried := 0
	for o, rt := range a.withBodies() {
		if !slices.ContainsFunc(o.parameters, func(p parameter) bool { return p.name == "Idempotency-Key" }) {
			continue
		}
		tried++
		good := with(a.good(t, o), "", "")
		for _, bad := range []string{"", " ", strings.Repeat("x", 201), `"` + strings.Repeat("x", 201) + `"`, `""`, "é", "a\tb"} {
			a.ask(t, rt, "", good, "Idempotency-Key: "+bad).refused(t, o.name+" "+bad, 422, "")
		}
		a.ask(t, rt, "", good, "Idempotency-Key: a", "Idempotency-Key: b").refused(t, o.name+" two keys", 422, "")
	}
	if after := a.counts(t); !maps.Equal(before, after) || tried < 6 {
		t.Errorf("%v before, %v after %d routes", before, after, tried)
	}
}
