package trigger

import "strings"

// Pattern picks events by their type. `*` stands for any run of characters,
// dots and nothing at all included; every other character stands for itself,
// letters counting as they are. The zero Pattern picks everything.
type Pattern struct {
	pattern string
	parts   []string // the pattern, cut at its stars
}

// ParsePattern reads a pattern; "" picks everything. Invalid if it is over 255
// bytes, has more than 8 stars, control characters, or is not UTF-8.
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

// StoredPattern reads a pattern that ParsePattern has passed once, whatever the
// limits are by now.
func StoredPattern(pattern string) Pattern {
	if pattern == "" {
		return Pattern{}
	}
	return Pattern{pattern: pattern, parts: strings.Split(pattern, "*")}
}

// String is the pattern, "" for everything.
func (p Pattern) String() string { return p.pattern }

// Match reports whether the pattern picks the type. It takes each part where
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
