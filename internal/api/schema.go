package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"triggerd/internal/trigger"
)

// Limits of a schema, besides its size. They bound the cost of any schema.
const (
	maxSchemaValues  = 2000   // objects and booleans, each a possible subschema
	maxSubschemas    = 1000   // reachable subschemas
	maxPattern       = 1000   // bytes of a regular expression
	maxInstructions  = 10_000 // of all compiled regular expressions together
	maxDigits        = 400    // of a number, written without an exponent
	schemaURL        = "https://schema.invalid/"
	weightOfSchema   = 20   // bytes of memory per byte of the text
	weightOfSub      = 2500 // bytes of memory per subschema
	weightOfInstruct = 64   // bytes of memory per instruction
)

// eventSchema is a compiled JSON Schema (draft 2020-12) for payloads. It is safe
// for concurrent use.
type eventSchema struct {
	root   *jsonschema.Schema
	weight int // approximate memory in bytes
}

// compileSchema compiles a schema, without fetching others. The error is
// Invalid, at #/schema, if it is not valid, uses a remote $ref, or could cost
// too much.
func compileSchema(text []byte) (s *eventSchema, err error) {
	defer func() {
		if recover() != nil { // a fault of the library
			s, err = nil, unsuitable("schema cannot be compiled")
		}
	}()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, unsuitable("schema must be valid JSON")
	}
	if _, ok := doc.(map[string]any); !ok {
		return nil, unsuitable("schema must be an object")
	}
	var l schemaLook
	if l.look(doc, true); l.refusal() != "" {
		return nil, unsuitable("%s", l.refusal())
	}
	patterns := &expressions{known: map[string]*expression{}}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(patterns.compile)
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, unsuitable("schema cannot be compiled")
	}
	root, err := c.Compile(schemaURL)
	if err != nil {
		return nil, unsuitable("%s", whyUnsuitable(err, patterns.refused))
	}
	reached, reason := surveySchema(root)
	if reason != "" {
		return nil, unsuitable("%s", reason)
	}
	weight := weightOfSchema*len(text) + weightOfSub*reached + weightOfInstruct*patterns.size
	return &eventSchema{root, weight}, nil
}

func unsuitable(format string, args ...any) error {
	return trigger.Errorf(trigger.Invalid, format, args...).At("#/schema")
}

// noLoader is a loader that always fails.
type noLoader struct{}

var errElsewhere = errors.New("remote schemas are not fetched")

// Load implements jsonschema.URLLoader.
func (noLoader) Load(string) (any, error) { return nil, errElsewhere }

// whyUnsuitable returns a short reason why a schema does not compile. refused is
// the error about a regular expression, or "".
func whyUnsuitable(err error, refused string) string {
	if refused != "" {
		return refused
	}
	if e, ok := errors.AsType[*jsonschema.LoadURLError](err); ok {
		return cutText("schema must not use a remote $ref; got " + e.URL)
	}
	if e, ok := errors.AsType[*jsonschema.SchemaValidationError](err); ok {
		if invalid, ok := errors.AsType[*jsonschema.ValidationError](e.Err); ok {
			leaf := leafOf(invalid)
			_, why, _ := strings.Cut(leaf.Error(), "': ")
			at := ""
			for _, name := range leaf.InstanceLocation {
				at += pointerTo(name)[1:]
			}
			return cutText("schema must be a valid JSON Schema of draft 2020-12: at #" + at + ": " + why)
		}
	}
	_, noAnchor := errors.AsType[*jsonschema.AnchorNotFoundError](err)
	_, noPlace := errors.AsType[*jsonschema.JSONPointerNotFoundError](err)
	_, noPointer := errors.AsType[*jsonschema.InvalidJsonPointerError](err)
	if noAnchor || noPlace || noPointer {
		return "schema must not have a $ref whose target is missing"
	}
	return "schema must be a valid JSON Schema of draft 2020-12"
}

// leafOf returns the error of the innermost place.
func leafOf(e *jsonschema.ValidationError) *jsonschema.ValidationError {
	best := e
	for _, cause := range e.Causes {
		if leaf := leafOf(cause); best == e || len(leaf.InstanceLocation) > len(best.InstanceLocation) {
			best = leaf
		}
	}
	return best
}

// cutText cuts a text for a message.
func cutText(s string) string {
	const enough = 200
	if len(s) > enough {
		return strings.ToValidUTF8(s[:enough], "") + "…"
	}
	return s
}

// schemaLook counts what the text of a schema contains, before it is compiled.
type schemaLook struct {
	values     int
	ids        int // inner $id members
	long       bool
	dynamicRef bool
}

func (l *schemaLook) look(v any, outermost bool) {
	switch v := v.(type) {
	case map[string]any:
		l.values++
		if _, ok := v["$id"].(string); ok && !outermost {
			l.ids++
		}
		if _, ok := v["$dynamicRef"].(string); ok {
			l.dynamicRef = true
		}
		for _, member := range v {
			l.look(member, false)
		}
	case []any:
		for _, item := range v {
			l.look(item, false)
		}
	case bool:
		l.values++
	case json.Number:
		if n := normalOf(v); !n.isShort() {
			l.long = true
		}
	}
}

func (l *schemaLook) refusal() string {
	switch {
	case l.values > maxSchemaValues:
		return "schema must have at most " + strconv.Itoa(maxSchemaValues) + " objects and booleans"
	case l.long:
		return "schema must not have a number with too many digits"
	case l.dynamicRef && l.ids > 0: // without an inner $id it equals $ref
		return "schema must not have $dynamicRef together with an inner $id"
	}
	return ""
}

// surveySchema counts the reachable subschemas. reason says why the schema
// cannot be used, if so.
func surveySchema(root *jsonschema.Schema) (reached int, reason string) {
	known := map[*jsonschema.Schema]bool{root: true}
	for todo := []*jsonschema.Schema{root}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		switch {
		case len(known) > maxSubschemas:
			return len(known), "schema must have at most " + strconv.Itoa(maxSubschemas) + " subschemas"
		case !strings.HasPrefix(s.Location, schemaURL+"#"):
			return len(known), "schema must not use a remote $ref"
		case s.DraftVersion != 2020:
			return len(known), "$schema must be https://json-schema.org/draft/2020-12/schema or absent"
		}
		for _, sub := range append(inPlace(s), within(s)...) {
			if !known[sub] {
				known[sub] = true
				todo = append(todo, sub)
			}
		}
	}
	done := map[*jsonschema.Schema]bool{}
	for s := range known {
		if goesRound(s, done, map[*jsonschema.Schema]bool{}) {
			return len(known), "schema must not have a circular $ref that applies to the same value"
		}
	}
	return len(known), ""
}

// goesRound reports whether a schema applies itself to the same value, so that
// validation would never end.
func goesRound(s *jsonschema.Schema, done, under map[*jsonschema.Schema]bool) bool {
	if under[s] {
		return true
	}
	if done[s] {
		return false
	}
	under[s] = true
	for _, sub := range inPlace(s) {
		if goesRound(sub, done, under) {
			return true
		}
	}
	delete(under, s)
	done[s] = true
	return false
}

// inPlace returns the subschemas that apply to the same value.
func inPlace(s *jsonschema.Schema) (list []*jsonschema.Schema) {
	list = slices.Concat([]*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else}, s.AllOf, s.AnyOf, s.OneOf)
	if s.DynamicRef != nil {
		list = append(list, s.DynamicRef.Ref)
	}
	list = slices.AppendSeq(list, maps.Values(s.DependentSchemas))
	for _, dependency := range s.Dependencies {
		if sub, ok := dependency.(*jsonschema.Schema); ok {
			list = append(list, sub)
		}
	}
	return slices.DeleteFunc(list, func(s *jsonschema.Schema) bool { return s == nil })
}

// within returns the subschemas that apply to parts of the value.
func within(s *jsonschema.Schema) (list []*jsonschema.Schema) {
	list = slices.Concat([]*jsonschema.Schema{s.PropertyNames, s.Contains, s.Items2020, s.UnevaluatedItems, s.UnevaluatedProperties}, s.PrefixItems)
	if sub, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
		list = append(list, sub)
	}
	list = slices.AppendSeq(list, maps.Values(s.Properties))
	list = slices.AppendSeq(list, maps.Values(s.PatternProperties))
	return slices.DeleteFunc(list, func(s *jsonschema.Schema) bool { return s == nil })
}

// expression is a regular expression of RE2: its time is linear in the text.
type expression struct {
	*regexp.Regexp
	size int // instructions
}

// expressions are the regular expressions of one schema.
type expressions struct {
	known   map[string]*expression
	size    int
	refused string // the first error
}

func (p *expressions) compile(text string) (jsonschema.Regexp, error) {
	if known := p.known[text]; known != nil {
		return known, nil
	}
	re, err := p.make(text)
	if err != nil && p.refused == "" {
		p.refused = cutText("schema has a regular expression that " + err.Error())
	}
	if err != nil {
		return nil, err
	}
	p.known[text] = re
	return re, nil
}

var (
	errLongPattern  = errors.New("is too long")
	errNoPattern    = errors.New("RE2 does not support")
	errLargePattern = errors.New("is too large")
)

func (p *expressions) make(text string) (*expression, error) {
	if len(text) > maxPattern {
		return nil, errLongPattern
	}
	parsed, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, errNoPattern
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, errNoPattern
	}
	if p.size += len(program.Inst); p.size > maxInstructions {
		return nil, errLargePattern
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, errNoPattern
	}
	return &expression{re, len(program.Inst)}, nil
}
