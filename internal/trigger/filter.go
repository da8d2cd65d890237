package trigger

// Filter picks events for a webhook: by their type, where one of the patterns
// must match, and by their payload. The zero Filter picks everything.
type Filter struct {
	Types   []Pattern // none: every type
	Content *Content  // nil: every payload
}

// ParseFilter reads a filter as its owner writes it: patterns of types, of
// which "" is left out, and a condition on the payload, none if it is empty.
// Invalid if one of them is, or there are more than 20 patterns.
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

// Match reports whether the filter picks an event of this type and payload.
func (f *Filter) Match(eventType string, payload []byte) bool {
	return f.matchType(eventType) && f.matchContent(payload)
}

// matchContent takes a condition that panics, a fault of ours, for one that is
// met: the event is then one too many, rather than one too few, and nobody
// else's event suffers.
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

// Miss names the clause for which the filter does not pick an event: "types",
// or "content" and a JSON Pointer into the condition. "" if it does.
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

// Names reports whether one of the patterns names the type: matches it, and
// does not begin with a star. Whoever asks for everything has not asked for
// what the server says about itself.
func (f *Filter) Names(eventType string) bool {
	for _, p := range f.Types {
		if p.pattern != "" && p.pattern[0] != '*' && p.Match(eventType) {
			return true
		}
	}
	return false
}

// TypeStrings are the patterns as they are written.
func (f *Filter) TypeStrings() []string {
	texts := make([]string, len(f.Types))
	for i, p := range f.Types {
		texts[i] = p.String()
	}
	return texts
}
