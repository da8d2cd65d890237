package trigger

// Limits of a condition on payloads.
const (
	MaxContent       = 4096 // bytes of its text
	MaxContentDepth  = 8    // nested conditions, including the outermost
	MaxContentLeaves = 64   // conditions with a path
	MaxContentPath   = 255  // bytes of one path, after JSON's escapes
	MaxContentValues = 100  // values of one any_of or anything_but
)

// Content is a condition on an event's payload, written in JSON:
//
//	condition = {"all": [condition, …]}     every condition is met; one or more
//	          | {"any": [condition, …]}     a condition is met; one or more
//	          | {"not": condition}          the condition is not met
//	          | {"path": pointer, operator, …}   every operator is met; one or more
//
//	operator  = "equals": scalar            the value equals the scalar
//	          | "any_of": [scalar, …]       … equals one of the scalars; 1 to 100
//	          | "anything_but": scalar or [scalar, …]   … exists and equals no scalar
//	          | "prefix": string            … is a string that begins with this
//	          | "exists": true or false     the value exists, or does not
//	          | "numeric": {bound, …}       … is a number within the bounds; one or two
//	bound     = "gt": number | "gte": number | "lt": number | "lte": number
//	scalar    = string | number | true | false | null
//
// The pointer is a JSON Pointer (RFC 6901): "" is the whole payload, "/a/0" the
// first element of the array a, or the member "0" of the object a.
// If the value does not exist, only "exists": false is met. For example,
// {"path": p, "anything_but": x} is met only if the value exists, and
// {"not": {"path": p, "equals": x}} also if it does not. null is a value.
//
// Arrays and objects are not scalars: they meet only "exists": true and
// "anything_but". Operators ignore their elements.
//
// Numbers are compared by their exact decimal value: 1, 1.0 and 10e-1 are equal,
// and -0 is 0. Strings and member names are compared after JSON's escapes, code
// point by code point, without normalization. A string of the payload with a
// lone surrogate ("\ud800"), or that is not UTF-8, meets neither "equals" nor
// "prefix", and a path never leads to a member of such a name. If an object has
// members of one name, the last one counts.
//
// A numeric has at most one lower bound (gt, gte) and one upper bound (lt, lte).
// Only [ParseContent] returns a Content. It is never changed afterwards and is
// safe for concurrent use.
type Content struct {
	raw   []byte
	root  clause
	nodes []pathNode // 0 is the whole payload
	paths []int      // the nodes that leaves need
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

// The names of operators. Bounds are operators here, too.
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

// operator is one requirement of a value.
type operator struct {
	name     string // not opNumeric
	at       string // where it is: a JSON Pointer
	operands []jsonValue
}

// Raw returns the text of the condition, nil for a nil Content. The caller must
// not change it.
func (c *Content) Raw() []byte {
	if c == nil {
		return nil
	}
	return c.raw
}

// Match reports whether a payload meets the condition. Every payload meets nil.
// Its time is linear in the payload, which it reads once, plus the condition.
// The payload must be valid JSON; otherwise the result is undefined, but takes
// no longer.
func (c *Content) Match(payload []byte) bool {
	_, ok := c.Explain(payload)
	return ok
}

// Explain is Match and returns the first clause, in the order of the text, that
// the payload does not meet, as a JSON Pointer into the condition: to an operator
// of a path ("/all/1/numeric"), to an any without a condition that is met
// ("/any"), or to a not whose condition is met ("/not"). It returns "" if the
// payload meets the condition.
func (c *Content) Explain(payload []byte) (clause string, ok bool) {
	if c == nil {
		return "", true
	}
	return c.root.judge(c.find(payload))
}

// judge reports whether the values of the paths meet the clause, and where not.
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

// met reports whether the value meets the operator.
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
