package trigger

// contentSet compares a payload with the conditions of many webhooks. It reads the
// payload once for all of them. It is never written after newContentSet.
type contentSet struct {
	nodes   []pathNode // of all conditions; 0 is the whole payload
	members []setMember
	values  []int // the nodes whose values the conditions use
	size    int   // bytes of all conditions, always more than 0
}

// setMember is one condition of a set.
type setMember struct {
	content *Content
	paths   []int // by the condition's own paths: indexes of contentSet.values
}

// newContentSet makes a set of the conditions of webhooks, in their order; nil
// where a webhook has none. It returns nil if no webhook has one.
func newContentSet(webhooks []Webhook) *contentSet {
	s := &contentSet{nodes: []pathNode{{parent: -1}}, members: make([]setMember, len(webhooks))}
	valueOf := map[int]int{} // by node
	for i := range webhooks {
		c := webhooks[i].Filter.Content
		if c == nil {
			continue
		}
		s.size += len(c.raw)
		nodes := s.addNodes(c)
		paths := make([]int, len(c.paths))
		for n, node := range c.paths {
			at, ok := valueOf[nodes[node]]
			if !ok {
				at = len(s.values)
				valueOf[nodes[node]] = at
				s.values = append(s.values, nodes[node])
			}
			paths[n] = at
		}
		s.members[i] = setMember{c, paths}
	}
	if s.size == 0 {
		return nil
	}
	return s
}

// addNodes adds the nodes of a condition that are missing, and returns the set's
// node for each of them.
func (s *contentSet) addNodes(c *Content) []int {
	nodes := make([]int, len(c.nodes))
	for node := range c.nodes { // a node comes after its parent
		for token, below := range c.nodes[node].members {
			nodes[below] = childOf(&s.nodes, nodes[node], token)
		}
	}
	return nodes
}

// find returns the values of all paths in a payload. ok is false if that panics,
// which is a fault of this program: then every condition is met.
func (s *contentSet) find(payload []byte) (values []jsonValue, ok bool) {
	defer func() {
		if recover() != nil {
			values, ok = nil, false
		}
	}()
	return findValues(s.nodes, s.values, payload), true
}

// met reports whether the condition of a webhook, by its index, is met by values
// that find has returned. A condition that panics, a fault of this program, is
// met: the event is then delivered once too often instead of not at all.
func (s *contentSet) met(webhook int, values []jsonValue) (ok bool) {
	m := &s.members[webhook]
	if m.content == nil {
		return true
	}
	defer func() {
		if recover() != nil {
			ok = true
		}
	}()
	own := make([]jsonValue, len(m.paths))
	for i, at := range m.paths {
		own[i] = values[at]
	}
	_, ok = m.content.root.judge(own)
	return ok
}
