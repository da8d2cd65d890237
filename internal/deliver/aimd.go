package deliver

import "time"

// Bounds of the attempts at a time of one webhook.
const (
	firstWorkers = 4  // at first
	concurrency  = 16 // at most, unless its owner has set another bound
)

// A receiver is slower if its attempts take slowFactor times their usual time
// plus slowFloor.
const (
	slowFactor = 2
	slowFloor  = 20 * time.Millisecond
)

// aimd finds how many attempts at a time a receiver can take: more after each
// success, half as many under strain, fewer if it becomes slower (additive
// increase, multiplicative decrease). It begins with firstWorkers and doubles
// until the first cut.
type aimd struct {
	limit   float64       // attempts at a time
	most    int           // set by its owner, or concurrency
	cut     bool          // after the first cut it grows slowly
	quiet   int           // results to ignore after a cut, because they began before it
	took    time.Duration // a moving average; 0: no attempt yet
	slowest time.Duration // the recent maximum; it decreases slowly
	usual   time.Duration // a long-term average of took; it falls with took at once
}

func newAIMD() aimd { return aimd{limit: firstWorkers, most: concurrency} }

// workers returns how many attempts may run.
func (p *aimd) workers() int { return max(1, min(int(p.limit), p.most)) }

// pressure is why a receiver must get fewer attempts at a time.
type pressure int

const (
	noPressure  pressure = iota
	noAnswer             // down to firstWorkers, because the events may be at fault
	asksForLess          // down to one
)

// note records how long an attempt took, whether it succeeded, and why the
// receiver must get fewer attempts at a time, if it must.
func (p *aimd) note(took time.Duration, ok bool, why pressure) {
	if p.took == 0 {
		p.took, p.usual = took, took
	}
	p.took += (took - p.took) / 8
	p.slowest = max(took, p.slowest+(took-p.slowest)/32)
	if p.usual = min(p.usual, p.took); p.took > p.usual {
		p.usual += (p.took - p.usual) / 256
	}
	switch {
	case p.quiet > 0:
		p.quiet--
	case why == asksForLess, why == noAnswer && p.workers() > firstWorkers:
		p.slow(0.5)
	case p.workers() > firstWorkers && p.took > slowFactor*p.usual+slowFloor:
		p.slow(0.8)
	case ok && p.cut:
		p.limit = min(p.limit+1/p.limit, float64(p.most))
	case ok:
		p.limit = min(p.limit+1, float64(p.most))
	}
}

func (p *aimd) slow(factor float64) {
	p.quiet = p.workers() - 1
	p.limit = max(1, min(p.limit, float64(p.most))*factor)
	p.cut = true
}

// restart sets the attempts at a time of a receiver that may be back after an
// outage.
func (p *aimd) restart(workers int) { p.limit, p.quiet = float64(workers), 0 }

// A breaker opens after tripAt attempts that have strained the receiver,
// without one that got through in between. A timeout counts twice. If there
// were connections, the events themselves may be at fault. Then it stays closed
// while another event got through in the last throughWindow, or in two timeouts
// if that is longer.
const (
	tripAt        = 10
	throughWindow = 10 * time.Second
)

// How long a breaker is open, first and at most. Each failed probe doubles it.
// If there is a connection, the bound is lower, because a probe with another
// event may succeed.
const (
	firstOpen    = time.Second
	maxOpen      = time.Minute
	maxConnected = 15 * time.Second
)

// openFor returns how long a breaker is open that has opened n times before, at
// most the given time. random, from -1 to 1, spreads it.
func openFor(n int, most time.Duration, random float64) time.Duration {
	hold := most
	if n < 20 {
		hold = min(firstOpen<<n, most)
	}
	return hold + time.Duration(float64(hold)*0.2*random)
}
