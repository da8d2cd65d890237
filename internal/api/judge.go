package api

import (
	"bytes"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"triggerd/internal/trigger"
)

// Limits of validating one payload: leastSteps, plus stepsPerByte for each byte.
// The library compiles schemas, but does not validate payloads here: a few
// hundred bytes of schema can keep it busy for years, and it cannot be stopped.
const (
	leastSteps   = 20_000
	stepsPerByte = 2
	maxFields    = 10
	pathBytes    = 1024 // of a pointer
)

// judge validates a payload. It returns nothing if the payload matches the
// schema, otherwise at most maxFields errors. A payload that takes too many
// steps does not match. judge reports its steps to count from time to time, and
// returns its error.
func (s *eventSchema) judge(payload []byte, count func(steps int) error) ([]trigger.Field, error) {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		return []trigger.Field{{Detail: "the payload cannot be read", Pointer: "#/payload"}}, nil
	}
	steps := leastSteps + stepsPerByte*len(payload)
	first := judge{left: steps, counted: steps + len(payload)/decodeBytes, tell: count}
	ok := first.check(s.root, v, nil)
	switch first.report(); {
	case first.ended != nil:
		return nil, first.ended
	case first.left < 0:
		return []trigger.Field{{Detail: "validating the payload against the schema takes too many steps", Pointer: "#/payload"}}, nil
	case ok:
		return nil, nil
	}
	again := judge{left: steps, counted: steps, tell: count, loud: true, path: []string{"payload"}}
	again.check(s.root, v, nil)
	if again.report(); again.ended != nil {
		return nil, again.ended
	}
	if len(again.fields) == 0 { // all steps were used up before
		again.path = again.path[:1]
		again.fail("the payload does not match the schema")
	}
	return again.fields, nil
}

// judge is one validation in progress.
type judge struct {
	left    int // steps of about 100 ns; below 0 the result is unknown
	counted int // the value of left at the last report
	tell    func(steps int) error
	ended   error // the error of tell: the result is unknown, and no steps follow
	loud    bool  // collect all errors; otherwise stop at the first
	path    []string
	fields  []trigger.Field
}

// countSteps is the number of steps between reports.
const countSteps = 1000

// reported reports steps if there are enough, and then returns over.
func (j *judge) reported() bool {
	if j.counted-j.left >= countSteps {
		j.report()
	}
	return j.over()
}

// report reports the steps since the last report.
func (j *judge) report() {
	if j.ended != nil {
		return
	}
	left := max(j.left, 0) // a negative rest stands for steps that were not done
	if j.ended = j.tell(j.counted - left); j.ended != nil {
		j.left = -1
	}
	j.counted = left
}

func (j *judge) over() bool { return j.left < 0 || len(j.fields) >= maxFields }

// fail records an error at the current path and returns false.
func (j *judge) fail(detail string) bool {
	if j.loud && !j.over() {
		j.fields = append(j.fields, trigger.Field{Detail: cutText(detail), Pointer: pointerAlong(j.path)})
	}
	return false
}

// failAt is fail for a member.
func (j *judge) failAt(name, detail string) bool {
	j.enter(name)
	j.fail(detail)
	j.leave()
	return false
}

func (j *judge) enter(name string) {
	if j.loud {
		j.path = append(j.path, name)
	}
}

func (j *judge) leave() {
	if j.loud {
		j.path = j.path[:len(j.path)-1]
	}
}

// pointerAlong returns a pointer to a value, or to one around it if that is too
// long.
func pointerAlong(path []string) string {
	at := "#"
	for _, name := range path {
		next := pointerTo(name)
		if next == "#" || len(at)+len(next) > pathBytes {
			break
		}
		at += next[1:]
	}
	return at
}

// looked records which parts of a value were evaluated, for
// unevaluatedProperties and unevaluatedItems.
type looked struct {
	allProps bool
	props    map[string]bool
	upTo     int // items before this index
	items    map[int]bool
}

func (s *looked) prop(name string) {
	if s == nil {
		return
	}
	if s.props == nil {
		s.props = map[string]bool{}
	}
	s.props[name] = true
}

func (s *looked) item(i int) {
	if s.items == nil {
		s.items = map[int]bool{}
	}
	s.items[i] = true
}

// branch returns a record for a subschema that may fail without effect.
func (s *looked) branch() *looked {
	if s == nil {
		return nil
	}
	return &looked{}
}

// merge adds what a matching subschema has evaluated.
func (j *judge) merge(into, from *looked) {
	if into == nil || from == into {
		return
	}
	j.left -= len(from.props) + len(from.items)
	into.allProps = into.allProps || from.allProps
	into.upTo = max(into.upTo, from.upTo)
	for name := range from.props {
		into.prop(name)
	}
	for i := range from.items {
		into.item(i)
	}
}

// check validates a value. If out is not nil, it records the evaluated parts
// there, which are valid only if the value matches.
func (j *judge) check(s *jsonschema.Schema, v any, out *looked) bool {
	if j.left--; j.reported() {
		return false
	}
	if s.Bool != nil {
		return *s.Bool || j.fail("is not allowed")
	}
	if !j.value(s, v) {
		return false
	}
	mine := out
	if s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil {
		mine = &looked{}
	}
	ok := j.own(s, v, mine)
	if ok || j.loud {
		ok = j.all(s, v, mine) && ok
	}
	if ok || j.loud {
		ok = j.alternatives(s, v, mine) && ok
	}
	if !ok || !j.unevaluated(s, v, mine) {
		return false
	}
	j.merge(out, mine)
	return true
}

// own checks the keywords for values of one type.
func (j *judge) own(s *jsonschema.Schema, v any, out *looked) bool {
	switch v := v.(type) {
	case map[string]any:
		return j.object(s, v, out)
	case []any:
		return j.array(s, v, out)
	case string:
		return j.text(s, v)
	case json.Number:
		return j.number(s, v)
	}
	return true
}

// quietly is check for a subschema whose failure is not an error by itself.
func (j *judge) quietly(s *jsonschema.Schema, v any, out *looked) bool {
	loud := j.loud
	j.loud = false
	ok := j.check(s, v, out)
	j.loud = loud
	return ok
}

// within is check for a part of the value.
func (j *judge) within(s *jsonschema.Schema, v any, name string) bool {
	j.enter(name)
	ok := j.check(s, v, nil)
	j.leave()
	return ok
}

func (j *judge) item(s *jsonschema.Schema, v any, i int) bool {
	if !j.loud {
		return j.check(s, v, nil)
	}
	return j.within(s, v, strconv.Itoa(i))
}

// all checks the keywords of which all must match: $ref, allOf, if.
func (j *judge) all(s *jsonschema.Schema, v any, out *looked) bool {
	ok := true
	must := func(sub *jsonschema.Schema) {
		if sub != nil && (ok || j.loud) {
			ok = j.check(sub, v, out) && ok
		}
	}
	must(s.Ref)
	if s.DynamicRef != nil {
		must(s.DynamicRef.Ref) // see schemaLook.refusal
	}
	for _, sub := range s.AllOf {
		must(sub)
	}
	if s.If == nil {
		return ok
	}
	branch := out.branch()
	if j.quietly(s.If, v, branch) {
		j.merge(out, branch)
		must(s.Then)
	} else {
		must(s.Else)
	}
	return ok
}

// alternatives checks anyOf, oneOf and not.
func (j *judge) alternatives(s *jsonschema.Schema, v any, out *looked) bool {
	ok := true
	if len(s.AnyOf) > 0 && !j.anyOf(s.AnyOf, v, out) {
		ok = j.fail("must match at least one schema of anyOf")
	}
	if len(s.OneOf) > 0 && (ok || j.loud) {
		met := 0
		for _, sub := range s.OneOf {
			branch := out.branch()
			if j.quietly(sub, v, branch) {
				j.merge(out, branch)
				met++
			}
			if met > 1 {
				break
			}
		}
		switch met {
		case 0:
			ok = j.fail("must match exactly one schema of oneOf, and does not match any")
		case 2:
			ok = j.fail("must match exactly one schema of oneOf, and matches more than one")
		}
	}
	if s.Not != nil && (ok || j.loud) && j.quietly(s.Not, v, nil) {
		ok = j.fail("must not match the schema of not")
	}
	return ok
}

func (j *judge) anyOf(list []*jsonschema.Schema, v any, out *looked) (met bool) {
	for _, sub := range list {
		branch := out.branch()
		if j.quietly(sub, v, branch) {
			j.merge(out, branch)
			met = true
		}
		if met && out == nil { // else all of them count
			break
		}
	}
	return met
}

// unevaluated checks the parts that nothing else has evaluated.
func (j *judge) unevaluated(s *jsonschema.Schema, v any, out *looked) bool {
	if v, ok := v.(map[string]any); ok && s.UnevaluatedProperties != nil && !out.allProps {
		out.allProps = true
		j.left -= len(v) / 2
		for name, value := range each(v, j.loud) {
			if !out.props[name] && !j.within(s.UnevaluatedProperties, value, name) {
				if ok = false; !j.loud {
					break
				}
			}
		}
		return ok
	}
	if v, ok := v.([]any); ok && s.UnevaluatedItems != nil {
		for i := out.upTo; i < len(v) && (ok || j.loud); i++ {
			if j.left--; !out.items[i] {
				ok = j.item(s.UnevaluatedItems, v[i], i) && ok
			}
		}
		out.upTo = len(v)
		return ok
	}
	return true
}

// each iterates over a map, sorted by name if required.
func each[V any](m map[string]V, sorted bool) iter.Seq2[string, V] {
	if !sorted {
		return maps.All(m)
	}
	return func(yield func(string, V) bool) {
		for _, name := range slices.Sorted(maps.Keys(m)) {
			if !yield(name, m[name]) {
				return
			}
		}
	}
}
