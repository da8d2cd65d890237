package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/internal/ingest"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/telemetry"
	"triggerd/internal/trigger"
)

// said is a verdict in a word.
func said(v ingest.Verdict) string {
	switch {
	case v.Err != nil && trigger.KindOf(v.Err) == trigger.Invalid:
		return "invalid"
	case v.Err != nil:
		return "error"
	case v.Duplicate:
		return "duplicate"
	}
	return "accepted"
}

func allSaid(verdicts []ingest.Verdict) string {
	words := make([]string, len(verdicts))
	for i, v := range verdicts {
		words[i] = said(v)
	}
	return strings.Join(words, " ")
}

// Each event of several gets the verdict that is its own, whether it is new,
// known in memory, in the store, or from the same call.
func TestAddAll(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 1000)
		stored, err := f.Add(t.Context(), f.event("a", "stored"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 100 { // the cache forgets the first
			if _, err := f.Add(t.Context(), f.event("a", fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		other := func(e *trigger.Event) *trigger.Event {
			e.Payload = []byte(`"other"`)
			return e
		}
		events := []*trigger.Event{
			f.event("a", ""), f.event("a", "99"), f.event("a", "stored"), f.event("a", "new"), other(f.event("a", "new")),
			f.event("a", "new"), other(f.event("a", "99")), f.event("a", ""),
		}
		got := f.AddAll(t.Context(), events)
		if all := allSaid(got); all != "accepted duplicate duplicate accepted duplicate duplicate duplicate accepted" {
			t.Fatal(all)
		}
		if got[2].EventID != stored.EventID || got[4].EventID != got[3].EventID || got[5].EventID != got[3].EventID || got[0].EventID == got[7].EventID {
			t.Errorf("ids: %+v", got)
		}
		for i, want := range map[int]string{1: "false true", 2: "false false", 4: "true true", 5: "false true", 6: "true true"} {
			differs, known := got[i].Differs(events[i])
			if fmt.Sprint(differs, " ", known) != want {
				t.Errorf("verdict %d differs: %v, known %v; want %s", i, differs, known, want)
			}
		}
		if list := f.AddAll(t.Context(), nil); len(list) != 0 {
			t.Errorf("%d verdicts of nothing", len(list))
		}
		// What the store has told once is not forgotten when it is told again.
		again := f.AddAll(t.Context(), []*trigger.Event{f.event("a", "new")})
		if differs, known := again[0].Differs(events[3]); differs || !known {
			t.Errorf("again: differs %v, known %v", differs, known)
		}
		many := make([]*trigger.Event, 2500) // more than one commit takes: two at a time, in any order
		for i := range many {
			many[i] = f.event("a", fmt.Sprint("many-", i%2000))
		}
		first, accepted := map[string]trigger.ID{}, map[string]int{}
		for i, v := range f.AddAll(t.Context(), many) {
			id := many[i].DedupID
			if v.Err != nil || i >= 2000 && v.EventID != first[id] {
				t.Fatalf("event %d: %+v", i, v)
			}
			if first[id] = v.EventID; !v.Duplicate {
				accepted[id]++
			}
		}
		for id, n := range accepted {
			if n != 1 || len(accepted) != 2000 {
				t.Fatalf("%s was accepted %d times, of %d ids", id, n, len(accepted))
			}
		}
	})
}

// What the database can never take is refused by itself.
func TestAddAllWithBadOnes(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) { // SQLite takes any text
		f := start(t, db, db.Open(t), 1000)
		bad := func(dedup string) *trigger.Event { return f.event("nul\x00", dedup) }
		got := f.AddAll(t.Context(), []*trigger.Event{
			f.event("a", ""), bad(""), f.event("a", "x"), bad("y"), f.event("a", "y"), f.event("a", "x"), bad("x"), bad("x"),
		})
		if all := allSaid(got); all != "accepted invalid accepted invalid accepted duplicate duplicate duplicate" {
			t.Error(all)
		}
		if n := storetest.CountEvents(t, f.store, f.org)[trigger.Pending]; n != 3 {
			t.Errorf("%d stored, want 3", n)
		}
	})
}

// Where the queue has no room for all, none is taken; and what nobody commits
// in time is told so at once for all.
func TestAddAllIsNotTakenInPart(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	st := db.Open(t)
	cache := ingest.NewCache(st, 1, 0)
	w := ingest.New(ingest.Config{Store: st, Dispatcher: &lanes{}, Cache: cache, Now: db.Clock.Now, Metrics: telemetry.New()})
	large := func(n int) (list []*trigger.Event) {
		for range n {
			list = append(list, &trigger.Event{OrganizationID: 1, Type: "a", Payload: make([]byte, 1<<20)})
		}
		return list
	}
	refused := func(verdicts []ingest.Verdict) {
		t.Helper()
		for i, v := range verdicts {
			if e, ok := errors.AsType[*trigger.Error](v.Err); !ok || e.Kind != trigger.Unavailable || e.RetryAfter < time.Second {
				t.Fatalf("event %d: %v", i, v.Err)
			}
		}
	}
	refused(w.AddAll(t.Context(), large(70)))
	if n := w.QueuedBytes(); n != 0 {
		t.Errorf("%d bytes are queued of a batch that has no room", n)
	}
	gone, leave := context.WithCancel(t.Context())
	leave() // nobody waits, and Run does not run
	refused(w.AddAll(gone, large(20)))
	queued := w.QueuedBytes()
	refused(w.AddAll(gone, large(20)))
	if n := w.QueuedBytes(); n != queued || n < 20<<20 {
		t.Errorf("%d bytes are queued, want the %d of the first batch", n, queued)
	}
	begun := time.Now()
	refused(w.AddAll(t.Context(), large(5))) // 5 s for all of them, not for each
	if took := time.Since(begun); took < 4*time.Second {
		t.Errorf("given up after %v", took)
	}
}

// heard are the organizations whose inbox got something.
type heard struct {
	mu   sync.Mutex
	orgs []int64
}

func (h *heard) arrived(orgID int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.orgs = append(h.orgs, orgID)
}

// aligned holds that each delivery comes with its own webhook.
type aligned struct {
	*lanes
	t *testing.T
}

func (a *aligned) Dispatch(d trigger.Delivery, e *trigger.Event, w *trigger.Webhook, at time.Time) {
	if d.WebhookID != w.ID || d.EventID != e.ID || w.ID == trigger.InboxID {
		a.t.Errorf("a delivery to %d of %s came with webhook %d and event %s", d.WebhookID, d.EventID, w.ID, e.ID)
	}
	a.lanes.Dispatch(d, e, w, at)
}

// An inbox that gets everything is owed beside the webhooks, which get what is
// theirs; and what is to be delivered later is neither claimed nor handed off.
func TestInboxGetsEverything(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := start(t, db, db.Open(t), 1000)
		var h heard
		f.Arrived, f.Dispatcher = h.arrived, &aligned{f.lanes, t}
		hooks := []int64{f.hook}
		for range 2 {
			filter, _ := trigger.ParseFilter([]string{"user.*"}, nil)
			id, err := f.store.AddWebhook(t.Context(), f.org, trigger.Webhook{
				State: trigger.Active, URL: "http://127.0.0.1:9", Filter: filter, Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{})),
			}, store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			hooks = append(hooks, id)
		}
		if _, err := f.store.SetOrganization(t.Context(), f.org, func(o *trigger.Organization) error {
			o.Inbox = trigger.Everything
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		later := f.event("user.created", "")
		later.DeliverAt = f.store.Now().Add(time.Hour)
		got := f.AddAll(t.Context(), []*trigger.Event{f.event("user.created", ""), f.event("nobody.wants", ""), later})
		if all := allSaid(got); all != "accepted accepted accepted" {
			t.Fatal(all)
		}
		f.stop() // hand-offs come after the answers
		taken := map[int64]int{}
		for _, d := range f.lanes.taken {
			if d.EventID != got[0].EventID {
				t.Errorf("handed off %+v", d)
			}
			taken[d.WebhookID]++
		}
		for _, d := range f.lanes.expected {
			if d.EventID != got[2].EventID {
				t.Errorf("told of %+v", d)
			}
		}
		if n := len(f.lanes.expected); n != len(hooks) {
			t.Errorf("told of %d deliveries for later, want %d", n, len(hooks))
		}
		for _, hook := range hooks {
			if taken[hook] != 1 {
				t.Errorf("webhook %d was handed %d deliveries", hook, taken[hook])
			}
		}
		if len(taken) != 3 || f.lanes.reserved != 0 || len(h.orgs) != 3 {
			t.Errorf("handed off to %v, %d reserved, heard %v", taken, f.lanes.reserved, h.orgs)
		}
		claim := func() (ids []trigger.ID) {
			list, _, err := f.store.ClaimInbox(t.Context(), f.org, store.InboxPage{Limit: 10, Bytes: 1 << 20}, f.store.NewClaim(), time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				ids = append(ids, e.ID)
			}
			return ids
		}
		lanes := func() (n int) {
			for _, hook := range hooks {
				now := f.store.Now()
				ds, err := f.store.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(f.org), WebhookID: hook, Room: 10}}, f.store.NewClaim(), now, now.Add(time.Minute))
				if err != nil {
					t.Fatal(err)
				}
				for _, d := range ds {
					if d.EventID == got[2].EventID {
						n++
					}
				}
			}
			return n
		}
		if ids := claim(); len(ids) != 2 || ids[0] != got[0].EventID || ids[1] != got[1].EventID || lanes() != 0 {
			t.Errorf("claimed %v before the hour", ids)
		}
		db.Clock.Advance(time.Hour)
		if ids := claim(); len(ids) != 3 || ids[2] != got[2].EventID || lanes() != 3 {
			t.Errorf("claimed %v after the hour", ids)
		}
	})
}
