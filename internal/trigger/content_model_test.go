package trigger_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

// decodeAny reads any JSON; its numbers keep their text.
func decodeAny(t rapid.TB, text string) (v any) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// follow is what a JSON Pointer leads to.
func follow(v any, pointer string) (any, bool) {
	if pointer == "" {
		return v, true
	}
	for token := range strings.SplitSeq(pointer[1:], "/") {
		token = strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~")
		switch holder := v.(type) {
		case map[string]any:
			below, ok := holder[token]
			if !ok {
				return nil, false
			}
			v = below
		case []any:
			i := 0
			for i < len(holder) && strconv.Itoa(i) != token {
				i++
			}
			if i == len(holder) {
				return nil, false
			}
			v = holder[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// rat is the value of a number.
func rat(n json.Number) *big.Rat {
	value, ok := new(big.Rat).SetString(n.String())
	if !ok {
		panic("no number: " + n.String())
	}
	return value
}

// same reports whether a value is a scalar. A decoded string has U+FFFD for
// what is no text; no scalar has one here.
func same(v, scalar any) bool {
	a, isNumber := v.(json.Number)
	b, wantNumber := scalar.(json.Number)
	if isNumber && wantNumber {
		return rat(a).Cmp(rat(b)) == 0
	}
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return v == scalar
}

// holds says slowly whether a value meets an operator.
func holds(name string, operand, v any, present bool) bool {
	if name == "exists" {
		return present == operand.(bool)
	}
	list, ok := operand.([]any)
	if !ok {
		list = []any{operand}
	}
	isSame := func(scalar any) bool { return same(v, scalar) }
	switch text, isText := v.(string); {
	case !present:
		return false
	case name == "equals" || name == "any_of":
		return slices.ContainsFunc(list, isSame)
	case name == "anything_but":
		return !slices.ContainsFunc(list, isSame)
	case name == "prefix":
		return isText && !strings.Contains(text, "\uFFFD") && strings.HasPrefix(text, operand.(string))
	}
	number, ok := v.(json.Number)
	for bound, limit := range operand.(map[string]any) {
		if !ok {
			return false
		}
		sign := rat(number).Cmp(rat(limit.(json.Number)))
		ok = map[string]bool{"gt": sign > 0, "gte": sign >= 0, "lt": sign < 0, "lte": sign <= 0}[bound]
	}
	return ok
}

// meets says slowly whether a payload meets a condition.
func meets(condition map[string]any, payload any) bool {
	met := func(inner any) bool { return meets(inner.(map[string]any), payload) }
	if list, ok := condition["all"].([]any); ok {
		return !slices.ContainsFunc(list, func(inner any) bool { return !met(inner) })
	}
	if list, ok := condition["any"].([]any); ok {
		return slices.ContainsFunc(list, met)
	}
	if inner, ok := condition["not"]; ok {
		return !met(inner)
	}
	v, present := follow(payload, condition["path"].(string))
	for name, operand := range condition {
		if name != "path" && !holds(name, operand, v, present) {
			return false
		}
	}
	return true
}

// checkExplained holds that the pointer leads to a clause of the condition, and
// that this clause alone is not met.
func checkExplained(t rapid.TB, condition, payload any, pointer string) {
	t.Helper()
	at := strings.LastIndexByte(pointer, '/')
	if at < 0 {
		t.Fatalf("the pointer %q leads to no clause", pointer)
	}
	name := pointer[at+1:]
	holder, _ := follow(condition, pointer[:at])
	members, _ := holder.(map[string]any)
	clause, ok := members[name]
	if !ok || name == "path" || name == "all" {
		t.Fatalf("the pointer %q leads to no clause", pointer)
	}
	alone := map[string]any{name: clause}
	if path, ok := members["path"]; ok {
		alone["path"] = path
	}
	if meets(alone, payload) {
		t.Fatalf("%s is met", pointer)
	}
}

// space is white space now and then.
func space(t *rapid.T) string {
	return rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space")
}

// drawQuoted draws a string of JSON, made of the pieces.
func drawQuoted(t *rapid.T, pieces ...string) string {
	return `"` + strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 3).Draw(t, "string"), "") + `"`
}

// textPieces are of one alphabet, some spelled in two ways.
func textPieces() []string {
	return []string{"a", `\u0061`, "b", "é", `\u00e9`, "😀", `\ud83d\uDE00`, `\"`, `\u0022`, `\\`, "]", "{"}
}

func drawNumber(t *rapid.T) string {
	if rapid.Bool().Draw(t, "known") {
		return rapid.SampledFrom([]string{
			"0", "-0", "0.0e9", "1", "1.0", "10e-1", "0.1E1", "-1", "-1.0", "10", "1e1", "100E-1", "0.10", "0.1", "9007199254740993", "9007199254740992",
		}).Draw(t, "number")
	}
	return rapid.StringMatching(`-?(0|[1-9][0-9]{0,2})(\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?`).Draw(t, "number")
}

func drawScalar(t *rapid.T, broken ...string) string {
	switch rapid.IntRange(0, 4).Draw(t, "scalar") {
	case 0, 1:
		return drawNumber(t)
	case 2, 3:
		return drawQuoted(t, append(textPieces(), broken...)...)
	}
	return rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "word")
}

// drawPayload draws a value, in which names repeat and some strings are broken.
func drawPayload(t *rapid.T, depth int) string {
	kind := rapid.IntRange(0, 3).Draw(t, "kind")
	if depth == 0 || kind == 0 {
		return space(t) + drawScalar(t, `\ud800`, `\udc00`) + space(t)
	}
	pieces := make([]string, rapid.IntRange(0, 4).Draw(t, "size"))
	for i := range pieces {
		pieces[i] = drawPayload(t, depth-1)
		if kind > 1 {
			name := rapid.SampledFrom([]string{"a", `\u0061`, "b", "0", `\u0030`, "1", "", "~", "/", `\/`, `\ud800`, `a\udc00`}).Draw(t, "name")
			pieces[i] = space(t) + `"` + name + `"` + space(t) + ":" + pieces[i]
		}
	}
	if kind == 1 {
		return "[" + strings.Join(pieces, ",") + "]"
	}
	return "{" + strings.Join(pieces, ",") + "}"
}

func drawOperator(t *rapid.T, name string) string {
	operand := func(t *rapid.T) string { return drawScalar(t) }
	list := func() string {
		return "[" + strings.Join(rapid.SliceOfN(rapid.Custom(operand), 1, 4).Draw(t, "values"), ",") + "]"
	}
	switch name {
	case "equals":
		return operand(t)
	case "any_of":
		return list()
	case "anything_but":
		if rapid.Bool().Draw(t, "list") {
			return list()
		}
		return operand(t)
	case "prefix":
		return drawQuoted(t, textPieces()...)
	case "exists":
		return strconv.FormatBool(rapid.Bool().Draw(t, "exists"))
	}
	lower := rapid.SampledFrom([]string{"", `"gt":`, `"gte":`}).Draw(t, "lower")
	upper := rapid.SampledFrom([]string{`"lt":`, `"lte":`}).Draw(t, "upper")
	switch {
	case lower == "":
		return "{" + upper + drawNumber(t) + "}"
	case rapid.Bool().Draw(t, "one"):
		return "{" + lower + drawNumber(t) + "}"
	}
	return "{" + lower + drawNumber(t) + "," + upper + drawNumber(t) + "}"
}

// drawCondition draws a condition over the names of drawPayload.
func drawCondition(t *rapid.T, depth int) string {
	kind := rapid.SampledFrom([]string{"path", "path", "all", "any", "not"}).Draw(t, "kind")
	switch {
	case depth == 0 || kind == "path":
		tokens := rapid.SliceOfN(rapid.SampledFrom([]string{"/a", "/b", "/0", "/1", "/", "/~0", "/~1"}), 0, 3).Draw(t, "path")
		members := []string{fmt.Sprintf(`"path":%q`, strings.Join(tokens, ""))}
		names := []string{"equals", "any_of", "anything_but", "prefix", "exists", "numeric"}
		for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 2, rapid.ID).Draw(t, "operators") {
			members = append(members, space(t)+`"`+name+`":`+drawOperator(t, name))
		}
		return space(t) + "{" + strings.Join(rapid.Permutation(members).Draw(t, "members"), ",") + "}"
	case kind == "not":
		return `{"not":` + drawCondition(t, depth-1) + "}"
	}
	inner := make([]string, rapid.IntRange(1, 3).Draw(t, "conditions"))
	for i := range inner {
		inner[i] = drawCondition(t, depth-1)
	}
	return `{"` + kind + `":[` + strings.Join(inner, ",") + "]}"
}

func TestContentAgreesWithModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := drawCondition(t, 2)
		c := parseContent(t, text)
		condition := decodeAny(t, text)
		for range 4 {
			payload := drawPayload(t, 3)
			decoded := decodeAny(t, payload)
			at, ok := c.Explain([]byte(payload))
			if want := meets(condition.(map[string]any), decoded); c.Match([]byte(payload)) != want || ok != want {
				t.Fatalf("%s, %s: Match %v, Explain %v, want %v", text, payload, c.Match([]byte(payload)), ok, want)
			}
			if !ok {
				checkExplained(t, condition, decoded, at)
			} else if at != "" {
				t.Fatalf("%s is explained though the condition is met", at)
			}
		}
	})
}

// TestContentNumbersAgreeWithRat compares numbers of any spelling.
func TestContentNumbersAgreeWithRat(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,3})(\.[0-9]{1,4})?`)
		a, b := digits.Draw(t, "a"), digits.Draw(t, "b")
		if rapid.Bool().Draw(t, "alike") {
			b = a
		}
		exponent := rapid.IntRange(-40, 40).Draw(t, "exponent")
		a += fmt.Sprintf("e%+04d", exponent)
		b += fmt.Sprintf("E%d", exponent+rapid.IntRange(-2, 2).Draw(t, "more"))
		order := rat(json.Number(a)).Cmp(rat(json.Number(b)))
		for operator, want := range map[string]bool{"gt": order > 0, "gte": order >= 0, "lt": order < 0, "lte": order <= 0} {
			if parseContent(t, `{"path":"","numeric":{"`+operator+`":`+b+`}}`).Match([]byte(a)) != want {
				t.Fatalf("%s %s %s, want %v", a, operator, b, want)
			}
		}
	})
}

func FuzzContent(f *testing.F) {
	f.Fuzz(func(t *testing.T, condition, payload string) {
		c, err := trigger.ParseContent([]byte(condition))
		if err != nil {
			if trigger.KindOf(err) != trigger.Invalid {
				t.Fatal(err)
			}
			return
		}
		at, ok := c.Explain([]byte(payload))
		if c.Match([]byte(payload)) != ok || ok != (at == "") {
			t.Fatalf("Match %v, Explain %q, %v", !ok, at, ok)
		}
		if clause, found := follow(decodeAny(t, condition), at); !found {
			t.Fatalf("%q leads to %v", at, clause)
		}
		again, err := trigger.ParseContent(c.Raw())
		if err != nil || again.Match([]byte(payload)) != ok {
			t.Fatalf("read again: %v", err)
		}
		if not, err := trigger.ParseContent([]byte(`{"not":` + condition + "}")); err == nil && not.Match([]byte(payload)) == ok {
			t.Fatal("not is the same")
		}
	})
}
