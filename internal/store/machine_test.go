package store_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// Any sequence of the store's verbs leaves what a plain map says. Each check
// has organizations of its own, so that they share one database.
func TestMachine(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		rapid.Check(t, func(rt *rapid.T) {
			m := newMachine(rt, t, db, s)
			rt.Repeat(map[string]func(*rapid.T){
				"":            m.compare,
				"add":         m.addBatch,
				"add more":    m.addBatch, // more often than the others
				"repeat":      m.repeatBatch,
				"claim":       m.claim,
				"claim more":  m.claim,
				"finish":      m.finish,
				"finish more": m.finish,
				"refinish":    m.refinish,
				"release":     m.release,
				"end webhook": m.failWebhook,
				"stop":        m.stop,
				"set state":   m.setState,
				"expire":      m.expire,
				"advance":     m.advance,
			})
		})
	})
}

// machine is the store under test and what should be in it.
type machine struct {
	ctx   context.Context
	db    *storetest.DB
	store *store.Store
	orgs  []int64
	hooks map[int64]*trigger.Webhook

	events  []*trigger.Event // as they were added, so in no order
	first   map[string]trigger.ID
	rows    map[trigger.DeliveryKey]*modelRow
	batches []*store.Batch
	claims  []trigger.Delivery // all that were ever taken, most of them lost since
	results []store.Result     // all that were ever recorded
}

// modelRow is a delivery that is open or failed.
type modelRow struct {
	trigger.Delivery
	dueBefore time.Time // not exact where the store has read its own clock: from DueAt to here
}

func newMachine(rt *rapid.T, t *testing.T, db *storetest.DB, s *store.Store) *machine {
	m := &machine{
		ctx: t.Context(), db: db, store: s, hooks: map[int64]*trigger.Webhook{},
		first: map[string]trigger.ID{}, rows: map[trigger.DeliveryKey]*modelRow{},
	}
	for range 2 {
		org := storetest.NewOrganization(t, s)
		m.orgs = append(m.orgs, org)
		for range rapid.IntRange(1, 2).Draw(rt, "webhooks") {
			id := newWebhook(t, s, org, "")
			m.hooks[id] = &trigger.Webhook{ID: id, OrganizationID: org, State: trigger.Active}
		}
	}
	return m
}

// hooksOf are the webhooks of an organization, in order.
func (m *machine) hooksOf(org int64) (ids []int64) {
	for id, h := range m.hooks {
		if h.OrganizationID == org {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// addBatch adds events of both organizations, some with dedup ids that were
// there before, owed to some webhooks or to the inbox, claimed or due.
func (m *machine) addBatch(t *rapid.T) {
	b := &store.Batch{}
	used := map[string]bool{}
	now, claim := m.store.Now(), m.store.NewClaim()
	for range rapid.IntRange(1, 5).Draw(t, "events") {
		org := rapid.SampledFrom(m.orgs).Draw(t, "organization")
		e := eventAt(now, org, rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e", "f", "g"}).Draw(t, "dedup"))
		if key := dedupOf(e); e.DedupID != "" && used[key] {
			continue // ingest unites these
		} else {
			used[key] = true
		}
		hooks := []int64{trigger.InboxID}
		if rapid.IntRange(0, 4).Draw(t, "inbox") > 0 {
			hooks = rapid.SliceOfNDistinct(rapid.SampledFrom(m.hooksOf(org)), 1, -1, rapid.ID[int64]).Draw(t, "owed to")
		}
		ds := owed(e, hooks...)
		for i := range ds {
			if ds[i].WebhookID != trigger.InboxID && rapid.Bool().Draw(t, "claimed") {
				ds[i].Claim, ds[i].DueAt = claim, now.Add(lease(t))
			}
		}
		b.Events, b.Deliveries = append(b.Events, e), append(b.Deliveries, ds)
	}
	if len(b.Events) > 0 {
		m.batches = append(m.batches, b)
		m.addAndCompare(t, b, rapid.Bool().Draw(t, "again"))
	}
}

// repeatBatch adds a batch that was added before, as after a lost answer.
func (m *machine) repeatBatch(t *rapid.T) {
	if len(m.batches) > 0 {
		m.addAndCompare(t, rapid.SampledFrom(m.batches).Draw(t, "batch"), true)
	}
}

func (m *machine) addAndCompare(t *rapid.T, b *store.Batch, again bool) {
	var got []trigger.ID
	err := store.RunBatch(m.ctx, time.Now, 5*time.Second, []*store.Batch{b}, func(_ []*store.Batch, repeated bool) (err error) {
		got, err = m.store.AddEvents(m.ctx, b, again || repeated)
		return err
	}, func(_ *store.Batch, err error) { t.Fatalf("refused: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range b.Events {
		want, known := e.ID, slices.Contains(m.events, e)
		if id, ok := m.first[dedupOf(e)]; ok && e.DedupID != "" {
			want, known = id, true
		}
		if got[i] != want {
			t.Fatalf("event %d with dedup id %q got %s, want %s", i, e.DedupID, got[i], want)
		}
		if known {
			continue
		}
		m.events = append(m.events, e)
		m.first[dedupOf(e)] = e.ID
		for _, d := range b.Deliveries[i] {
			m.rows[d.DeliveryKey] = &modelRow{d, d.DueAt}
			if !d.Claim.IsZero() {
				m.claims = append(m.claims, d)
			}
		}
	}
}

func dedupOf(e *trigger.Event) string { return fmt.Sprintf("%d %s", e.OrganizationID, e.DedupID) }

func lease(t *rapid.T) time.Duration {
	return time.Duration(rapid.IntRange(0, 40).Draw(t, "lease")) * time.Minute
}

// claim takes due deliveries of some webhooks: those that are due longest.
func (m *machine) claim(t *rapid.T) {
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(m.allHooks()), 1, -1, rapid.ID[int64]).Draw(t, "webhooks")
	rooms := map[int64]int{}
	var wants []store.Want
	for _, id := range ids {
		rooms[id] = rapid.IntRange(1, 6).Draw(t, "room")
		wants = append(wants, store.Want{Bucket: trigger.Bucket(m.hooks[id].OrganizationID), WebhookID: id, Room: rooms[id]})
	}
	slices.SortFunc(wants, func(a, b store.Want) int { return int(a.Bucket) - int(b.Bucket) })
	claim, now := m.store.NewClaim(), m.store.Now()
	until := now.Add(lease(t))
	taken, err := m.store.Claim(m.ctx, wants, claim, now, until)
	if err != nil {
		t.Fatal(err)
	}
	got := map[trigger.DeliveryKey]bool{}
	latest := map[int64]time.Time{} // due among those that were taken
	for _, d := range taken {
		row := m.rows[d.DeliveryKey]
		if got[d.DeliveryKey] || row == nil || row.State != trigger.DeliveryOpen || row.DueAt.After(now) {
			t.Fatalf("took %+v, of which is known %+v", d, row)
		}
		if want := (trigger.Delivery{DeliveryKey: d.DeliveryKey, Attempts: row.Attempts, DueAt: until, Claim: claim}); d != want {
			t.Fatalf("took %+v, want %+v", d, want)
		}
		got[d.DeliveryKey] = true
		if rooms[d.WebhookID]--; rooms[d.WebhookID] < 0 {
			t.Fatalf("took more of webhook %d than there was room for", d.WebhookID)
		}
		if row.DueAt.After(latest[d.WebhookID]) {
			latest[d.WebhookID] = row.DueAt
		}
	}
	for key, row := range m.rows {
		room, asked := rooms[key.WebhookID]
		if !asked || got[key] || row.State != trigger.DeliveryOpen || row.dueBefore.After(now) {
			continue
		}
		if room > 0 || row.dueBefore.Before(latest[key.WebhookID]) {
			t.Fatalf("%+v was left, with room for %d more, after one that was due at %v", row, room, latest[key.WebhookID])
		}
	}
	for _, d := range taken {
		*m.rows[d.DeliveryKey] = modelRow{d, until}
	}
	m.claims = append(m.claims, taken...)
}

func (m *machine) allHooks() (ids []int64) {
	for _, org := range m.orgs {
		ids = append(ids, m.hooksOf(org)...)
	}
	return ids
}

// someClaims picks claims, present ones and lost ones, perhaps the same twice.
func (m *machine) someClaims(t *rapid.T) []trigger.Delivery {
	if len(m.claims) == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.SampledFrom(m.claims), 1, 5).Draw(t, "claims")
}

// finish records results of claims.
func (m *machine) finish(t *rapid.T) {
	outcomes := []trigger.Outcome{trigger.Success, trigger.Transient, trigger.Transient, trigger.ReceiverGone, trigger.Permanent}
	var results []store.Result
	for _, d := range m.someClaims(t) {
		a := trigger.Attempt{
			DeliveryKey: d.DeliveryKey, Claim: d.Claim, Number: d.Attempts + 1, At: m.store.Now(),
			Outcome: rapid.SampledFrom(outcomes).Draw(t, "outcome"), Error: "an error", Response: []byte{0xff, 0},
		}
		results = append(results, store.Result{Attempt: a, Next: d.After(a, trigger.Schedule{time.Minute, time.Hour}, m.store.Now(), 0)})
	}
	m.finishAll(t, results)
	m.results = append(m.results, results...)
}

// refinish records results again that were recorded before.
func (m *machine) refinish(t *rapid.T) {
	if len(m.results) > 0 {
		m.finishAll(t, rapid.SliceOfN(rapid.SampledFrom(m.results), 1, 5).Draw(t, "results"))
	}
}

func (m *machine) finishAll(t *rapid.T, results []store.Result) {
	if err := m.store.Finish(m.ctx, slices.Clone(results)); err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		row := m.rows[r.Attempt.DeliveryKey]
		switch {
		case row == nil || row.State != trigger.DeliveryOpen:
		case r.Next.State == trigger.DeliveryEnded:
			delete(m.rows, r.Attempt.DeliveryKey)
		case row.Claim == r.Attempt.Claim:
			*row = modelRow{r.Next, r.Next.DueAt}
		}
	}
}

// release gives claims back.
func (m *machine) release(t *rapid.T) {
	ds, before := m.someClaims(t), m.store.Now()
	if err := m.store.Release(m.ctx, ds); err != nil {
		t.Fatal(err)
	}
	after := m.store.Now()
	for _, d := range ds {
		if row := m.rows[d.DeliveryKey]; row != nil && row.State == trigger.DeliveryOpen && row.Claim == d.Claim {
			row.Claim, row.DueAt, row.dueBefore = trigger.ID{}, before, after
		}
	}
}

// failWebhook ends what a webhook is owed, if it is gone or deleted.
func (m *machine) failWebhook(t *rapid.T) {
	id := rapid.SampledFrom(m.allHooks()).Draw(t, "webhook")
	ended := 0
	for done := false; !done; {
		var n int
		var err error
		if n, done, err = m.store.FailWebhook(m.ctx, m.hooks[id].OrganizationID, id, trigger.ReasonGone); err != nil {
			t.Fatal(err)
		}
		ended += n
	}
	receives := m.hooks[id].State.Receives()
	if n := m.fail(func(key trigger.DeliveryKey) bool { return key.WebhookID == id && !receives }); n != ended {
		t.Fatalf("%d deliveries ended, want %d", ended, n)
	}
}

// fail ends open deliveries in the model, and says how many.
func (m *machine) fail(which func(trigger.DeliveryKey) bool) (n int) {
	for key, row := range m.rows {
		if row.State == trigger.DeliveryOpen && which(key) {
			row.State, row.Claim = trigger.DeliveryFailed, trigger.ID{}
			n++
		}
	}
	return n
}

// setState changes a webhook, which changes nothing that is owed already.
func (m *machine) setState(t *rapid.T) {
	h := m.hooks[rapid.SampledFrom(m.allHooks()).Draw(t, "webhook")]
	state := rapid.SampledFrom([]trigger.WebhookState{trigger.Active, trigger.Paused, trigger.Paused, trigger.Deleted}).Draw(t, "state")
	err := m.store.SetWebhookState(m.ctx, h.OrganizationID, h.ID, state)
	want, refused := trigger.NotFound, h.State == trigger.Deleted
	if h.State == trigger.Gone && state == trigger.Paused {
		want, refused = trigger.Conflict, true
	}
	if refused != (err != nil) || refused && trigger.KindOf(err) != want {
		t.Fatalf("from %s to %s: %v", h.State, state, err)
	}
	if err == nil {
		h.State = state
	}
	m.compareWebhooks(t)
}

// stop makes a webhook gone, as its receiver has answered.
func (m *machine) stop(t *rapid.T) {
	h := m.hooks[rapid.SampledFrom(m.allHooks()).Draw(t, "webhook")]
	if _, err := m.store.StopWebhook(m.ctx, store.Stop{OrganizationID: h.OrganizationID, WebhookID: h.ID, State: trigger.Gone}); err != nil {
		t.Fatal(err)
	}
	if h.State.Receives() {
		h.State = trigger.Gone
	}
	m.compareWebhooks(t)
}

// compareWebhooks compares what the engine is told of webhooks: of a deleted
// one that it is gone.
func (m *machine) compareWebhooks(t *rapid.T) {
	hooks, err := m.store.WebhooksByID(m.ctx, m.allHooks())
	if err != nil || len(hooks) != len(m.hooks) {
		t.Fatalf("%d webhooks of %d, %v", len(hooks), len(m.hooks), err)
	}
	for id, got := range hooks {
		if want := m.hooks[id].State; got.State != want && (got.State != trigger.Gone || want != trigger.Deleted) || got.OrganizationID != m.hooks[id].OrganizationID {
			t.Fatalf("webhook %+v, want %+v", got, m.hooks[id])
		}
	}
}

// expire ends what is owed of events before one of them: rarely, since that
// looks at the organizations of all checks.
func (m *machine) expire(t *rapid.T) {
	if rapid.IntRange(0, 7).Draw(t, "rarely") > 0 || len(m.events) == 0 {
		return
	}
	before := rapid.SampledFrom(m.events).Draw(t, "before").ID.Time()
	ended, err := m.store.Expire(m.ctx, before)
	if err != nil {
		t.Fatal(err)
	}
	low := trigger.MinID(before)
	n := m.fail(func(key trigger.DeliveryKey) bool { return bytes.Compare(key.EventID[:], low[:]) < 0 })
	if ended < n { // of other checks' organizations there may be more
		t.Fatalf("%d deliveries expired, want %d", ended, n)
	}
}

// advance moves the clock, as far as leases and pauses go; rarely by days,
// beyond what counts as recent.
func (m *machine) advance(t *rapid.T) {
	d := time.Duration(rapid.IntRange(1, 90).Draw(t, "minutes")) * time.Minute
	if rapid.IntRange(0, 29).Draw(t, "days") == 0 {
		d = 50 * time.Hour
	}
	m.db.Clock.Advance(d)
}

// compare compares what can be asked with what is known: much of it, since it
// is asked after each step.
func (m *machine) compare(t *rapid.T) {
	want := map[int64]map[trigger.ID]trigger.Status{}
	for _, org := range m.orgs {
		want[org] = map[trigger.ID]trigger.Status{}
	}
	for _, e := range m.events {
		want[e.OrganizationID][e.ID] = trigger.Delivered
	}
	first := map[int64]*modelRow{} // due, by webhook
	for key, row := range m.rows {
		open := row.State == trigger.DeliveryOpen
		status := want[key.OrganizationID]
		if status[key.EventID] != trigger.Pending {
			status[key.EventID] = trigger.StatusOf(open, true)
		}
		if f := first[key.WebhookID]; open && (f == nil || row.DueAt.Before(f.DueAt)) {
			first[key.WebhookID] = row
		}
	}
	org := rapid.SampledFrom(m.orgs).Draw(t, "organization")
	all := []trigger.Status{"", trigger.Pending, trigger.Delivered, trigger.Failed}
	for _, status := range rapid.SliceOfNDistinct(rapid.SampledFrom(all), 2, 2, rapid.ID[trigger.Status]).Draw(t, "statuses") {
		m.compareList(t, org, status, want[org])
	}
	if len(m.events) > 0 {
		e := rapid.SampledFrom(m.events).Draw(t, "event")
		got, status, err := m.store.Event(m.ctx, e.OrganizationID, e.ID)
		if err != nil || status != want[e.OrganizationID][e.ID] || cmp.Diff(e, got) != "" {
			t.Fatalf("event is %s, %v, want %s; it differs by %s", status, err, want[e.OrganizationID][e.ID], cmp.Diff(e, got))
		}
	}
	for id, h := range m.hooks {
		m.compareLane(t, h, first[id])
	}
}

// compareList compares the events of a status that are listed.
func (m *machine) compareList(t *rapid.T, org int64, status trigger.Status, all map[trigger.ID]trigger.Status) {
	var want []store.EventStatus
	for id, s := range all {
		if status == "" || s == status {
			want = append(want, store.EventStatus{ID: id, Status: s})
		}
	}
	slices.SortFunc(want, func(a, b store.EventStatus) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	limit := rapid.SampledFrom([]int{1000, 1000, 3}).Draw(t, "limit")
	got, err := m.store.ListEvents(m.ctx, org, status, limit)
	if diff := cmp.Diff(want[:min(len(want), limit)], got); err != nil || diff != "" && len(want)+len(got) > 0 {
		t.Fatalf("events that are %q: %v\n%s", status, err, diff)
	}
}

// compareLane compares when the first delivery of a webhook is due.
func (m *machine) compareLane(t *rapid.T, h *trigger.Webhook, first *modelRow) {
	bucket := trigger.Bucket(h.OrganizationID)
	lanes, err := m.store.Lanes(m.ctx, store.Lane{Bucket: bucket, WebhookID: h.ID - 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	listed := len(lanes) == 1 && lanes[0].WebhookID == h.ID && lanes[0].Bucket == bucket
	switch {
	case listed != (first != nil):
		t.Fatalf("lane %d is listed: %v, and has %+v", h.ID, lanes, first)
	case listed && (lanes[0].DueAt.Before(first.DueAt) || lanes[0].DueAt.After(first.dueBefore)):
		t.Fatalf("lane %d is due at %v, want %v to %v", h.ID, lanes[0].DueAt, first.DueAt, first.dueBefore)
	}
}
