package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

// said is what is said of a payload, as "pointer detail" each.
func said(fields []trigger.Field) string {
	lines := make([]string, len(fields))
	for i, f := range fields {
		lines[i] = f.Pointer + " " + f.Detail
	}
	return strings.Join(lines, "; ")
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ schema, payload, want string }{
		{`{"type":"object"}`, `{}`, ``},
		{`{"type":"object"}`, `[]`, `#/payload must be of type object`},
		{`{"type":["string","null"]}`, `1`, `#/payload must be of type null or string`},
		{`{"required":["a","b"]}`, `{"b":1}`, `#/payload/a is missing`},
		{`{"properties":{"a":{"type":"string"},"b":{"maximum":3}}}`, `{"b":4,"a":1}`, `#/payload/a must be of type string; #/payload/b must be at most 3`},
		{`{"properties":{"a":{"items":{"const":1}}}}`, `{"a":[1,1.0,1e0,10e-1,2]}`, `#/payload/a/4 must be 1`},
		{`{"enum":["a","<b>"]}`, `"c"`, `#/payload must be one of ["a","\u003cb\u003e"]`},
		{`{"additionalProperties":false}`, `{"é/~ \u0000":1}`, `#/payload/%C3%A9~1~0%20%00 is not allowed`},
		{`{"additionalProperties":false}`, `{"` + strings.Repeat("x", 3000) + `":1}`, `#/payload is not allowed`},
		{`{"properties":{"":{"properties":{"€":false}}}}`, `{"":{"€":1}}`, `#/payload//%E2%82%AC is not allowed`},
		{`{"anyOf":[{"type":"string"},{"type":"null"}]}`, `1`, `#/payload must match at least one schema of anyOf`},
		{`{"oneOf":[{"type":"number"},{"type":"integer"}]}`, `1`, `#/payload must match exactly one schema of oneOf, and matches more than one`},
		{`{"allOf":[{"minimum":2},{"maximum":0}]}`, `1`, `#/payload must be at least 2; #/payload must be at most 0`},
		{`{"not":{"type":"null"}}`, `null`, `#/payload must not match the schema of not`},
		{`{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}`, `{"a":1}`, `#/payload/b is missing`},
		{`{"if":{"required":["a"]},"then":{"required":["b"]},"else":{"required":["c"]}}`, `{}`, `#/payload/c is missing`},
		{`{"properties":{"a":true},"unevaluatedProperties":false}`, `{"a":1,"b":2}`, `#/payload/b is not allowed`},
		{`{"anyOf":[{"properties":{"a":true}},{"properties":{"b":true}}],"unevaluatedProperties":false}`, `{"a":1,"b":2}`, ``},
		{`{"allOf":[{"properties":{"a":true},"unevaluatedProperties":false},{"properties":{"b":true}}]}`, `{"a":1,"b":2}`, `#/payload/b is not allowed`},
		{`{"prefixItems":[true],"unevaluatedItems":false}`, `[1,2]`, `#/payload/1 is not allowed`},
		{`{"uniqueItems":true}`, `[{"a":1,"b":[2]},{"b":[2.0],"a":1}]`, `#/payload must have unique items, and items 0 and 1 are equal`},
		{`{"uniqueItems":true}`, `[["a","b"],["a\u0004b"],["ab"],"ab",1,-1,[1,2],[12],"1",true,"true",null,"n"]`, ``},
		{`{"propertyNames":{"maxLength":1}}`, `{"a":1,"ab":1}`, `#/payload/ab has a name that propertyNames does not allow`},
		{`{"contains":{"const":2},"minContains":2}`, `[2,1]`, `#/payload must contain at least 2 items that match contains`},
		{`{"minLength":2,"maxLength":2}`, `"€€"`, ``},
		{`{"pattern":"^a+$"}`, `"b"`, `#/payload must match the regular expression ^a+$`},
		// the draft's defaults: formats and contents are only notes
		{`{"format":"email"}`, `"no"`, ``},
		{`{"contentEncoding":"base64","contentMediaType":"application/json"}`, `"{"`, ``},
		{`{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"null"}`, `1`, `#/payload must be of type null`},
		{`{"unknown":{"type":"null"},"title":"x"}`, `1`, ``},
		{`{}`, `1`, ``},
		{`{"definitions":{"a":{"type":"null"}},"$ref":"#/definitions/a"}`, `1`, `#/payload must be of type null`},
		// numbers
		{`{"maximum":9007199254740992}`, `9007199254740993`, `#/payload must be at most 9007199254740992`},
		{`{"const":9007199254740992}`, `9007199254740993`, `#/payload must be 9007199254740992`},
		{`{"const":0.1}`, `0.1000000000000000055511151231257827`, `#/payload must be 0.1`},
		{`{"multipleOf":0.01}`, `4.35`, ``},
		{`{"multipleOf":0.01}`, `4.355`, `#/payload must be a multiple of 0.01`},
		{`{"type":"integer"}`, `[1]`, `#/payload must be of type integer`},
		{`{"items":{"type":"integer"}}`, `[1.0,-0,1e99999999999999999999,1.5]`, `#/payload/3 must be of type integer`},
		{`{"maximum":1}`, `1e-400`, ``},
		{`{"maximum":1}`, `1e1000000000`, `#/payload has too many digits to be compared exactly`},
		{`{"type":"number"}`, `1e1000000000`, ``},
		{`{"uniqueItems":true}`, `[1e1000000000,1e1000000001,1e99999999999999999999,1e99999999999999999998]`, ``},
		{`{"minimum":0}`, strings.Repeat("9", 401), `#/payload has too many digits to be compared exactly`},
		// references within the schema
		{`{"$defs":{"n":{"type":"object","properties":{"next":{"$ref":"#/$defs/n"}}}},"$ref":"#/$defs/n"}`, `{"next":{"next":1}}`, `#/payload/next/next must be of type object`},
		{`{"$id":"https://example.com/a.json","$defs":{"b":{"$id":"b.json","type":"null"}},"items":{"$ref":"b.json"}}`, `[1]`, `#/payload/0 must be of type null`},
		{`{"$defs":{"a":{"$anchor":"x","type":"null"}},"$ref":"#x"}`, `1`, `#/payload must be of type null`},
		{`{"$dynamicAnchor":"x","type":["array","null"],"items":{"$dynamicRef":"#x"}}`, `[[1]]`, `#/payload/0/0 must be of type null or array`},
	} {
		s, err := compileSchema([]byte(c.schema))
		if err != nil {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		if got := said(judgedBy(t, s, []byte(c.payload))); got != c.want {
			t.Errorf("%s on %.100s:\n got %s\nwant %s", c.schema, c.payload, got, c.want)
		}
	}
}

// What does not compile says why, and none of what is inside the server.
func TestUnsuitableSchemas(t *testing.T) {
	t.Parallel()
	for schema, want := range map[string]string{
		`true`: "schema must be an object",
		`[]`:   "schema must be an object",
		`{"type":"strin"}`: "schema must be a valid JSON Schema of draft 2020-12: at #/type: value must be one of " +
			"'array', 'boolean', 'integer', 'null', 'number', 'object', 'string'",
		`{"properties":{"a b":{"minLength":-1}}}`:                                     "schema must be a valid JSON Schema of draft 2020-12: at #/properties/a%20b/minLength: minimum: got -1, want 0",
		`{"$ref":"https://example.com/a.json"}`:                                       "schema must not use a remote $ref; got https://example.com/a.json",
		`{"$ref":"file:///etc/passwd"}`:                                               "schema must not use a remote $ref; got file:///etc/passwd",
		`{"$ref":"other.json"}`:                                                       "schema must not use a remote $ref; got https://schema.invalid/other.json",
		`{"$id":"http://127.0.0.1/x","$ref":"y"}`:                                     "schema must not use a remote $ref; got http://127.0.0.1/y",
		`{"$ref":"https://json-schema.org/draft/2020-12/schema"}`:                     "schema must not use a remote $ref",
		`{"$dynamicRef":"https://example.com/a.json#x"}`:                              "schema must not use a remote $ref; got https://example.com/a.json",
		`{"$schema":"https://example.com/meta"}`:                                      "schema must not use a remote $ref; got https://example.com/meta",
		`{"$schema":"http://json-schema.org/draft-07/schema#"}`:                       "$schema must be https://json-schema.org/draft/2020-12/schema or absent",
		`{"items":{"$id":"x","$schema":"http://json-schema.org/draft-07/schema#"}}`:   "$schema must be https://json-schema.org/draft/2020-12/schema or absent",
		`{"$ref":"#/nowhere"}`:                                                        "schema must not have a $ref whose target is missing",
		`{"$ref":"#nowhere"}`:                                                         "schema must not have a $ref whose target is missing",
		`{"$ref":"#"}`:                                                                "schema must not have a circular $ref that applies to the same value",
		`{"anyOf":[{"type":"null"},{"not":{"$ref":"#"}}]}`:                            "schema must not have a circular $ref that applies to the same value",
		`{"dependentSchemas":{"a":{"$ref":"#"}}}`:                                     "schema must not have a circular $ref that applies to the same value",
		`{"pattern":"(?=x)"}`:                                                         "schema has a regular expression that RE2 does not support",
		`{"patternProperties":{"(a":true}}`:                                           "schema has a regular expression that RE2 does not support",
		`{"pattern":"` + strings.Repeat("a", 1001) + `"}`:                             "schema has a regular expression that is too long",
		`{"pattern":"` + strings.Repeat("a{1000}", 100) + `"}`:                        "schema has a regular expression that is too large",
		`{"maximum":1e401}`:                                                           "schema must not have a number with too many digits",
		`{"minLength":1e99999999}`:                                                    "schema must not have a number with too many digits",
		`{"anyOf":[true` + strings.Repeat(",true", 2000) + `]}`:                       "schema must have at most 2000 objects and booleans",
		`{"anyOf":[true` + strings.Repeat(",true", 1000) + `]}`:                       "schema must have at most 1000 subschemas",
		`{"$dynamicRef":"#x","$dynamicAnchor":"x","$defs":{"a":{"$id":"https://a"}}}`: "schema must not have $dynamicRef together with an inner $id",
	} {
		_, err := compileSchema([]byte(schema))
		e, ok := err.(*trigger.Error)
		if !ok || e.Kind != trigger.Invalid || said(e.Fields) != "#/schema "+e.Message || e.Message != want {
			t.Errorf("%.200s:\n got %v\nwant %s", schema, err, want)
		}
	}
}

// At most ten things are said, always the same ones.
func TestJudgeSaysAFew(t *testing.T) {
	t.Parallel()
	s, err := compileSchema([]byte(`{"additionalProperties":{"type":"string"},"required":["zz"]}`))
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]int{}
	for i := range 100 {
		members[strconv.Itoa(100+i)] = i
	}
	payload, _ := json.Marshal(members)
	for range 5 {
		fields := judgedBy(t, s, payload)
		if len(fields) != maxFields || fields[0].Pointer != "#/payload/zz" || fields[9].Pointer != "#/payload/108" {
			t.Fatalf("said: %s", said(fields))
		}
	}
}

// hostile are schemas and payloads that are made to cost as much as can be.
func hostile() map[string][2]string {
	doubling := func(apply string) string {
		var b strings.Builder
		b.WriteString(`{"$ref":"#/$defs/d0","$defs":{`)
		for i := range 100 {
			fmt.Fprintf(&b, `"d%d":{"%s":[{"$ref":"#/$defs/d%d"},{"$ref":"#/$defs/d%d"}]},`, i, apply, i+1, i+1)
		}
		return b.String() + `"d100":{"not":{"type":"null"}}}}`
	}
	many := func(part string, n int) string { return strings.TrimSuffix(strings.Repeat(part+",", n), ",") }
	deep := strings.Repeat(`{"a":`, 62) + "1" + strings.Repeat("}", 62)
	ones := "[" + many("1", 100_000) + "]"
	return map[string][2]string{
		"allOf doubles":           {doubling("allOf"), `1`},
		"anyOf doubles":           {strings.ReplaceAll(doubling("anyOf"), `"null"`, `"number"`), `1`},
		"oneOf doubles":           {doubling("oneOf"), `1`},
		"doubles by level":        {`{"properties":{"a":{"allOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, deep},
		"unevaluated by level":    {`{"properties":{"a":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}},"unevaluatedProperties":false}`, deep},
		"a thousand on each item": {`{"items":{"allOf":[` + many(`{"minimum":0}`, 900) + `]}}`, ones},
		"a thousand of items":     {`{"allOf":[` + many(`{"items":true}`, 400) + `]}`, ones},
		"a long enum":             {`{"items":{"not":{"enum":["` + strings.Repeat("a\",\"", 10_000) + `"]}}}`, "[" + many(`"b"`, 50_000) + "]"},
		"a long enum of numbers":  {`{"items":{"not":{"enum":[` + many("1.00", 10_000) + `,"x"]}}}`, "[" + many("2", 100_000) + "]"},
		"a large const":           {`{"items":{"not":{"const":[` + many("1", 20_000) + `]}}}`, "[" + many("["+many("1", 19_999)+",2]", 25) + "]"},
		"unique by a hash":        {`{"uniqueItems":true}`, "[" + uniques(4_000) + "]"},
		"unique again and again":  {`{"allOf":[` + many(`{"uniqueItems":true}`, 900) + `]}`, "[" + uniques(4_000) + "]"},
		"long numbers":            {`{"items":{"multipleOf":1e-390}}`, "[" + many(strings.Repeat("7", 399), 520) + "]"},
		"numbers of some size":    {`{"items":{"not":{"multipleOf":0.` + strings.Repeat("7", 390) + `}}}`, "[" + many("7e300", 32_000) + "]"},
		"huge numbers":            {`{"items":{"type":"integer","minimum":1}}`, "[" + many("1e999999999", 16_000) + "]"},
		"a large expression":      {`{"pattern":"(a|aa|b{0,30}){20}c$"}`, `"` + strings.Repeat("a", 1<<18) + `"`},
		"many small expressions":  {`{"allOf":[` + many(`{"not":{"pattern":"(x+x+)+y"}}`, 450) + `]}`, `"` + strings.Repeat("x", 1<<18) + `"`},
		"expressions of names":    {`{"patternProperties":{` + many(`"a.*b.*c":true`, 1) + `}}`, `{"` + strings.Repeat("ab", 1<<17) + `":1}`},
		"long required":           {`{"items":{"not":{"minProperties":1,"required":[` + strings.Trim(strings.ReplaceAll(uniqueMembers(5000), ":1", ""), ",") + `,"x"]}}}`, "[" + many(`{"a":1}`, 24_000) + "]"},
		"lengths":                 {`{"allOf":[` + many(`{"minLength":1}`, 900) + `]}`, `"` + strings.Repeat("é", 1<<17) + `"`},
		"errors everywhere":       {`{"items":{"type":"string"}}`, ones},
		"contains":                {`{"allOf":[` + many(`{"contains":{"const":2}}`, 450) + `]}`, ones},
		"unevaluated items":       {`{"allOf":[` + many(`{"anyOf":[{"contains":true},{"contains":true}],"unevaluatedItems":true}`, 150) + `]}`, ones},
		"numbers that fit":        {`{"items":{"minimum":1,"maximum":1e390,"multipleOf":0.0009765625}}`, "[" + many("7e300", 32_000) + "]"},
		"a hundred kinds":         {`{"items":{"oneOf":[` + many(`{"required":["x"]}`, 99) + `,true]}}`, "[" + many(`{"a":1}`, 24_000) + "]"},
		"wide objects":            {`{"allOf":[` + many(`{"properties":{"zz":true}}`, 400) + `]}`, "{" + uniqueMembers(16_000) + "}"},
	}
}

func uniques(n int) string {
	parts := make([]string, n)
	for i := range parts {
		b := []byte(`["`)
		for bit := range 15 {
			if b = append(b, 'a'); i>>bit&1 == 0 {
				b = append(b, `","`...)
			} else {
				b = append(b, `\u0004`...)
			}
		}
		parts[i] = string(b) + `"]`
	}
	return strings.Join(parts, ",")
}

func uniqueMembers(n int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = `"` + strconv.Itoa(i) + `":1`
	}
	return strings.Join(parts, ",")
}

// No schema and no payload keeps the server busy: each is refused, or stopped,
// or judged in few steps. What it takes is counted, not measured.
func TestHostileSchemas(t *testing.T) {
	t.Parallel()
	for name, c := range hostile() {
		begun := time.Now()
		s, err := compileSchema([]byte(c[0]))
		compiled := time.Since(begun)
		if err != nil {
			t.Logf("%s: refused: %v in %s", name, err, compiled)
			continue
		}
		begun = time.Now()
		fields := judgedBy(t, s, []byte(c[1]))
		took := time.Since(begun)
		t.Logf("%-24s %6d and %7d bytes: compiled %9s, judged %9s: %.80s", name, len(c[0]), len(c[1]), compiled, took, said(fields))
		cheap := []string{
			"contains", "errors everywhere", "expressions of names", "huge numbers", "a large const", "long numbers", "unevaluated by level", "unique by a hash",
		}
		if stopped := strings.HasSuffix(said(fields), "takes too many steps"); stopped == slices.Contains(cheap, name) {
			t.Errorf("%s: stopped %v: %.200s", name, stopped, said(fields))
		}
	}
}

func FuzzSchema(f *testing.F) {
	for _, c := range hostile() {
		if len(c[0])+len(c[1]) < 1000 {
			f.Add([]byte(c[0]), []byte(c[1]))
		}
	}
	f.Add([]byte(`{"type":"object","required":["a"],"properties":{"a":{"$ref":"#/$defs/x"}},"$defs":{"x":{"enum":[1,"b",null]}}}`), []byte(`{"a":1}`))
	f.Add([]byte(`{"$dynamicAnchor":"x","items":{"$dynamicRef":"#x"},"uniqueItems":true,"pattern":"a+"}`), []byte(`[[1,1.0]]`))
	f.Add([]byte(`{"allOf":[{"properties":{"a":true}}],"unevaluatedProperties":false,"contains":{},"maxContains":1}`), []byte(`{"a":1,"b":[2e5]}`))
	f.Fuzz(func(t *testing.T, text, payload []byte) {
		if len(text) > 4096 || len(payload) > 4096 || checkJSON(text) != nil || checkJSON(payload) != nil {
			return
		}
		s, err := compileSchema(text)
		if err != nil {
			if trigger.KindOf(err) != trigger.Invalid || strings.Contains(err.Error(), "cannot be compiled") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		fields := judgedBy(t, s, payload)
		if len(fields) > maxFields {
			t.Fatalf("%d fields", len(fields))
		}
		for _, field := range fields {
			if !strings.HasPrefix(field.Pointer, "#/payload") || field.Detail == "" || len(field.Detail) > 300 {
				t.Fatalf("said: %+v", field)
			}
		}
		if again := judgedBy(t, s, payload); said(again) != said(fields) && len(fields) < maxFields {
			t.Fatalf("said first %s, then %s", said(fields), said(again))
		}
	})
}
