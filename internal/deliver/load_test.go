package deliver

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Claims shrink to a few deliveries where they take long, and grow again.
func TestClaimsShrinkAndGrow(t *testing.T) {
	t.Parallel()
	e := &Engine{}
	due := make([]store.Lane, 100)
	for i := range due {
		due[i].WebhookID = int64(i)
	}
	const lease = 32 * time.Second
	if part, most := e.rotate(due); most != claimRows || len(part) != len(due) {
		t.Errorf("at first %d of %d lanes", len(part), most)
	}
	last := claimRows
	for range 20 {
		e.measureClaim(lease/8+1, lease)
		if _, most := e.rotate(due); most > last || most < claimLeast {
			t.Errorf("%d after %d", most, last)
		} else {
			last = most
		}
	}
	if last >= 2*claimLeast {
		t.Errorf("claims of %d, though they take long", last)
	}
	turns := map[int64]int{} // each lane gets its turn
	for range 2 * len(due) / last {
		part, most := e.rotate(due)
		if len(part) != most {
			t.Fatalf("%d lanes for %d", len(part), most)
		}
		for _, l := range part {
			turns[l.WebhookID]++
		}
	}
	if len(turns) != len(due) {
		t.Errorf("%d of %d lanes had a turn", len(turns), len(due))
	}
	if part, _ := e.rotate(due[:5]); len(part) != 5 {
		t.Errorf("%d of 5 lanes", len(part))
	}
	e.measureClaim(lease/16, lease)
	if _, most := e.rotate(due); most != last {
		t.Errorf("%d after %d, at a speed that is right", most, last)
	}
	for range 20 {
		e.measureClaim(lease/32-1, lease)
	}
	if part, most := e.rotate(due); most != claimRows || len(part) != len(due) {
		t.Errorf("at last %d of %d lanes", len(part), most)
	}
}

// parted is a store that reads a number of events, and then no more, by the
// contract of Store.EventsOf: it is full, or fails with the call after those.
type parted struct {
	Store
	read     int // events until it fails, or is full
	fails    error
	asked    []int
	released []trigger.Delivery
}

func (p *parted) EventsOf(_ context.Context, ds []trigger.Delivery, maxBytes int) (map[trigger.ID]*trigger.Event, []trigger.Delivery, error) {
	p.asked = append(p.asked, len(ds))
	n := min(len(ds), p.read)
	if n == 0 && p.fails != nil {
		return nil, nil, p.fails
	}
	p.read -= n
	found := map[trigger.ID]*trigger.Event{}
	for _, d := range ds[:n] {
		if d.EventID[15]%10 != 3 { // those are gone
			found[d.EventID] = &trigger.Event{ID: d.EventID}
		}
	}
	if n > 0 && n < len(ds) && p.fails == nil {
		found[ds[n-1].EventID].Payload = make([]byte, maxBytes)
	}
	return found, ds[n:], nil
}

func (p *parted) Release(_ context.Context, ds []trigger.Delivery) error {
	p.released = append(p.released, ds...)
	return nil
}

// What was claimed is handed out as it is read, each with its own event, and
// what cannot be read is given back: nothing is lost, and nothing is both.
func TestLoad(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	taken := make([]trigger.Delivery, 200)
	for i := range taken {
		taken[i].EventID = trigger.ID{14: byte(i / 100), 15: byte(i % 100)}
		taken[i].WebhookID = int64(i)
	}
	for _, c := range []struct {
		read  int
		fails error
		calls int
	}{{200, nil, 4}, {1000, nil, 4}, {0, nil, 1}, {0, broken, 1}, {64, broken, 2}, {100, nil, 2}, {100, broken, 3}, {199, nil, 4}} {
		p := &parted{read: c.read, fails: c.fails}
		e := &Engine{Config: Config{Store: p, Timeout: time.Minute}, of: map[int64]load{}, total: load{bytes: maxItemBytes}}
		var got []trigger.Delivery
		err := e.load(t.Context(), slices.Clone(taken), func(d trigger.Delivery, event *trigger.Event) {
			if gone := d.EventID[15]%10 == 3; gone != (event == nil) || event != nil && event.ID != d.EventID {
				t.Errorf("%+v with event %v", d, event)
			}
			if len(p.asked) != len(got)/loadStep+1 {
				t.Errorf("delivery %d was handed out after %d readings", len(got), len(p.asked))
			}
			got = append(got, d)
		})
		if !errors.Is(err, c.fails) || len(p.asked) != c.calls || slices.Max(p.asked) > loadStep {
			t.Errorf("%+v: %v after readings of %v", c, err, p.asked)
		}
		if n := min(c.read, len(taken)); !slices.Equal(got, taken[:n]) || !slices.Equal(p.released, taken[n:]) {
			t.Errorf("%+v: %d handed out and %d given back of %d", c, len(got), len(p.released), len(taken))
		}
	}
}
