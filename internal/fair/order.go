package fair

import "container/heap"

// account is the account of an organization.
type account struct {
	id      int64
	time    int64 // virtual
	working int
	waiting []chan struct{} // closed when the turn begins
	at      [orders]int     // index in each order, -1 if not in it
}

func (a *account) isIdle() bool { return a.working == 0 && len(a.waiting) == 0 }

// The orders that an account may be in.
const (
	inBusy = iota
	inReady
	inIdle
	orders // the number of orders
)

// order is a heap of accounts, the one that has worked least first.
type order struct {
	kind int
	list []*account
}

// first returns the account that has worked least, or nil.
func (o *order) first() *account {
	if len(o.list) == 0 {
		return nil
	}
	return o.list[0]
}

// set adds an account to the order, updates its position, or removes it.
func (o *order) set(a *account, in bool) {
	switch at := a.at[o.kind]; {
	case in && at < 0:
		heap.Push(o, a)
	case in:
		heap.Fix(o, at)
	case at >= 0:
		heap.Remove(o, at)
	}
}

// Len, Less, Swap, Push and Pop implement [heap.Interface].
func (o *order) Len() int { return len(o.list) }

func (o *order) Less(i, j int) bool { return o.list[i].time < o.list[j].time }

func (o *order) Swap(i, j int) {
	o.list[i], o.list[j] = o.list[j], o.list[i]
	o.list[i].at[o.kind], o.list[j].at[o.kind] = i, j
}

func (o *order) Push(x any) {
	a := x.(*account)
	a.at[o.kind] = len(o.list)
	o.list = append(o.list, a)
}

func (o *order) Pop() any {
	last := len(o.list) - 1
	a := o.list[last]
	a.at[o.kind] = -1
	o.list[last] = nil
	o.list = o.list[:last]
	return a
}
