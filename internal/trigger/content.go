package trigger

// Limits of a condition on payloads.
const (
	MaxContent       = 4096 // bytes of its text
	MaxContentDepth  = 8    // conditions in each other, the outermost counted
	MaxContentLeaves = 64   // conditions with a path
	MaxContentPath   = 255  // bytes of one path, after JSON's escapes
	MaxContentValues = 100  // values of one any_of or anything_but
)

// Content is a condition on an event's payload, written in JSON:
//
//	condition = {"all": [condition, …]}     every one is met; one or more
//	          | {"any": [condition, …]}     one of them is met; one or more
//	          | {"not": condition}          it is not met
//	          | {"path": pointer, operator, …}   every operator is met; one or more
//
//	operator  = "equals": scalar            the value is this
//	          | "any_of": [scalar, …]       … is one of these; 1 to 100
//	          | "anything_but": scalar or [scalar, …]   … is there, and none of these
//	          | "prefix": string            … is a string that begins with this
//	          | "exists": true or false     there is a value, or is none
//	          | "numeric": {bound, …}       … is a number within the bounds; one or two
//	bound     = "gt": number | "gte": number | "lt": number | "lte": number
//	scalar    = string | number | true | false | null
//
// The pointer is a JSON Pointer (RFC 6901): "" is the whole payload, "/a/0" the
// first element of the array a, or the member "0" of the object a.
// Where the pointer leads to nothing, "exists": false is met and no other
// operator; so {"path": p, "anything_but": x} is met only by a value that is
// there, and {"not": {"path": p, "equals": x}} by none as well. null is a value.
//
// Arrays and objects are no scalars: they exist and are anything but a scalar,
// and meet no other operator. No operator looks into their elements.
//
// Numbers are compared by their exact decimal value, whatever their size or
// spelling: 1, 1.0 and 10e-1 are one number, and -0 is 0. Strings and member
// names are compared after JSON's escapes, code point by code point, without
// any normalization. A string of the payload that is no Unicode text, for a
// lone surrogate ("\ud800") or since it is not UTF-8, equals no string and
// begins with none; a member of such a name is reached by no path. Where an
// object has members of one name, the last one counts.
//
// At most one lower bound (gt, gte) and one upper bound (lt, lte) stand in a
// numeric. Only [ParseContent] makes a Content; it is never written afterwards
// and may be used from many goroutines.
type Content struct {
	raw   []byte
	root  clause
	nodes []pathNode // 0 is the whole payload
	paths []int      // the nodes that leaves ask for
}

// The kinds of clauses.
const (
	clauseAll  = "all"
	clauseAny  = "any"
	clauseNot  = "not"
	clausePath = "path"
)

// clause is one condition.
type clause struct {
	kind      string
	at        string     // where it is: a JSON Pointer to its all, any or not
	of        []clause   // all, any, not
	path      int        // in Content.paths
	operators []operator // path: as they were written
}

// The names of operators; those of bounds are operators here, too.
const (
	opEquals      = "equals"
	opAnyOf       = "any_of"
	opAnythingBut = "anything_but"
	opPrefix      = "prefix"
	opExists      = "exists"
	opNumeric     = "numeric"
	opGT          = "gt"
	opGTE         = "gte"
	opLT          = "lt"
	opLTE         = "lte"
)

// operator is one demand on a value.
type operator struct {
	name     string // not opNumeric
	at       string // where it is: a JSON Pointer
	operands []jsonValue
}

// Raw is the condition as it was written, nil for none. The caller must not
// change it.
func (c *Content) Raw() []byte {
	if c == nil {
		return nil
	}
	return c.raw
}

// Match reports whether a payload meets the condition; nil is met by all. Its
// time is linear in the payload, which it reads once, plus the condition. The
// payload must be valid JSON: of what is not, the verdict means nothing, but
// takes no longer.
func (c *Content) Match(payload []byte) bool {
	_, ok := c.Explain(payload)
	return ok
}

// Explain is Match, and names the clause for which the payload does not meet
// the condition: the first one, in the order they were written, as a JSON
// Pointer into the condition. It leads to the operator of a path
// ("/all/1/numeric"), to an any of which nothing is met ("/any"), or to a not
// of which the condition is met ("/not"). "" if the condition is met.
func (c *Content) Explain(payload []byte) (clause string, ok bool) {
	if c == nil {
		return "", true
	}
	return c.root.judge(c.find(payload))
}

// judge gives the verdict on the values of the paths, and where the fault is.
func (c *clause) judge(values []jsonValue) (at string, ok bool) {
	switch c.kind {
	case clausePath:
		for i := range c.operators {
			if o := &c.operators[i]; !o.met(&values[c.path]) {
				return o.at, false
			}
		}
		return "", true
	case clauseAny:
		for i := range c.of {
			if _, ok := c.of[i].judge(values); ok {
				return "", true
			}
		}
		return c.at, false
	case clauseNot:
		if _, ok := c.of[0].judge(values); ok {
			return c.at, false
		}
		return "", true
	}
	for i := range c.of {
		if at, ok := c.of[i].judge(values); !ok {
			return at, false
		}
	}
	return "", true
}

// met reports whether the value is as the operator demands.
func (o *operator) met(v *jsonValue) bool {
	switch o.name {
	case opExists:
		return (v.kind != kindAbsent) == (o.operands[0].kind == kindTrue)
	case opEquals, opAnyOf:
		return v.isOneOf(o.operands)
	case opAnythingBut:
		return v.kind != kindAbsent && !v.isOneOf(o.operands)
	case opPrefix:
		if v.kind != kindString {
			return false
		}
		_, ok := v.cutPrefix(o.operands[0].text)
		return ok
	}
	if v.kind != kindNumber {
		return false
	}
	switch sign := v.number.compare(&o.operands[0].number); o.name {
	case opGT:
		return sign > 0
	case opGTE:
		return sign >= 0
	case opLT:
		return sign < 0
	default:
		return sign <= 0
	}
}
