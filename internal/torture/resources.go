package torture

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// warmUpEvents are posted to each node before its resources are measured.
const warmUpEvents = 300

// warmUp has each node do a little of everything, with as many clients as
// there will be, and notes what it holds then.
func (r *run) warmUp(ctx context.Context) error {
	calm := r.receiver.calmDown()
	group, _ := errgroup.WithContext(ctx)
	for i := range r.Clients {
		random := rand.New(rand.NewPCG(r.Seed, uint64(i)))
		group.Go(func() error {
			for range warmUpEvents * len(r.nodes) / r.Clients {
				e, err := r.client.newEvent(ctx, random)
				if err != nil {
					return err
				}
				r.client.insist(ctx, e, random)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if len(r.Config.Faults) > 0 { // without faults nothing may come twice
		calm()
	}
	for _, n := range r.nodes {
		var err error
		if n.base, err = n.resources(ctx); err != nil {
			return err
		}
	}
	return nil
}

// How much more than after the warm-up a node may hold at the end: connection
// pools, of the database's and the receiver's, fill under load.
const (
	moreGoroutines  = 100
	moreDescriptors = 60
	moreConnections = 1
)

// judgeResources waits until each node holds about what it did at the start.
func (r *run) judgeResources(ctx context.Context) {
	r.client.http.CloseIdleConnections()
	for _, n := range r.nodes {
		var got resources
		err := until(ctx, startPatience, "", func(ctx context.Context) bool {
			r.receiver.rest()
			var err error
			got, err = n.resources(ctx)
			return err == nil && got.goroutines <= n.base.goroutines+moreGoroutines &&
				got.descriptors <= n.base.descriptors+moreDescriptors && got.connections <= moreConnections
		})
		if err != nil {
			r.report.breach(leaks, "node %d holds %+v, after the warm-up it was %+v", n.n, got, n.base)
		}
	}
}

// watchHealth asks each node every 100 ms whether it lives, and keeps how long
// that takes while there is no reason not to answer.
func (r *run) watchHealth(ctx context.Context) error {
	var took []time.Duration
	for pause(ctx, 100*time.Millisecond) == nil {
		for _, n := range r.nodes {
			begun := r.Now()
			if n.get(ctx, "/livez") != 0 && !r.windows.last(faultPause) {
				took = append(took, r.Now().Sub(begun))
			}
		}
	}
	slices.Sort(took)
	r.report.Health = percentile(took, 99)
	return nil
}
