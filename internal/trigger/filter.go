package trigger

// Filter selects events for a webhook by type and payload: one of the patterns
// and the condition must match. The zero Filter selects all events.
type Filter struct {
	Types   []Pattern // empty: every type
	Content *Content  // nil: every payload
}

// ParseFilter reads patterns of types, without those that are "", and a
// condition on the payload, which may be empty. The error is Invalid if one of
// them is not valid or there are more than 20 patterns.
func ParseFilter(types []string, content []byte) (f Filter, err error) {
	if len(types) > MaxPatterns {
		return f, Errorf(Invalid, "a filter must have at most %d patterns; got %d", MaxPatterns, len(types))
	}
	for _, text := range types {
		p, err := ParsePattern(text)
		if err != nil {
			return Filter{}, err
		}
		if text != "" {
			f.Types = append(f.Types, p)
		}
	}
	if len(content) > 0 {
		if f.Content, err = ParseContent(content); err != nil {
			return Filter{}, err
		}
	}
	return f, nil
}

// Match reports whether the filter selects an event of this type and payload.
func (f *Filter) Match(eventType string, payload []byte) bool {
	return f.matchType(eventType) && f.matchContent(payload)
}

// matchContent reports true if the condition panics because of a bug: a webhook
// gets an event too many rather than too few, and other events are not affected.
func (f *Filter) matchContent(payload []byte) (ok bool) {
	if f.Content == nil {
		return true
	}
	defer func() {
		if recover() != nil {
			ok = true
		}
	}()
	return f.Content.Match(payload)
}

// Miss returns the clause that does not match an event: "types", or "content"
// and a JSON Pointer into the condition. It returns "" if all match.
func (f *Filter) Miss(eventType string, payload []byte) string {
	if !f.matchType(eventType) {
		return "types"
	}
	if at, ok := f.Content.Explain(payload); !ok {
		return "content " + at
	}
	return ""
}

func (f *Filter) matchType(eventType string) bool {
	for _, p := range f.Types {
		if p.Match(eventType) {
			return true
		}
	}
	return len(f.Types) == 0
}

// Names reports whether one of the patterns matches the type and does not begin
// with a star. A pattern such as * does not select operational events.
func (f *Filter) Names(eventType string) bool {
	for _, p := range f.Types {
		if p.pattern != "" && p.pattern[0] != '*' && p.Match(eventType) {
			return true
		}
	}
	return false
}

// TypeStrings returns the patterns as text.
func (f *Filter) TypeStrings() []string {
	texts := make([]string, len(f.Types))
	for i, p := range f.Types {
		texts[i] = p.String()
	}
	return texts
}
