package deliver

import "time"

// Bounds of how many attempts at a time one webhook gets.
const (
	firstWorkers = 4  // at first
	concurrency  = 16 // at most, where its owner has not said otherwise
)

// A receiver slows down when its attempts take slowFactor times as long as
// they used to, and slowFloor longer.
const (
	slowFactor = 2
	slowFloor  = 20 * time.Millisecond
)

// aimd finds how many attempts at a time a receiver bears: more by each
// success, half as many when it is strained, fewer when it becomes slower
// (additive increase, multiplicative decrease). It begins with firstWorkers
// and doubles until it is cut for the first time.
type aimd struct {
	limit   float64       // attempts at a time
	most    int           // as its owner wants it, or concurrency
	cut     bool          // it was cut before: grow slowly
	quiet   int           // results to pass over after a cut: they began before it
	took    time.Duration // a moving average; 0: none yet
	slowest time.Duration // of late: it comes down slowly
	usual   time.Duration // the same over a long time, and never over it for long
}

func newAIMD() aimd { return aimd{limit: firstWorkers, most: concurrency} }

// workers is how many attempts may run.
func (p *aimd) workers() int { return max(1, min(int(p.limit), p.most)) }

// pressure is why a receiver is to get fewer attempts at a time.
type pressure int

const (
	noPressure  pressure = iota
	noAnswer             // no fewer than firstWorkers: it may be the fault of the events
	asksForLess          // down to one
)

// note takes how long an attempt took, and whether the receiver is to get fewer
// at a time for it; ok says that it succeeded.
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

// restart is for a receiver that may be back after an outage: so many attempts
// at a time.
func (p *aimd) restart(workers int) { p.limit, p.quiet = float64(workers), 0 }

// A breaker opens when this many attempts have strained the receiver without
// an event that got through in between, a timeout counting twice. Where there
// were connections, the events themselves may be at fault: then it stays closed
// while another event got through in the last throughWindow, or in two timeouts
// if that is longer.
const (
	tripAt        = 10
	throughWindow = 10 * time.Second
)

// For how long a breaker is open, first and at most. Each failed probe doubles
// it. Where there is a connection, a probe of another event is worth more.
const (
	firstOpen    = time.Second
	maxOpen      = time.Minute
	maxConnected = 15 * time.Second
)

// openFor is for how long a breaker is open that has opened n times before, at
// most the given time. random, from -1 to 1, spreads it.
func openFor(n int, most time.Duration, random float64) time.Duration {
	hold := most
	if n < 20 {
		hold = min(firstOpen<<n, most)
	}
	return hold + time.Duration(float64(hold)*0.2*random)
}
