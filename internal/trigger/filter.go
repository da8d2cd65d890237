package trigger

import "strings"

// Filter picks events by their type. `*` stands for any run of characters,
// dots and nothing at all included; every other character stands for itself,
// letters counting as they are. The zero Filter picks everything.
type Filter struct {
	pattern string
	parts   []string // the pattern, cut at its stars
}

// ParseFilter reads a pattern; "" picks everything. Invalid if it is over 255
// bytes, has more than 8 stars, control characters, or is not UTF-8.
func ParseFilter(pattern string) (Filter, error) {
	if pattern == "" {
		return Filter{}, nil
	}
	if err := checkText("event_type_filter", pattern, MaxFilter); err != nil {
		return Filter{}, err
	}
	if strings.Count(pattern, "*") > MaxStars {
		return Filter{}, Errorf(Invalid, "event_type_filter has more than %d stars", MaxStars)
	}
	return StoredFilter(pattern), nil
}

// StoredFilter reads a pattern that ParseFilter has passed once, whatever the
// limits are by now.
func StoredFilter(pattern string) Filter {
	if pattern == "" {
		return Filter{}
	}
	return Filter{pattern: pattern, parts: strings.Split(pattern, "*")}
}

// String is the pattern, "" for everything.
func (f Filter) String() string { return f.pattern }

// Match reports whether the filter picks the type. It takes each part where
// it first occurs and never goes back, so its time is linear.
func (f Filter) Match(eventType string) bool {
	if f.pattern == "" {
		return true
	}
	rest, ok := strings.CutPrefix(eventType, f.parts[0])
	last := len(f.parts) - 1
	if !ok || last == 0 {
		return ok && rest == ""
	}
	for _, part := range f.parts[1:last] {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return strings.HasSuffix(rest, f.parts[last])
}
