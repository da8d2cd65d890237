package trigger_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// parseContent reads a condition that is valid.
func parseContent(t rapid.TB, condition string) *trigger.Content {
	t.Helper()
	c, err := trigger.ParseContent([]byte(condition))
	if err != nil {
		t.Fatalf("ParseContent(%.300s): %v", condition, err)
	}
	return c
}

func TestContentMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		condition string
		met, not  []string // payloads
	}{
		{`{"path":"/a","equals":"x"}`, []string{`{"a":"x"}`, ` { "b" : [ "}" ] , "a" : "\u0078" } `}, []string{`{"a":"xx"}`, `{"a":""}`, `{"a":"X"}`, `{"b":"x"}`, `{"a":["x"]}`, `["x"]`, `"x"`, `{"a":{"a":"x"}}`}},
		{`{"path":"","equals":null}`, []string{`null`, "\n null\t"}, []string{`false`, `0`, `""`, `[]`, `[null]`}},
		{`{"path":"","equals":true}`, []string{`true`}, []string{`false`, `"true"`, `1`}},
		{`{"path":"","equals":false}`, []string{`false`}, []string{`true`, `null`, `0`}},
		{`{"path":"","equals":"1"}`, []string{`"1"`}, []string{`1`, `"1.0"`}},
		{`{"path":"","equals":1}`, []string{`1`, `1.0`, `0.01E+2`}, []string{`"1"`, `true`, `-1`, `10`}},
		{`{"path":"/a","any_of":["x",1,null]}`, []string{`{"a":"x"}`, `{"a":1e0}`, `{"a":null}`}, []string{`{"a":"y"}`, `{"a":false}`, `{"a":["x"]}`, `{}`}},
		{`{"path":"/a","anything_but":["x",1,null]}`, []string{`{"a":"y"}`, `{"a":["x"]}`, `{"a":{}}`, `{"a":"\ud800"}`}, []string{`{"a":"x"}`, `{"a":1.0}`, `{"a":null}`, `{}`, `[]`}},
		{`{"path":"/a","anything_but":"x"}`, []string{`{"a":"y"}`, `{"a":null}`}, []string{`{"a":"\u0078"}`, `{}`}},
		{`{"path":"/a","prefix":"né\n"}`, []string{`{"a":"né\n"}`, `{"a":"n\u00e9\u000ax"}`}, []string{`{"a":"né"}`, `{"a":"\u00e9né\n"}`, `{"a":"ne\u0301\n"}`, `{"a":1}`, `{"a":["né\n"]}`, `{}`}},
		{`{"path":"/a","prefix":""}`, []string{`{"a":""}`, `{"a":"x"}`, `{"a":"\n"}`}, []string{`{"a":1}`, `{}`, `{"a":"\udc00"}`}},
		{`{"path":"/a","exists":true}`, []string{`{"a":null}`, `{"a":{}}`, `{"a":"\ud800"}`}, []string{`{}`, `{"A":1}`, `[1]`, `null`, `"a"`}},
		{`{"path":"/a","exists":false}`, []string{`{}`, `{"b":{"a":1}}`, `[]`, `1`}, []string{`{"a":null}`}},
		{`{"path":"","exists":true}`, []string{`null`, `{}`}, nil},
		{`{"path":"/a","numeric":{"gt":1}}`, []string{`{"a":1.0000000000000000000001}`, `{"a":2}`}, []string{`{"a":1}`, `{"a":1.0}`, `{"a":0}`, `{"a":"2"}`, `{"a":null}`, `{}`}},
		{`{"path":"/a","numeric":{"gte":1,"lt":2}}`, []string{`{"a":1}`, `{"a":1.9999999999999999999999}`}, []string{`{"a":2}`, `{"a":0.9}`, `{"a":-1}`, `{"a":[1]}`}},
		{`{"path":"/a","numeric":{"lte":-1e2}}`, []string{`{"a":-100}`, `{"a":-1e9}`}, []string{`{"a":-99.9}`, `{"a":0}`, `{"a":1e9}`}},
		{`{"path":"/a","prefix":"x","anything_but":"xy"}`, []string{`{"a":"x"}`, `{"a":"xyz"}`}, []string{`{"a":"xy"}`, `{"a":"a"}`}},
		{`{"equals":1,"path":"/a"}`, []string{`{"a":1}`}, []string{`{"a":2}`}},
		{`{"path":"/a","exists":false,"equals":1}`, nil, []string{`{"a":1}`, `{}`}},

		{`{"path":"/a/0/b","equals":1}`, []string{`{"a":[{"b":1}]}`, `{"a":{"0":{"b":1}}}`, `{"a":[{"b":1},{"b":2}]}`}, []string{`{"a":[[],{"b":1}]}`, `{"a":{"00":{"b":1}}}`, `{"a":[]}`}},
		{`{"path":"/2","equals":1}`, []string{`[0,[0,0,[]],1]`, `[{"2":0},"]",1,3]`, `{"2":1}`}, []string{`[1,1]`, `[1,1,[1]]`}},
		{`{"path":"/02","exists":true}`, []string{`{"02":1}`}, []string{`[0,1,2,3]`}},
		{`{"path":"/-","exists":true}`, []string{`{"-":1}`}, []string{`[0]`}},
		{`{"path":"/+1","exists":true}`, []string{`{"+1":1}`}, []string{`[0,1]`}},
		{`{"path":"/99999999999999999999","exists":true}`, []string{`{"99999999999999999999":1}`}, []string{`[0]`}},
		{`{"path":"/","equals":1}`, []string{`{"":1}`}, []string{`1`, `{"/":1}`}},
		{`{"path":"//","equals":1}`, []string{`{"":{"":1}}`}, []string{`{"":1}`}},
		{`{"path":"/a~1b/~01/c%d","equals":1}`, []string{`{"a/b":{"~1":{"c%d":1}}}`}, []string{`{"a":{"b":1}}`, `{"a/b":{"/":{"c%d":1}}}`}},
		{`{"path":"/é\u0022\ud83d\ude00","equals":1}`, []string{`{"é\"😀":1}`, `{"\u00E9\u0022\uD83D\uDE00":1}`}, []string{`{"e\u0301\"😀":1}`}},

		{`{"all":[{"path":"/a","equals":1},{"path":"/b","equals":2}]}`, []string{`{"a":1,"b":2}`, `{"b":2,"a":1}`}, []string{`{"a":1}`, `{"b":2}`, `{"a":2,"b":1}`}},
		{`{"any":[{"path":"/a","equals":1},{"path":"/b","equals":2}]}`, []string{`{"a":1}`, `{"b":2}`}, []string{`{"a":2,"b":1}`, `{}`}},
		{`{"not":{"path":"/a","equals":1}}`, []string{`{"a":2}`, `{}`, `[]`}, []string{`{"a":1}`}},
		{`{"any":[{"path":"/a/b","exists":true},{"path":"/a","equals":3},{"path":"","equals":4}]}`, []string{`{"a":{"b":0}}`, `{"a":3}`, `4`}, []string{`{"a":{}}`, `{"b":3}`, `{"a":[3]}`}},
		{`{"all":[{"path":"/0","equals":1},{"path":"/3","equals":4},{"path":"/1","equals":2}]}`, []string{`[1,2,3,4,5]`}, []string{`[1,2,3]`, `[1,0,3,4]`}},
		{`{"all":[{"path":"/10","equals":1},{"path":"/9","equals":4}]}`, []string{`[0,1,2,3,4,5,6,7,8,4,1]`}, []string{`[0,1,2,3,4,5,6,7,8,1,4]`}},
		{`{"all":[{"path":"/a","prefix":"x"},{"path":"/a","anything_but":"xx"}]}`, []string{`{"a":"xxx"}`}, []string{`{"a":"xx"}`}},
	}
	for _, tt := range tests {
		c := parseContent(t, tt.condition)
		for _, payload := range tt.met {
			if !c.Match([]byte(payload)) {
				t.Errorf("%s is not met by %s", tt.condition, payload)
			}
		}
		for _, payload := range tt.not {
			if c.Match([]byte(payload)) {
				t.Errorf("%s is met by %s", tt.condition, payload)
			}
		}
	}
}

// TestContentCountsLastMember holds that of members of one name the last one
// counts, with all that is in it and nothing that was in another.
func TestContentCountsLastMember(t *testing.T) {
	t.Parallel()
	for _, payload := range []string{
		`{"a":{"b":1},"a":{"b":2}}`, `{"a":{"b":1},"a":{"c":1}}`, `{"a":{"b":1},"a":[]}`, `{"a":{"b":1},"\u0061":null}`, `{"a":{"b":1,"b":0}}`,
		`{"a":{"b":1},"a":{"b":1},"a":3}`,
	} {
		if parseContent(t, `{"path":"/a/b","equals":1}`).Match([]byte(payload)) {
			t.Errorf("%s: an earlier member counts", payload)
		}
	}
	for _, payload := range []string{`{"a":{"b":2},"a":{"b":1}}`, `{"a":3,"a":{"b":0,"b":1}}`, `{"a":{"b":1},"A":{"b":2}}`, `{"a":{"b":1},"a\ud800":0,"\ud800a":0}`} {
		if !parseContent(t, `{"path":"/a/b","equals":1}`).Match([]byte(payload)) {
			t.Errorf("%s: the last member does not count", payload)
		}
	}
	const late = `{"all":[{"path":"/a/b/c","exists":false},{"path":"/a/b","exists":false},{"path":"/a","equals":0}]}`
	if at, ok := parseContent(t, late).Explain([]byte(`{"a":{"b":{"c":1}},"a":0}`)); !ok {
		t.Errorf("a replaced member's members count: %s", at)
	}
	const deep = `{"any":[{"path":"/a/b/c","exists":true},{"path":"/a/b","anything_but":2}]}`
	if parseContent(t, deep).Match([]byte(`{"a":{"b":{"c":1}},"a":{"b":2}}`)) {
		t.Error("a replaced member's members count")
	}
}

// TestContentBrokenStrings holds that a string which is no Unicode text is like
// no other, and begins with none.
func TestContentBrokenStrings(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`\ud800`, `\udfff`, `a\ud800`, `\ud800a`, `\ud800\ud800`, `\udc00\ud800`, `\ud800\u0061`, `\ud800\n`, "\xff", "a\xff", "\xff\\n", "\xed\xa0\x80", "\xf0\x9f",
	} {
		for _, operator := range []string{
			`"equals":"\ufffd"`, `"equals":"a\ufffd"`, `"equals":"a"`, `"equals":"\ufffd\ufffd"`, `"prefix":""`, `"prefix":"a"`, `"prefix":"\ufffd"`, `"any_of":["\ufffda",""]`,
		} {
			if parseContent(t, `{"path":"/a",`+operator+`}`).Match([]byte(`{"a":"` + text + `"}`)) {
				t.Errorf("%q meets %s", text, operator)
			}
		}
		if !parseContent(t, `{"path":"/a","anything_but":"\ufffd"}`).Match([]byte(`{"a":"` + text + `"}`)) {
			t.Errorf("%q is U+FFFD", text)
		}
		for _, name := range []string{`\ufffd`, `a\ufffd`, `\ufffda`, `\ufffd\ufffd`, `a`, ``} {
			if parseContent(t, `{"path":"/`+name+`","exists":true}`).Match([]byte(`{"` + text + `":1}`)) {
				t.Errorf("the member %q is reached as %q", text, name)
			}
		}
	}
	if !parseContent(t, `{"path":"/\ufffd","prefix":"\ufffd"}`).Match([]byte("{\"\uFFFD\":\"\uFFFD\\u0000\"}")) {
		t.Error("U+FFFD itself is refused")
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	tests := []struct{ condition, payload, want string }{
		{`{"path":"","equals":1}`, `2`, "/equals"},
		{`{"path":"/a","exists":false}`, `{"a":1}`, "/exists"},
		{`{"prefix":"x","path":"","any_of":["xa"]}`, `"xb"`, "/any_of"},
		{`{"any_of":["xa"],"path":"","prefix":"x"}`, `"y"`, "/any_of"},
		{`{"prefix":"x","path":"","any_of":["xa"]}`, `"y"`, "/prefix"},
		{`{"all":[{"path":"/a","equals":1},{"path":"/b","anything_but":1,"numeric":{"gt":1,"lt":3}}]}`, `{"a":1,"b":3}`, "/all/1/numeric"},
		{`{"all":[{"path":"/a","equals":1},{"path":"/b","equals":2}]}`, `{}`, "/all/0/equals"},
		{`{"any":[{"path":"/a","equals":1},{"path":"/b","equals":2}]}`, `{}`, "/any"},
		{`{"not":{"path":"/a","equals":1}}`, `{"a":1}`, "/not"},
		{`{"all":[{"not":{"path":"/b","exists":true}},{"any":[{"all":[{"path":"/a","equals":1}]}]}]}`, `{}`, "/all/1/any"},
		{`{"all":[{"all":[{"path":"","exists":true},{"not":{"any":[{"path":"/a","exists":false}]}}]}]}`, `{}`, "/all/0/all/1/not"},
	}
	for _, tt := range tests {
		at, ok := parseContent(t, tt.condition).Explain([]byte(tt.payload))
		if at != tt.want || ok {
			t.Errorf("%s, %s: %q, %v, want %q", tt.condition, tt.payload, at, ok, tt.want)
		}
	}
}

func TestContentNilIsMet(t *testing.T) {
	t.Parallel()
	var c *trigger.Content
	if at, ok := c.Explain([]byte(`{}`)); at != "" || !ok || !c.Match(nil) || c.Raw() != nil {
		t.Error("nil is a condition")
	}
}

func TestContentKeepsItsText(t *testing.T) {
	t.Parallel()
	const text = " { \"path\" : \"/a\" ,\n\"equals\" : \"\\u0061\" } "
	given := []byte(text)
	c, err := trigger.ParseContent(given)
	if err != nil {
		t.Fatal(err)
	}
	clear(given)
	if string(c.Raw()) != text || !c.Match([]byte(`{"a":"a"}`)) {
		t.Errorf("Raw() = %q, want %q", c.Raw(), text)
	}
}

func TestParseContentRefuses(t *testing.T) {
	t.Parallel()
	const leaf = `{"path":"","exists":true}`
	tests := []struct{ condition, want string }{
		{``, `content: must be valid JSON`},
		{`{"path":"","equals":1}}`, `content: must be valid JSON`},
		{`{"path":"","equals":01}`, `content: must be valid JSON`},
		{"{\"path\":\"\",\"equals\":\"\xff\"}", `content: must be valid UTF-8`},
		{`null`, `content: must be an object`},
		{`[` + leaf + `]`, `content: must be an object`},
		{`{}`, `content: must have exactly one of path, all, any and not`},
		{`{"equals":1}`, `content: must have exactly one of path, all, any and not`},
		{`{"path":"","all":[` + leaf + `]}`, `content: must have exactly one of path, all, any and not`},
		{`{"all":[` + leaf + `],"any":[` + leaf + `]}`, `content: must have exactly one of path, all, any and not`},
		{`{"all":[` + leaf + `],"equals":1}`, `content: has the unknown member "equals"`},
		{`{"all":[` + leaf + `],"all":[` + leaf + `]}`, `content: must have the member "all" only once`},
		{`{"path":"","equals":1,"\u0065quals":1}`, `content: must have the member "equals" only once`},
		{`{"path":"","path":"","equals":1}`, `content: must have the member "path" only once`},
		{`{"path":"","Equals":1}`, `content: has the unknown member "Equals"`},
		{`{"path":"","` + strings.Repeat("x", 99) + `":1}`, `content: has the unknown member "` + strings.Repeat("x", 64) + `"`},
		{`{"path":"","\ud800":1}`, `content: must not have a member whose name has a lone surrogate`},
		{`{"path":""}`, `content: must have an operator: equals, any_of, anything_but, prefix, exists or numeric`},
		{`{"path":null,"equals":1}`, `content /path: must be a string without lone surrogates`},
		{`{"path":["a"],"equals":1}`, `content /path: must be a string without lone surrogates`},
		{`{"path":"/\ud800","equals":1}`, `content /path: must be a string without lone surrogates`},
		{`{"path":"a/b","equals":1}`, `content /path: must be empty or begin with / (RFC 6901)`},
		{`{"path":"/a~","equals":1}`, `content /path: must have ~ only in ~0 or ~1 (RFC 6901)`},
		{`{"path":"/~2","equals":1}`, `content /path: must have ~ only in ~0 or ~1 (RFC 6901)`},
		{`{"all":{}}`, `content /all: must be an array`},
		{`{"all":[ ]}`, `content /all: must not be empty`},
		{`{"any":[]}`, `content /any: must not be empty`},
		{`{"any":[` + leaf + `,1]}`, `content /any/1: must be an object`},
		{`{"not":[` + leaf + `]}`, `content /not: must be an object`},
		{`{"not":{"all":[` + leaf + `,{"path":"","prefix":1}]}}`, `content /not/all/1/prefix: must be a string`},
		{`{"path":"","equals":[1]}`, `content /equals: must be a string, number, true, false or null`},
		{`{"path":"","equals":{}}`, `content /equals: must be a string, number, true, false or null`},
		{`{"path":"","equals":"\udc00"}`, `content /equals: must not have a lone surrogate`},
		{`{"path":"","any_of":1}`, `content /any_of: must be an array`},
		{`{"path":"","any_of":[]}`, `content /any_of: must not be empty`},
		{`{"path":"","any_of":[1,[2]]}`, `content /any_of/1: must be a string, number, true, false or null`},
		{`{"path":"","any_of":["a\ud800b"]}`, `content /any_of/0: must not have a lone surrogate`},
		{`{"path":"","anything_but":{}}`, `content /anything_but: must be a string, number, true, false or null`},
		{`{"path":"","anything_but":[]}`, `content /anything_but: must not be empty`},
		{`{"path":"","anything_but":[null,{}]}`, `content /anything_but/1: must be a string, number, true, false or null`},
		{`{"path":"","prefix":["a"]}`, `content /prefix: must be a string`},
		{`{"path":"","prefix":"\ud83d"}`, `content /prefix: must not have a lone surrogate`},
		{`{"path":"","exists":"true"}`, `content /exists: must be true or false`},
		{`{"path":"","exists":null}`, `content /exists: must be true or false`},
		{`{"path":"","numeric":1}`, `content /numeric: must be an object`},
		{`{"path":"","numeric":{}}`, `content /numeric: must have gt or gte, lt or lte, or one of each`},
		{`{"path":"","numeric":{"gt":1,"gte":1}}`, `content /numeric: must have gt or gte, lt or lte, or one of each`},
		{`{"path":"","numeric":{"lt":1,"gt":0,"lte":1}}`, `content /numeric: must have gt or gte, lt or lte, or one of each`},
		{`{"path":"","numeric":{"gt":1,"gt":2}}`, `content /numeric: must have the member "gt" only once`},
		{`{"path":"","numeric":{"gt":"1"}}`, `content /numeric/gt: must be a number`},
		{`{"path":"","numeric":{"lte":null}}`, `content /numeric/lte: must be a number`},
		{`{"path":"","numeric":{"eq":1}}`, `content /numeric: has the unknown member "eq"`},
	}
	for _, tt := range tests {
		c, err := trigger.ParseContent([]byte(tt.condition))
		if err == nil || err.Error() != tt.want || trigger.KindOf(err) != trigger.Invalid || c != nil {
			t.Errorf("ParseContent(%s) = %v, want %s", tt.condition, err, tt.want)
		}
	}
}

// leaves is an all of n leaves.
func leaves(n int) string {
	return `{"all":[` + strings.TrimSuffix(strings.Repeat(`{"path":"/a","exists":true},`, n), ",") + `]}`
}

func TestContentLimits(t *testing.T) {
	t.Parallel()
	path := func(token string, n int) string {
		return `{"path":"/` + strings.Repeat(token, n) + `","exists":true}`
	}
	nested := func(n int) string {
		return strings.Repeat(`{"not":`, n-1) + `{"path":"","exists":true}` + strings.Repeat("}", n-1)
	}
	values := func(operator string, n int) string {
		return `{"path":"","` + operator + `":[` + strings.TrimSuffix(strings.Repeat("1,", n), ",") + `]}`
	}
	long := `{"path":"","equals":""}`
	tests := []struct{ name, valid, invalid, want string }{
		{"text", long + strings.Repeat(" ", 4096-len(long)), long + strings.Repeat(" ", 4097-len(long)), "content: must have at most 4096 bytes"},
		{"depth", nested(8), nested(9), "content " + strings.Repeat("/not", 8) + ": must be nested at most 8 conditions deep"},
		{"leaves", leaves(64), leaves(65), "content /all/64: exceeds the limit of 64 paths"},
		{"path", path("a", 254), path("a", 255), "content /path: must have at most 255 bytes"},
		{"escaped path", path(`\u0061`, 254), path(`\u0061`, 255), "content /path: must have at most 255 bytes"},
		{"tokens", path("/", 254), path("/", 255), "content /path: must have at most 255 bytes"},
		{"any_of", values("any_of", 100), values("any_of", 101), "content /any_of: must have at most 100 values; got 101"},
		{"anything_but", values("anything_but", 100), values("anything_but", 101), "content /anything_but: must have at most 100 values; got 101"},
	}
	for _, tt := range tests {
		parseContent(t, tt.valid)
		if _, err := trigger.ParseContent([]byte(tt.invalid)); err == nil || err.Error() != tt.want || trigger.KindOf(err) != trigger.Invalid {
			t.Errorf("%s: %v, want %s", tt.name, err, tt.want)
		}
	}
	name := strings.Repeat("a", 254)
	if !parseContent(t, path("a", 254)).Match([]byte(`{"` + strings.Repeat(`\u0061`, 254) + `":1,"` + strings.Repeat(`\u0061`, 255) + `":1}`)) {
		t.Errorf("the longest name is not found")
	}
	if parseContent(t, path("a", 254)).Match([]byte(`{"` + strings.Repeat(`\u0061`, 999) + `":1,"` + name + `\n":1}`)) {
		t.Errorf("a longer name is found")
	}
}

// TestContentNumbers compares each number with each: those of one line are the
// same, and less than those of the next.
func TestContentNumbers(t *testing.T) {
	t.Parallel()
	lines := [][]string{
		{"-1e99999999999999999999999", "-0.1e100000000000000000000000"},
		{"-1e99999999999999999999998"},
		{"-9007199254740993"},
		{"-9007199254740992", "-9007199254740992.000"},
		{"-10.5", "-1.05e1", "-1050e-2"},
		{"-10.05"},
		{"-1e-400"},
		{"-1e-9223372036854775809"},
		{"0", "-0", "0.000", "-0.0e-5", "0e999999999999999999999", "0E-0"},
		{"1e-999999999999999999999", "10e-1000000000000000000000", "0.1e-999999999999999999998"},
		{"1e-9223372036854775809", "0.01E-9223372036854775807"},
		{"1e-9223372036854775808", "100e-9223372036854775810"},
		{"0.00099", "99e-5"},
		{"0.001", "0.1e-2", "1e-3"},
		{"1", "1.0", "1e0", "10e-1", "0.001e3", "1E+0", "1e-000000000000000000000000", "1000.00e-0000000000000000000003"},
		{"1.0000000000000000000000000000000000001"},
		{"9.99"},
		{"10", "1e1"},
		{"100", "1.00e2", "1e+002"},
		{"100.5"},
		{"105", "1.05e2"},
		{"9007199254740992"},
		{"9007199254740993", "9007199254740.993e3"},
		{"1e400", "10e399"},
		{"1e401", "1" + strings.Repeat("0", 401)},
		{"1e9223372036854775806", "10e9223372036854775805"},
		{"1e9223372036854775807", "0.1e9223372036854775808"},
		{"1e18446744073709551616"},
		{"9.9e99999999999999999999"},
		{"1e100000000000000000000", "10e99999999999999999999", "0.0001e100000000000000000004"},
		{"1e999999999999999999999"},
		{"2e999999999999999999999"},
	}
	for i, line := range lines {
		for j, other := range lines {
			for _, a := range line {
				for _, b := range other {
					compareNumbers(t, a, b, i-j)
				}
			}
		}
	}
}

// compareNumbers holds that a condition with the number b finds the number a
// equal if order is 0, less if it is less, and more if it is more.
func compareNumbers(t *testing.T, a, b string, order int) {
	t.Helper()
	for operator, want := range map[string]bool{
		`"equals":` + b: order == 0, `"anything_but":` + b: order != 0,
		`"numeric":{"gt":` + b + `}`: order > 0, `"numeric":{"gte":` + b + `}`: order >= 0,
		`"numeric":{"lt":` + b + `}`: order < 0, `"numeric":{"lte":` + b + `}`: order <= 0,
	} {
		if got := parseContent(t, `{"path":"",`+operator+`}`).Match([]byte(a)); got != want {
			t.Errorf("%s of %s is %v", operator, a, got)
		}
	}
}

// TestContentHostilePayloads holds that what is large, deep or no JSON at all
// comes to an end, without a stack that is as deep.
func TestContentHostilePayloads(t *testing.T) {
	t.Parallel()
	const n = 1 << 17
	path := strings.Repeat("/a", 127)
	conditions := []*trigger.Content{
		parseContent(t, `{"any":[{"path":"/a","prefix":"b"},{"path":"/0/0/0","numeric":{"gt":1e5000}},{"path":"","equals":1e-7}]}`),
		parseContent(t, `{"path":"`+path+`","equals":1}`),
	}
	for _, piece := range []string{
		"[", "{", "]", "}", `{"a":`, `[{"a":`, `"`, `\"`, `\`, `"a`, `"a"`, ":", ",", "0", "0.", "-", "e", "9e", "\x00", "\xff", " ", "t", `{"a":1`, `{"a":"\u`, `{"a":"\u00zz"`, `"\ud800`, "[0 ", `[0}`, "[}",
	} {
		for _, before := range []string{"", `{"a":`, `{"a":"`, `[`, `[[[`, `{"a":"b\`, `1e`, `-`} {
			payload := []byte(before + strings.Repeat(piece, n/len(piece)))
			for _, c := range conditions {
				c.Match(payload)
				c.Match(payload[:len(payload)/n])
			}
		}
	}
	digits := strings.Repeat("7", n)
	for _, payload := range []string{digits, "-0." + digits, "1e" + digits, "1e-" + digits} {
		compareNumbers(t, payload, "0", map[bool]int{true: -1, false: 1}[payload[0] == '-'])
		compareNumbers(t, payload, "1e"+strings.Repeat("6", 1000), map[bool]int{true: 1, false: -1}[strings.HasPrefix(payload, "1e7")])
	}
}

// TestContentTruncated holds that no piece of a payload makes a condition panic.
func TestContentTruncated(t *testing.T) {
	t.Parallel()
	const payload = ` {"a\n" : {"b": [ 1.5e+3 , -0, "\ud83d\ude00\\" , {"c": null}]}, "d": "\u0061b\"", "e": [true, false]} `
	c := parseContent(t, `{"all":[{"path":"/a\n/b/0","equals":1500},{"path":"/a\n/b/2","prefix":"😀"},{"path":"/a\n/b/3/c","equals":null},
		{"path":"/d","equals":"ab\""},{"path":"/e/1","equals":false},{"path":"/e/2","exists":false}]}`)
	if at, ok := c.Explain([]byte(payload)); !ok {
		t.Fatalf("not met: %s", at)
	}
	for i := range payload {
		for j := i; j <= len(payload); j++ {
			c.Match([]byte(payload)[i:j])
		}
	}
}

// TestContentAllocates holds what a match allocates, whatever the payload is.
func TestContentAllocates(t *testing.T) {
	c := parseContent(t, `{"any":[{"path":"/a/1","any_of":["b","\u0062c"]},{"path":"/x","numeric":{"gt":1e99}},{"path":"/\n","prefix":"\n"}]}`)
	for _, payload := range [][]byte{
		[]byte(`{}`),
		[]byte(`{"\n":"a\n","x":1e` + strings.Repeat("0", 999) + `,"a":[0,"` + strings.Repeat(`\u0061`, 9999) + `"]}`),
		[]byte(`{"x":[` + strings.Repeat(`{"a":"b","\n":1.5},`, 9999) + `0]}`),
	} {
		if got := testing.AllocsPerRun(10, func() { c.Explain(payload) }); got > 2 {
			t.Errorf("%v allocations for %.30s…, want 2", got, payload)
		}
	}
}

// BenchmarkContent shows that the time for a byte depends neither on the size
// of the payload nor on what it is made of: ns/op by the bytes is flat.
func BenchmarkContent(b *testing.B) {
	var paths []string
	for i := range 64 {
		paths = append(paths, fmt.Sprintf(`{"path":"/items/%d/id","equals":%d}`, 15*i, i))
	}
	all := parseContent(b, `{"any":[`+strings.Join(paths, ",")+`]}`)
	one := parseContent(b, `{"path":"/items/3/total","numeric":{"gte":100}}`)
	item := `{"id":"4711","name":"a \"name\" of \u0061 thing","total":99.95,"tags":["a","b",{"c":null}]},`
	for _, made := range []struct {
		name, before, piece, after string
		content                    *trigger.Content
	}{
		{"one path", `{"items":[`, item, `0]}`, one},
		{"64 paths", `{"items":[`, item, `0]}`, all},
		{"the same member", `{`, `"items":[{"id":1,"id":2}],`, `"items":0}`, all},
		{"backslashes", `{"items":"`, `\\\"`, `"}`, all},
		{"digits", `{"items":`, "1", "}", parseContent(b, `{"path":"/items","anything_but":1e999}`)},
		{"exponent", `{"items":1e`, "1", "}", parseContent(b, `{"path":"/items","anything_but":1e999}`)},
		{"depth", `{"items":`, "[", "", all},
	} {
		for _, size := range []int{1 << 10, 1 << 15, 1 << 20} {
			payload := []byte(made.before + strings.Repeat(made.piece, size/len(made.piece)) + made.after)
			b.Run(fmt.Sprintf("%s/%d KiB", made.name, size>>10), func(b *testing.B) {
				b.SetBytes(int64(len(payload)))
				b.ReportAllocs()
				for b.Loop() {
					made.content.Match(payload)
				}
			})
		}
	}
}
