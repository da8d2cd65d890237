package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"
)

// drawValue draws a small JSON value.
func drawValue(t *rapid.T, depth int) any {
	most := 7
	if depth == 0 {
		most = 5
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2, 3:
		return json.Number(rapid.SampledFrom([]string{"0", "-0.0", "1", "1.0", "10e-1", "2", "-1", "2.5", "0.1", "9007199254740993", "9007199254740992", "1e3"}).Draw(t, "number"))
	case 4, 5:
		return rapid.SampledFrom([]string{"", "a", "b", "ab", "é", "aaa"}).Draw(t, "text")
	case 6:
		list := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			list = append(list, drawValue(t, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 4).Draw(t, "members") {
		object[rapid.SampledFrom([]string{"a", "b", "c", "ab"}).Draw(t, "name")] = drawValue(t, depth-1)
	}
	return object
}

// drawSchema draws a schema with some keywords, of which all are drawn at times.
func drawSchema(t *rapid.T, depth int) any {
	if depth == 0 || rapid.IntRange(0, 9).Draw(t, "leaf") == 0 {
		return rapid.SampledFrom([]any{
			true, false,
			map[string]any{},
			map[string]any{"type": "string"},
			map[string]any{"type": "integer"},
			map[string]any{"$ref": "#/$defs/a"},
			map[string]any{"$dynamicRef": "#b"},
		}).Draw(t, "simple")
	}
	sub := func() any { return drawSchema(t, depth-1) }
	list := func() (l []any) {
		for range rapid.IntRange(1, 3).Draw(t, "subs") {
			l = append(l, sub())
		}
		return l
	}
	object := func() any {
		o := map[string]any{}
		for range rapid.IntRange(1, 3).Draw(t, "subs") {
			o[rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")] = sub()
		}
		return o
	}
	names := []any{"a", "b"}
	s := map[string]any{}
	small := func() any { return json.Number(fmt.Sprint(rapid.IntRange(0, 3).Draw(t, "small"))) }
	number := func() any {
		return json.Number(rapid.SampledFrom([]string{"0", "1", "2.5", "9007199254740992", "0.1"}).Draw(t, "number"))
	}
	draw := map[string]func() any{
		"type": func() any {
			return rapid.SampledFrom([]any{"object", "array", []any{"integer", "string"}, []any{"object", "array", "null"}, "number"}).Draw(t, "type")
		},
		"const": func() any { return drawValue(t, 1) }, "enum": func() any { return []any{drawValue(t, 1), drawValue(t, 1), drawValue(t, 0)} },
		"allOf": func() any { return list() }, "anyOf": func() any { return list() }, "oneOf": func() any { return list() },
		"not": sub, "if": sub, "then": sub, "else": sub, "properties": object, "dependentSchemas": object, "dependencies": object,
		"patternProperties":    func() any { return map[string]any{"^a": sub(), "b$": sub()} },
		"additionalProperties": sub, "propertyNames": sub, "unevaluatedProperties": sub, "items": sub, "unevaluatedItems": sub, "contains": sub,
		"prefixItems": func() any { return list() }, "required": func() any { return names },
		"dependentRequired": func() any { return map[string]any{"a": []any{"b"}, "c": []any{"ab"}} },
		"minProperties":     small, "maxProperties": small, "minItems": small, "maxItems": small, "minLength": small, "maxLength": small,
		"minContains": small, "maxContains": small, "uniqueItems": func() any { return true }, "pattern": func() any { return "^a+$" },
		"minimum": number, "maximum": number, "exclusiveMinimum": number, "exclusiveMaximum": number,
		"multipleOf": func() any { return json.Number("0.5") },
	}
	all := []string{
		"type", "const", "enum", "allOf", "anyOf", "oneOf", "not", "if", "then", "else", "properties", "dependentSchemas", "dependencies",
		"patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties", "items", "unevaluatedItems", "contains", "prefixItems",
		"required", "dependentRequired", "minProperties", "maxProperties", "minItems", "maxItems", "minLength", "maxLength", "minContains",
		"maxContains", "uniqueItems", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
	}
	for range rapid.IntRange(1, 4).Draw(t, "keywords") {
		name := rapid.SampledFrom(all).Draw(t, "keyword")
		s[name] = draw[name]()
	}
	return s
}

// library is the library's own verdict.
func library(t require, text, payload []byte) bool {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	root, err := c.Compile(schemaURL)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(payload))
	if err != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	return root.Validate(v) == nil
}

type require interface {
	Fatalf(format string, args ...any)
}

// Payloads are judged as the library judges them, but for its cost.
func TestJudgeIsTheLibrary(t *testing.T) {
	t.Parallel()
	good, bad := 0, 0
	one := func(t *rapid.T) {
		schema, ok := drawSchema(t, 3).(map[string]any)
		if !ok {
			return
		}
		schema["$defs"] = map[string]any{"a": drawSchema(t, 1), "b": map[string]any{"$dynamicAnchor": "b", "minLength": json.Number("1"), "minItems": json.Number("1")}}
		text, _ := json.Marshal(schema)
		s, err := compileSchema(text)
		if err != nil {
			return // with a circle
		}
		for range 8 {
			payload, _ := json.Marshal(drawValue(t, 3))
			fields, want := judgedBy(t, s, payload), library(t, text, payload)
			if (len(fields) == 0) != want {
				t.Fatalf("schema %s\npayload %s\nthe library says %v, we say %v", text, payload, want, fields)
			}
			if want {
				good++
			} else {
				bad++
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 8 {
			one(t)
		}
	})
	t.Logf("%d valid, %d not", good, bad)
}
