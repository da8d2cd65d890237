package store_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// What follows decides slowly, and by itself, what a webhook is owed: with
// regular expressions, encoding/json and big.Rat, over all that each webhook
// ever was.

// whyHook is a webhook and what it was from which step on.
type whyHook struct {
	id, org int64
	history []whyVersion
}

type whyVersion struct {
	step   int
	state  trigger.WebhookState
	filter whyFilter
}

// at is what the webhook was at a step; nil: it was not there.
func (h *whyHook) at(step int) (v *whyVersion) {
	for i := range h.history {
		if h.history[i].step <= step {
			v = &h.history[i]
		}
	}
	return v
}

func (h *whyHook) now() whyVersion { return h.history[len(h.history)-1] }

// whyEvent is an event and the step at which it was matched.
type whyEvent struct {
	*trigger.Event
	step   int
	notice bool
	about  int64 // a notice's webhook
}

// miss says why the event was not owed to a webhook, in the words of a
// verdict; "": it was.
func (e *whyEvent) miss(h *whyHook) string {
	v := h.at(e.step)
	switch {
	case v == nil:
		return "created_later"
	case v.state == trigger.Gone:
		return "gone its receiver has answered 410"
	case v.state == trigger.Deleted:
		return "gone the webhook was deleted"
	case !v.filter.pickType(e.Type, false):
		return "filtered types"
	}
	if v.filter.content != nil {
		if at := v.filter.content.miss(decode(string(e.Payload)), ""); at != "" {
			return "filtered content " + at
		}
	}
	if e.notice && (e.about == h.id || !v.filter.pickType(e.Type, true)) {
		return "filtered operational"
	}
	return ""
}

// whyFilter is a filter as it is written.
type whyFilter struct {
	types   []string
	content *condition
}

func (f *whyFilter) pickType(eventType string, byName bool) bool {
	for _, p := range f.types {
		pieces := strings.Split(p, "*")
		for i := range pieces {
			pieces[i] = regexp.QuoteMeta(pieces[i])
		}
		if byName && strings.HasPrefix(p, "*") {
			continue
		}
		if regexp.MustCompile("(?s)^" + strings.Join(pieces, ".*") + "$").MatchString(eventType) {
			return true
		}
	}
	return len(f.types) == 0 && !byName
}

func (f *whyFilter) parse(t *rapid.T) trigger.Filter {
	var content []byte
	if f.content != nil {
		content = []byte(f.content.text())
	}
	filter, err := trigger.ParseFilter(f.types, content)
	if err != nil {
		t.Fatal(err)
	}
	return filter
}

// condition is one on payloads: all, any and not of others, or one operator at
// a path of at most two names.
type condition struct {
	name    string
	path    string
	operand string // JSON
	of      []condition
}

func (c *condition) text() string {
	texts := make([]string, len(c.of))
	for i := range c.of {
		texts[i] = c.of[i].text()
	}
	switch c.name {
	case "all", "any":
		return fmt.Sprintf(`{%q: [%s]}`, c.name, strings.Join(texts, ", "))
	case "not":
		return fmt.Sprintf(`{"not": %s}`, texts[0])
	}
	return fmt.Sprintf(`{"path": %q, %q: %s}`, c.path, c.name, c.operand)
}

// miss says where the first clause stands that the payload does not meet, the
// condition standing at a place itself; "": it is met.
func (c *condition) miss(payload any, at string) string {
	at += "/" + c.name
	var inner []string // what is missed, of each
	for i := range c.of {
		place := at
		if c.name != "not" {
			place += "/" + strconv.Itoa(i)
		}
		inner = append(inner, c.of[i].miss(payload, place))
	}
	met := false
	switch c.name {
	case "all":
		for _, missed := range inner {
			if missed != "" {
				return missed
			}
		}
		met = true
	case "any":
		met = slices.Contains(inner, "")
	case "not":
		met = inner[0] != ""
	default:
		met = c.metAt(payload)
	}
	if met {
		return ""
	}
	return at
}

func (c *condition) metAt(v any) bool {
	there := true
	for _, name := range strings.Split(c.path, "/")[1:] {
		object, _ := v.(map[string]any)
		if v, there = object[name]; !there {
			break
		}
	}
	operand := decode(c.operand)
	if c.name == "exists" {
		return there == operand.(bool)
	}
	if !there {
		return false
	}
	switch c.name {
	case "equals":
		return alike(v, operand)
	case "any_of":
		return slices.ContainsFunc(operand.([]any), func(x any) bool { return alike(v, x) })
	case "anything_but":
		return !slices.ContainsFunc(operand.([]any), func(x any) bool { return alike(v, x) })
	case "prefix":
		text, ok := v.(string)
		return ok && strings.HasPrefix(text, operand.(string))
	}
	number, ok := v.(json.Number)
	for bound, limit := range operand.(map[string]any) {
		if ok {
			order := exact(number).Cmp(exact(limit.(json.Number)))
			ok = map[string]bool{"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0}[bound]
		}
	}
	return ok
}

func alike(a, b any) bool {
	switch a := a.(type) {
	case map[string]any, []any:
		return false
	case json.Number:
		b, ok := b.(json.Number)
		return ok && exact(a).Cmp(exact(b)) == 0
	}
	return a == b
}

func exact(n json.Number) *big.Rat {
	value, ok := new(big.Rat).SetString(n.String())
	if !ok {
		panic("no number: " + n.String())
	}
	return value
}

func decode(text string) (v any) {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		panic(text + ": " + err.Error())
	}
	return v
}

func drawFilter(t *rapid.T) (f whyFilter) {
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0, 1:
		return f
	case 2:
		f.types = []string{"webhook.*", "user.*", "delivery.*"}
		return f
	}
	f.types = rapid.SliceOfN(rapid.SampledFrom([]string{
		"*", "user.*", "user.created", "*.created", "u*d", "*e*r*", "order.*", "order.paid", "nothing", "webhook.*", "*.gone", "delivery.exhausted",
	}), 0, 3).Draw(t, "types")
	if rapid.IntRange(0, 1).Draw(t, "content") == 0 {
		c := drawWhyCondition(t, 2)
		f.content = &c
	}
	return f
}

func drawWhyCondition(t *rapid.T, depth int) condition {
	kind := rapid.SampledFrom([]string{"path", "path", "all", "any", "not"}).Draw(t, "kind")
	if depth == 0 || kind == "path" {
		return drawLeaf(t)
	}
	c := condition{name: kind}
	n := 1
	if kind != "not" {
		n = rapid.IntRange(1, 2).Draw(t, "conditions")
	}
	for range n {
		c.of = append(c.of, drawWhyCondition(t, depth-1))
	}
	return c
}

func drawLeaf(t *rapid.T) condition {
	c := condition{
		path: rapid.SampledFrom([]string{"/a", "/a", "/b", "/n/a", "/webhook_id"}).Draw(t, "path"),
		name: rapid.SampledFrom([]string{"equals", "any_of", "anything_but", "prefix", "exists", "numeric"}).Draw(t, "operator"),
	}
	scalar := rapid.SampledFrom([]string{"1", "1.0", "2", "-3", `"x"`, `"xy"`, "true", "null"})
	switch c.name {
	case "equals":
		c.operand = scalar.Draw(t, "scalar")
	case "any_of", "anything_but":
		c.operand = "[" + strings.Join(rapid.SliceOfN(scalar, 1, 3).Draw(t, "scalars"), ", ") + "]"
	case "prefix":
		c.operand = rapid.SampledFrom([]string{`""`, `"x"`, `"xy"`, `"y"`}).Draw(t, "prefix")
	case "exists":
		c.operand = strconv.FormatBool(rapid.Bool().Draw(t, "exists"))
	case "numeric":
		c.operand = rapid.SampledFrom([]string{`{"gt": 1}`, `{"gte": 10e-1}`, `{"lt": 1}`, `{"lte": 1.0, "gt": -3}`, `{"lt": 2, "gte": 0}`}).Draw(t, "bounds")
	}
	return c
}

func drawWhyPayload(t *rapid.T) []byte {
	value := rapid.SampledFrom([]string{"", "1", "1.0", "10e-1", "2", "-3", "0.5", `"x"`, `"xy"`, `"\u0078y"`, "true", "null", "[1]", `{"a": 1}`})
	if rapid.IntRange(0, 9).Draw(t, "no object") == 0 {
		return []byte(`[1, {"a": 1}]`)
	}
	var members []string
	for _, name := range []string{"a", "b", "n", "webhook_id"} {
		if v := value.Draw(t, name); v != "" {
			members = append(members, fmt.Sprintf("%q: %s", name, v))
		}
	}
	return []byte("{" + strings.Join(members, ", ") + "}")
}

// whyRow is a delivery that is open or failed.
type whyRow struct {
	failed   bool
	reason   string
	attempts int
	claim    trigger.ID
	due      [2]time.Time // not exact where the store has read its own clock
}

func dueAt(at time.Time) [2]time.Time { return [2]time.Time{at, at} }

// explain is the verdict that an event should have at a webhook, all but its
// next attempt and its last one.
func (m *whyMachine) explain(e *whyEvent, h *whyHook) (want string) {
	if missed := e.miss(h); missed != "" {
		return missed
	}
	row := m.rows[trigger.DeliveryKey{OrganizationID: e.OrganizationID, EventID: e.ID, WebhookID: h.id}]
	switch {
	case row == nil:
		return "delivered"
	case row.failed && row.reason == "webhook gone" && (h.now().state != trigger.Deleted || m.answered410(e, h)):
		return "gone its receiver has answered 410"
	case row.failed && row.reason == "webhook gone":
		return "gone the webhook was deleted"
	case row.failed && row.reason == "expired":
		return "expired"
	case row.failed:
		return "failed " + row.reason
	}
	return map[trigger.WebhookState]string{
		trigger.Active: "waiting", trigger.Paused: "paused",
		trigger.Gone: "gone its receiver has answered 410", trigger.Deleted: "gone the webhook was deleted",
	}[h.now().state]
}

// answered410 reports whether the webhook's receiver answered the event itself
// with 410.
func (m *whyMachine) answered410(e *whyEvent, h *whyHook) bool {
	return slices.ContainsFunc(m.attempts, func(a trigger.Attempt) bool {
		return a.EventID == e.ID && a.WebhookID == h.id && a.Job == 0 && a.Outcome == trigger.ReceiverGone
	})
}

// lastOf is the attempt that a verdict names: the success of what was owed,
// else the latest at it; a replay's success where that has ended it.
func (m *whyMachine) lastOf(e *whyEvent, h *whyHook) (last *trigger.Attempt) {
	var replayed *trigger.Attempt
	for i := range m.attempts {
		a := &m.attempts[i]
		switch {
		case a.EventID != e.ID || a.WebhookID != h.id:
		case a.Job == 0:
			last = a
		case a.Outcome == trigger.Success:
			replayed = a
		}
	}
	if (last == nil || last.Outcome != trigger.Success) && replayed != nil && m.explain(e, h) == "delivered" {
		return replayed
	}
	return last
}
