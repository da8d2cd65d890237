package trigger_test

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"triggerd/internal/trigger"
)

func TestPatternMatch(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern, eventType string
		want               bool
	}{
		{"", "anything", true},
		{"*", "anything", true},
		{"*", "", true},
		{"********", "a", true},
		{"user.created", "user.created", true},
		{"user.created", "user.created.now", false},
		{"user.created", "a user.created", false},
		{"user.created", "User.created", false},
		{"user.created", "userXcreated", false},
		{"user.*", "user.created", true},
		{"user.*", "user.a.b.c", true},
		{"user.*", "user.", true},
		{"user.*", "user", false},
		{"user.*", "superuser.x", false},
		{"*.created", "user.created", true},
		{"*.created", "a.b.created", true},
		{"*.created", ".created", true},
		{"*.created", "created", false},
		{"*.created", "user.created.x", false},
		{"a*c", "ac", true},
		{"a*c", "abcbc", true},
		{"a*c", "abcb", false},
		{"ab*ba", "aba", false},
		{"ab*ba", "abba", true},
		{"*ab*ab*", "ab", false},
		{"*ab*ab*", "xabxabx", true},
		{"*ab*ab*", "abab", true},
		{"*a*b", "ba", false},
		{"*aab*b", "aaabb", true},
		{"*é*", "café au lait", true},
		{"*é", "cafe\u0301", false},
		{"a*z", "a\nz", true},
		{"[a-z]", "b", false},
		{"a?", "ab", false},
		{`\*`, "*", false},
		{`\*`, `\x`, true},
	}
	for _, tt := range tests {
		pattern, err := trigger.ParsePattern(tt.pattern)
		if err != nil {
			t.Errorf("ParsePattern(%q): %v", tt.pattern, err)
			continue
		}
		if got := pattern.Match(tt.eventType); got != tt.want {
			t.Errorf("%q.Match(%q) = %v, want %v", tt.pattern, tt.eventType, got, tt.want)
		}
		if got := pattern.String(); got != tt.pattern {
			t.Errorf("String() = %q, want %q", got, tt.pattern)
		}
	}
}

func TestZeroPatternPicksEverything(t *testing.T) {
	t.Parallel()
	if !(trigger.Pattern{}).Match("any.thing") {
		t.Error("the zero Pattern refuses a type")
	}
}

func TestParsePattern(t *testing.T) {
	t.Parallel()
	for _, tt := range texts {
		_, err := trigger.ParsePattern(tt.text)
		wantValid(t, tt.name, err, tt.valid || tt.text == "")
	}
	for stars := range 12 {
		_, err := trigger.ParsePattern(strings.Repeat("*a", stars))
		wantValid(t, strings.Repeat("*a", stars), err, stars <= 8)
		_, err = trigger.ParsePattern("a" + strings.Repeat("*", stars))
		wantValid(t, "a"+strings.Repeat("*", stars), err, stars <= 8)
	}
}

// What is stored goes on to be read when the limits have become narrower.
func TestStoredPatternKnowsNoLimits(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("*a", 300)
	pattern := trigger.StoredPattern(text)
	if pattern.String() != text || !pattern.Match(strings.Repeat("a", 300)) || pattern.Match(strings.Repeat("a", 299)) {
		t.Errorf("a pattern of %d bytes is not read as it is stored", len(text))
	}
	if empty := trigger.StoredPattern(""); empty.String() != "" || !empty.Match("any.thing") {
		t.Errorf("the empty pattern is read as %q", empty)
	}
}

// asRegexp says what a pattern means in another language.
func asRegexp(pattern string) *regexp.Regexp {
	quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*")
	return regexp.MustCompile(`(?s)\A(?:` + quoted + `)\z`)
}

func TestPatternAgreesWithRegexp(t *testing.T) {
	t.Parallel()
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aab.**é")), 1, 14, -1)
	eventType := rapid.StringOfN(rapid.RuneFrom([]rune("aab.*é")), 0, 14, -1)
	rapid.Check(t, func(t *rapid.T) {
		p := text.Filter(func(s string) bool { return strings.Count(s, "*") <= trigger.MaxStars }).Draw(t, "pattern")
		s := eventType.Draw(t, "type")
		pattern, err := trigger.ParsePattern(p)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := pattern.Match(s), asRegexp(p).MatchString(s); got != want {
			t.Fatalf("%q.Match(%q) = %v, want %v", p, s, got, want)
		}
	})
}

// What is made from a pattern by putting any texts for its stars matches it.
func TestPatternPicksWhatIsMadeFromIt(t *testing.T) {
	t.Parallel()
	run := rapid.StringOfN(rapid.RuneFrom([]rune("ab.")), 0, 5, -1)
	parts := rapid.SliceOfN(run, 1, trigger.MaxStars+1)
	rapid.Check(t, func(t *rapid.T) {
		fixed := parts.Draw(t, "parts")
		made := fixed[0]
		for _, part := range fixed[1:] {
			made += run.Draw(t, "star") + part
		}
		pattern, err := trigger.ParsePattern(strings.Join(fixed, "*"))
		if err != nil {
			t.Fatal(err)
		}
		if !pattern.Match(made) {
			t.Fatalf("%q.Match(%q) = false", pattern, made)
		}
	})
}

func FuzzPattern(f *testing.F) {
	f.Add("user.*", "user.created")
	f.Add("*a*a*a*a*", "aaaab")
	f.Add("ab*ba", "aba")
	f.Add(`\*[a-z]?`, "é\xff")
	f.Add("*********", "a")
	f.Fuzz(func(t *testing.T, text, eventType string) {
		pattern, err := trigger.ParsePattern(text)
		valid := len(text) <= 255 && utf8.ValidString(text) && strings.Count(text, "*") <= 8 &&
			!strings.ContainsFunc(text, unicode.IsControl)
		wantValid(t, text, err, valid)
		if err != nil || !utf8.ValidString(eventType) {
			return
		}
		want := text == "" || asRegexp(text).MatchString(eventType)
		if got := pattern.Match(eventType); got != want {
			t.Errorf("%q.Match(%q) = %v, want %v", text, eventType, got, want)
		}
	})
}

// The time must grow with the length of the type, not with a power of it.
func BenchmarkPatternMatch(b *testing.B) {
	tests := []struct{ name, pattern, eventType string }{
		{"usual", "user.*", "user.created"},
		{"255", "*a*a*a*a*", strings.Repeat("a", 254) + "b"},
		{"64Ki", "*a*a*a*a*", strings.Repeat("a", 64<<10-1) + "b"},
		{"64Ki-miss", "*a*a*a*ac", strings.Repeat("a", 64<<10-1) + "b"},
		{"64Ki-late", "*ab*ab*ab*", strings.Repeat("a", 64<<10-1) + "b"},
	}
	for _, tt := range tests {
		pattern, err := trigger.ParsePattern(tt.pattern)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(tt.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				pattern.Match(tt.eventType)
			}
		})
	}
}
