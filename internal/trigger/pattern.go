package trigger

import "strings"

// Pattern selects events by their type. `*` matches any run of characters, also
// an empty one or one with dots. Every other character matches itself, and case
// matters. The zero Pattern matches every type.
type Pattern struct {
	pattern string
	parts   []string // the pattern, cut at its stars
}

// ParsePattern reads a pattern; "" matches every type. The error is Invalid if
// it is over 255 bytes, has more than 8 stars or control characters, or is not
// UTF-8.
func ParsePattern(pattern string) (Pattern, error) {
	if pattern == "" {
		return Pattern{}, nil
	}
	if err := checkText("event_type_filter", pattern, MaxFilter); err != nil {
		return Pattern{}, err
	}
	if stars := strings.Count(pattern, "*"); stars > MaxStars {
		return Pattern{}, Errorf(Invalid, "event_type_filter must have at most %d stars; got %d", MaxStars, stars)
	}
	return StoredPattern(pattern), nil
}

// StoredPattern reads a pattern that ParsePattern accepted once, even if the
// limits have changed since.
func StoredPattern(pattern string) Pattern {
	if pattern == "" {
		return Pattern{}
	}
	return Pattern{pattern: pattern, parts: strings.Split(pattern, "*")}
}

// String returns the pattern; "" matches every type.
func (p Pattern) String() string { return p.pattern }

// Match reports whether the pattern matches the type. It takes each part where
// it first occurs and never goes back, so its time is linear.
func (p Pattern) Match(eventType string) bool {
	if p.pattern == "" {
		return true
	}
	rest, ok := strings.CutPrefix(eventType, p.parts[0])
	last := len(p.parts) - 1
	if !ok || last == 0 {
		return ok && rest == ""
	}
	for _, part := range p.parts[1:last] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, p.parts[last])
}
