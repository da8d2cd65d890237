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

// pace finds how many attempts at a time a receiver bears: more by each
// success, half as many when it is strained, fewer when it becomes slower
// (additive increase, multiplicative decrease). It begins with firstWorkers
// and doubles until it is cut for the first time.
type pace struct {
	limit float64       // attempts at a time
	most  int           // as its owner wants it, or concurrency
	cut   bool          // it was cut before: grow slowly
	quiet int           // results to pass over after a cut: they began before it
	took  time.Duration // a moving average; 0: none yet
	usual time.Duration // the same over a long time, and never over it for long
}

func newPace() pace { return pace{limit: firstWorkers, most: concurrency} }

// workers is how many attempts may run.
func (p *pace) workers() int { return max(1, min(int(p.limit), p.most)) }

// note takes how long an attempt took, and whether it strained the receiver;
// ok says that it succeeded.
func (p *pace) note(took time.Duration, ok, strained bool) {
	if p.took == 0 {
		p.took, p.usual = took, took
	}
	p.took += (took - p.took) / 8
	if p.usual = min(p.usual, p.took); p.took > p.usual {
		p.usual += (p.took - p.usual) / 256
	}
	switch {
	case p.quiet > 0:
		p.quiet--
	case strained:
		p.slow(0.5)
	case p.workers() > firstWorkers && p.took > slowFactor*p.usual+slowFloor:
		p.slow(0.8)
	case ok && p.cut:
		p.limit = min(p.limit+1/p.limit, float64(p.most))
	case ok:
		p.limit = min(p.limit+1, float64(p.most))
	}
}

func (p *pace) slow(factor float64) {
	p.quiet = p.workers() - 1
	p.limit = max(1, min(p.limit, float64(p.most))*factor)
	p.cut = true
}

// restart is for a receiver that is back after an outage.
func (p *pace) restart() { p.limit, p.quiet = 1, 0 }

// A breaker opens when this much has gone wrong without a success in between,
// a timeout counting twice; and for how long, first and at most. Each failed
// probe doubles it.
const (
	tripAt    = 10
	firstHold = time.Second
	maxHold   = time.Minute
)

// holdFor is for how long a breaker is open that has opened n times before.
// random, from -1 to 1, spreads it.
func holdFor(n int, random float64) time.Duration {
	hold := maxHold
	if n < 20 {
		hold = min(firstHold<<n, maxHold)
	}
	return hold + time.Duration(float64(hold)*0.2*random)
}
