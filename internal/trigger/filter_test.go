package trigger_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func TestFilterTypes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		types     []string
		eventType string
		match     bool
		names     bool
	}{
		{nil, "user.created", true, false},
		{nil, "", true, false},
		{[]string{""}, "user.created", true, false},
		{[]string{"*"}, "user.created", true, false},
		{[]string{"**"}, "user.created", true, false},
		{[]string{"*.created"}, "user.created", true, false},
		{[]string{"user.*"}, "user.created", true, true},
		{[]string{"user.created"}, "user.created", true, true},
		{[]string{"u*"}, "user.created", true, true},
		{[]string{"user.*"}, "order.created", false, false},
		{[]string{"", "user.*"}, "order.created", false, false},
		{[]string{"user.*", "order.*"}, "order.created", true, true},
		{[]string{"order.*", "user.*"}, "order.created", true, true},
		{[]string{"*", "order.*"}, "order.created", true, true},
		{[]string{"order.*", "*"}, "user.created", true, false},
		{[]string{"order.*", "user.deleted"}, "user.created", false, false},
	}
	for _, tt := range tests {
		filter, err := trigger.ParseFilter(tt.types, nil)
		if err != nil {
			t.Errorf("ParseFilter(%q): %v", tt.types, err)
			continue
		}
		if got := filter.Match(tt.eventType, []byte(`{}`)); got != tt.match {
			t.Errorf("%q.Match(%q) = %v, want %v", tt.types, tt.eventType, got, tt.match)
		}
		if got := filter.Names(tt.eventType); got != tt.names {
			t.Errorf("%q.Names(%q) = %v, want %v", tt.types, tt.eventType, got, tt.names)
		}
		want := map[bool]string{true: "", false: "types"}[tt.match]
		if got := filter.Miss(tt.eventType, []byte(`{}`)); got != want {
			t.Errorf("%q.Miss(%q) = %q, want %q", tt.types, tt.eventType, got, want)
		}
	}
}

func TestZeroFilterPicksEverything(t *testing.T) {
	t.Parallel()
	var zero trigger.Filter
	for _, payload := range []string{"", "null", "{", `{"a":1}`} {
		if !zero.Match("any.thing", []byte(payload)) || zero.Miss("any.thing", []byte(payload)) != "" {
			t.Errorf("the zero Filter refuses %q: %q", payload, zero.Miss("any.thing", []byte(payload)))
		}
	}
	if zero.Names("any.thing") {
		t.Error("the zero Filter names a type")
	}
	if got := zero.TypeStrings(); got == nil || len(got) != 0 {
		t.Errorf("the zero Filter has the types %#v, want an empty list", got)
	}
}

// A row that is older than lists of patterns holds "" for everything.
func TestStoredEmptyPatternInAFilter(t *testing.T) {
	t.Parallel()
	filter := trigger.Filter{Types: []trigger.Pattern{trigger.StoredPattern("")}}
	if !filter.Match("any.thing", nil) {
		t.Error("the empty pattern refuses a type")
	}
	if filter.Names("any.thing") {
		t.Error("the empty pattern names a type")
	}
}

func TestParseFilter(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 19, 20, 21, 1000} {
		filter, err := trigger.ParseFilter(slices.Repeat([]string{"user.*"}, n), nil)
		wantValid(t, strings.Repeat("user.* ", min(n, 3)), err, n <= 20)
		if err == nil && len(filter.Types) != n {
			t.Errorf("%d patterns of %d", len(filter.Types), n)
		}
	}
	for _, tt := range texts {
		for _, types := range [][]string{{tt.text}, {"a", tt.text}, {tt.text, "a"}} {
			filter, err := trigger.ParseFilter(types, nil)
			wantValid(t, tt.name, err, tt.valid || tt.text == "")
			if err != nil && len(filter.Types) != 0 {
				t.Errorf("%s: a filter with an error", tt.name)
			}
		}
	}
	_, err := trigger.ParseFilter([]string{"user.*", strings.Repeat("*", 9)}, nil)
	wantValid(t, "nine stars", err, false)
}

func TestFilterContent(t *testing.T) {
	t.Parallel()
	filter, err := trigger.ParseFilter([]string{"user.*", "a"}, []byte(`{"all":[{"path":"/a","equals":1},{"path":"/b","exists":true}]}`))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ eventType, payload, miss string }{
		{"user.created", `{"a":1,"b":null}`, ""},
		{"a", `{"a":1.0,"b":[]}`, ""},
		{"order.created", `{"a":1,"b":null}`, "types"},
		{"order.created", `{}`, "types"},
		{"user.created", `{"a":2,"b":null}`, "content /all/0/equals"},
		{"a", `{"a":1}`, "content /all/1/exists"},
		{"user.created", `{}`, "content /all/0/equals"},
	}
	for _, tt := range tests {
		if got := filter.Miss(tt.eventType, []byte(tt.payload)); got != tt.miss {
			t.Errorf("Miss(%q, %s) = %q, want %q", tt.eventType, tt.payload, got, tt.miss)
		}
		if got := filter.Match(tt.eventType, []byte(tt.payload)); got != (tt.miss == "") {
			t.Errorf("Match(%q, %s) = %v", tt.eventType, tt.payload, got)
		}
		if got, want := filter.Names(tt.eventType), tt.miss != "types"; got != want {
			t.Errorf("Names(%q) = %v, want %v", tt.eventType, got, want)
		}
	}
}

func TestParseFilterContent(t *testing.T) {
	t.Parallel()
	for _, none := range [][]byte{nil, {}} {
		if filter, err := trigger.ParseFilter([]string{"a"}, none); err != nil || filter.Content != nil {
			t.Errorf("no condition is %v, %v", filter.Content, err)
		}
	}
	const good = `{"path":"/a","equals":1}`
	for raw, valid := range map[string]bool{good: true, "{": false, "[]": false, `{"path":"a","equals":1}`: false, " ": false} {
		filter, err := trigger.ParseFilter([]string{"user.*"}, []byte(raw))
		wantValid(t, raw, err, valid)
		if valid && string(filter.Content.Raw()) != raw {
			t.Errorf("%s is kept as %s", raw, filter.Content.Raw())
		}
		// Half a filter would pick more than was asked for.
		if err != nil && (len(filter.Types) != 0 || filter.Content != nil) {
			t.Errorf("%s: a filter with an error", raw)
		}
	}
	_, err := trigger.ParseFilter([]string{strings.Repeat("*", 9)}, []byte(good))
	wantValid(t, "nine stars and a good condition", err, false)
}

func TestFilterIsAnyOfItsPatterns(t *testing.T) {
	t.Parallel()
	text := rapid.StringOfN(rapid.RuneFrom([]rune("ab.*")), 0, 6, -1)
	eventType := rapid.StringOfN(rapid.RuneFrom([]rune("ab.")), 0, 8, -1)
	rapid.Check(t, func(t *rapid.T) {
		types := rapid.SliceOfN(text, 0, trigger.MaxPatterns).Draw(t, "types")
		filter, err := trigger.ParseFilter(types, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := eventType.Draw(t, "type")
		written, match, names := []string{}, false, false
		for _, text := range types {
			if text == "" {
				continue
			}
			written = append(written, text)
			picks := asRegexp(text).MatchString(s)
			match, names = match || picks, names || picks && text[0] != '*'
		}
		match = match || len(written) == 0
		if filter.Match(s, nil) != match || (filter.Miss(s, nil) == "") != match || filter.Names(s) != names {
			t.Fatalf("%q on %q: Match %v, Miss %q, Names %v; want %v, %v", types, s, filter.Match(s, nil), filter.Miss(s, nil), filter.Names(s), match, names)
		}
		if diff := cmp.Diff(written, filter.TypeStrings()); diff != "" {
			t.Fatal(diff)
		}
	})
}
