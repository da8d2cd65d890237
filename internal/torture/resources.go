package torture

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// warmUpEvents is how many events are posted to each node before its resources
// are measured.
const warmUpEvents = 300

// warmUp makes each node do some work of every kind, with as many clients as
// the run, and notes its resources afterwards.
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
	if len(r.Config.Faults) > 0 { // without faults no event may come twice
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

// How much more a node may use at the end than after the warm-up, because
// connection pools, to the database and to receivers, grow under load.
const (
	moreGoroutines  = 100
	moreDescriptors = 60
	moreConnections = 1
)

// judgeResources waits until each node uses about as much as after the warm-up.
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

// watchHealth requests /livez of each node every 100 ms, and records the times
// except during a pause.
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
