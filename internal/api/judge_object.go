package api

import (
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// object checks an object.
func (j *judge) object(s *jsonschema.Schema, v map[string]any, out *looked) bool {
	ok := j.count(len(v), s.MinProperties, s.MaxProperties, "members")
	if ok || j.loud {
		ok = j.required(v, s.Required) && ok
	}
	if ok || j.loud {
		ok = j.members(s, v, out) && ok
	}
	if ok || j.loud {
		ok = j.names(s, v) && ok
	}
	if ok || j.loud {
		ok = j.dependencies(s, v, out) && ok
	}
	return ok
}

// count checks a number of items against its bounds.
func (j *judge) count(n int, least, most *int, what string) bool {
	ok := true
	if least != nil && n < *least {
		ok = j.fail("must have at least " + strconv.Itoa(*least) + " " + what)
	}
	if most != nil && n > *most {
		ok = j.fail("must have at most " + strconv.Itoa(*most) + " " + what)
	}
	return ok
}

// names checks the names of the members.
func (j *judge) names(s *jsonschema.Schema, v map[string]any) bool {
	if s.PropertyNames == nil {
		return true
	}
	ok := true
	j.left -= len(v) / 2
	for name := range each(v, j.loud) {
		if !j.quietly(s.PropertyNames, name, nil) {
			ok = j.failAt(name, "has a name that propertyNames does not allow")
		}
		if !ok && !j.loud || j.over() {
			break
		}
	}
	return ok
}

func (j *judge) required(v map[string]any, names []string) bool {
	ok := true
	j.left -= len(names) / 4
	for _, name := range names {
		if _, there := v[name]; there {
			continue
		}
		if ok = j.failAt(name, "is missing"); !j.loud {
			break
		}
	}
	return ok
}

// members checks the members by properties, patternProperties and
// additionalProperties.
func (j *judge) members(s *jsonschema.Schema, v map[string]any, out *looked) bool {
	if len(s.Properties) == 0 && len(s.PatternProperties) == 0 && s.AdditionalProperties == nil {
		return true
	}
	if s.AdditionalProperties != nil && out != nil {
		out.allProps = true
	}
	ok := true
	j.left -= len(v) / 2
	for name, value := range each(v, j.loud) {
		ok = j.member(s, name, value, out) && ok
		if !ok && !j.loud || j.over() {
			return false
		}
	}
	return ok
}

func (j *judge) member(s *jsonschema.Schema, name string, value any, out *looked) bool {
	sub, known := s.Properties[name]
	ok := !known || j.within(sub, value, name)
	for re, sub := range s.PatternProperties {
		if j.left--; !ok && !j.loud {
			return false
		}
		if j.matches(re, name) {
			known = true
			ok = j.within(sub, value, name) && ok
		}
	}
	if known {
		out.prop(name)
		return ok
	}
	switch additional := s.AdditionalProperties.(type) {
	case bool:
		return additional || j.failAt(name, "is not allowed")
	case *jsonschema.Schema:
		return j.within(additional, value, name)
	}
	return true
}

// dependencies checks what depends on the presence of members.
func (j *judge) dependencies(s *jsonschema.Schema, v map[string]any, out *looked) bool {
	ok := true
	j.left -= (len(s.DependentRequired) + len(s.DependentSchemas) + len(s.Dependencies)) / 2
	must := func(name string, names []string, sub *jsonschema.Schema) {
		if _, there := v[name]; !there || !ok && !j.loud {
			return
		}
		ok = j.required(v, names) && ok
		if sub != nil {
			ok = j.check(sub, v, out) && ok
		}
	}
	for name, names := range each(s.DependentRequired, j.loud) {
		must(name, names, nil)
	}
	for name, sub := range each(s.DependentSchemas, j.loud) {
		must(name, nil, sub)
	}
	for name, dependency := range each(s.Dependencies, j.loud) { // of older drafts, which the library still reads
		switch dependency := dependency.(type) {
		case []string:
			must(name, dependency, nil)
		case *jsonschema.Schema:
			must(name, nil, dependency)
		}
	}
	return ok
}
