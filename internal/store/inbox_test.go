package store_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// Any sequence of what can be done with an inbox leaves what a plain map says:
// no event is with two live claims, what is not acknowledged comes back after
// its lease, and a late claim holds as long as nobody else has claimed.
func TestInboxMachine(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		rapid.Check(t, func(rt *rapid.T) {
			if rapid.IntRange(0, 3).Draw(rt, "a quarter of them is enough") > 0 {
				return
			}
			m := &inboxMachine{ctx: t.Context(), db: db, store: s, org: storetest.NewOrganization(t, s)}
			m.hook = newWebhook(t, s, m.org, "")
			rt.Repeat(map[string]func(*rapid.T){
				"":            m.compare,
				"accept":      m.accept,
				"accept more": m.accept,
				"claim":       m.claim,
				"claim more":  m.claim,
				"ack":         m.ack,
				"release":     m.release,
				"extend":      m.extend,
				"webhook":     m.finishWebhook,
				"delete":      m.delete,
				"expire":      m.expire,
				"advance":     m.advance,
			})
		})
	})
}

type inboxMachine struct {
	ctx    context.Context
	db     *storetest.DB
	store  *store.Store
	org    int64
	hook   int64
	events []*inboxModel
	claims []trigger.ID
}

// inboxModel is an event, and what should be known about it.
type inboxModel struct {
	event    *trigger.Event
	inInbox  bool // it was owed to it
	inHook   bool // and to the webhook, by inbox mode everything
	hookOpen bool
	deleted  bool
	expired  bool // what was open has failed
	hookLost bool // the webhook's delivery has expired

	done      trigger.ID // the claim that has acknowledged it
	claim     trigger.ID // that has it, perhaps of late; zero: nobody's
	unsure    bool       // it may have lost it since, to one that had no room
	attempts  int
	due, last time.Time // due is not exact where the store reads its clock: from due to last
}

// open reports that the inbox is owed the event.
func (e *inboxModel) open() bool {
	return e.inInbox && e.done.IsZero() && !e.deleted && !e.expired
}

func (m *inboxMachine) find(id trigger.ID) *inboxModel {
	for _, e := range m.events {
		if e.event.ID == id {
			return e
		}
	}
	return nil
}

// accept adds events, some to be delivered later, some of a webhook as well.
func (m *inboxMachine) accept(t *rapid.T) {
	b := &store.Batch{}
	for range rapid.IntRange(1, 8).Draw(t, "events") {
		now := m.store.Now()
		e := eventAt(now, m.org, "")
		e.Payload = []byte(`"` + strings.Repeat("x", rapid.SampledFrom([]int{0, 100, 3000}).Draw(t, "size")) + `"`)
		model := &inboxModel{event: e, due: now, last: now}
		if rapid.IntRange(0, 3).Draw(t, "later") == 0 {
			e.DeliverAt = now.Add(time.Duration(rapid.IntRange(1, 5000).Draw(t, "seconds")) * time.Second).Truncate(time.Microsecond).UTC()
			model.due, model.last = e.DeliverAt, e.DeliverAt
		}
		hooks := []int64{trigger.InboxID}
		switch rapid.IntRange(0, 4).Draw(t, "owed to") {
		case 0:
			hooks = []int64{m.hook}
		case 1:
			hooks = []int64{m.hook, trigger.InboxID}
		}
		model.inInbox = slices.Contains(hooks, trigger.InboxID)
		model.inHook = slices.Contains(hooks, m.hook)
		model.hookOpen = model.inHook
		ds := owed(e, hooks...)
		for i := range ds {
			ds[i].DueAt = model.due
		}
		b.Events, b.Deliveries = append(b.Events, e), append(b.Deliveries, ds)
		m.events = append(m.events, model)
	}
	err := store.RunBatch(m.ctx, time.Now, 5*time.Second, []*store.Batch{b}, func(_ []*store.Batch, again bool) error {
		_, err := m.store.AddEvents(m.ctx, b, again)
		return err
	}, func(_ *store.Batch, err error) { t.Fatalf("refused: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
}

// claim takes what is due: what came due first, up to a number and to bytes.
func (m *inboxMachine) claim(t *rapid.T) {
	limit, most := rapid.IntRange(1, 20).Draw(t, "limit"), rapid.SampledFrom([]int{1, 3000, 10_000, 1 << 20}).Draw(t, "bytes")
	lease := time.Duration(rapid.IntRange(1, 3600).Draw(t, "lease")) * time.Second
	claim, before := m.store.NewClaim(), m.store.Now()
	list, until, err := m.store.ClaimInbox(m.ctx, m.org, store.InboxPage{Limit: limit, Bytes: most}, claim, lease)
	after := m.store.Now()
	if err != nil {
		t.Fatal(err)
	}
	m.claims = append(m.claims, claim)
	taken, size, latest := map[trigger.ID]bool{}, 0, time.Time{}
	var previous trigger.ID
	for i, got := range list {
		e := m.find(got.ID)
		if e == nil || !e.open() || e.due.After(after) || taken[got.ID] {
			t.Fatalf("took %s, of which is known %+v", got.ID, e)
		}
		if bytes.Compare(got.ID[:], previous[:]) < 0 {
			t.Fatalf("took %s after %s", got.ID, previous)
		}
		if size += got.Size(); i > 0 && size > most {
			t.Fatalf("took %d bytes in %d events, of at most %d", size, len(list), most)
		}
		if got.Attempts != e.attempts+1 || !got.ClaimedUntil.Equal(until) || until.Before(before.Add(lease).Truncate(time.Microsecond)) || until.After(after.Add(lease)) {
			t.Fatalf("took %+v until %v, of which is known %+v", got, until, e)
		}
		if string(got.Payload) != string(e.event.Payload) || !got.DeliverAt.Equal(e.event.DeliverAt) {
			t.Fatalf("took %s %v, want %s %v", got.Payload, got.DeliverAt, e.event.Payload, e.event.DeliverAt)
		}
		taken[got.ID], previous = true, got.ID
		if e.due.After(latest) {
			latest = e.due
		}
	}
	if len(list) > limit {
		t.Fatalf("took %d of at most %d", len(list), limit)
	}
	left := 0
	for _, e := range m.events {
		if e.open() && !taken[e.event.ID] && !e.last.After(before) {
			left++
			if len(list) == 0 {
				t.Fatalf("%+v is due at %v and was not taken", e, before)
			}
			if e.last.Before(latest) && size+e.event.Size() <= most && most == 1<<20 {
				t.Fatalf("%+v was left after one that came due at %v", e, latest)
			}
		}
	}
	if left > 0 && len(list) < limit && most == 1<<20 {
		t.Fatalf("%d were left, with %d of %d taken", left, len(list), limit)
	}
	for _, e := range m.events {
		if taken[e.event.ID] {
			e.attempts, e.claim, e.unsure, e.due, e.last = e.attempts+1, claim, false, until, until
		} else if e.open() && !e.due.After(after) { // it may have been taken, and given back since it was too large
			e.unsure, e.last = !e.claim.IsZero(), maxTime(e.last, after)
		}
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// pick draws a claim and events: most are the claim's, or were, others never.
func (m *inboxMachine) pick(t *rapid.T) (claim trigger.ID, ids []trigger.ID, ok bool) {
	if len(m.claims) == 0 || len(m.events) == 0 {
		return claim, nil, false
	}
	claim = rapid.SampledFrom(append(m.claims[max(0, len(m.claims)-3):], m.claims...)).Draw(t, "claim")
	for _, e := range m.events {
		likely := e.claim == claim || e.done == claim
		if n := rapid.IntRange(0, 9).Draw(t, "chosen"); likely && n > 1 || n > 8 {
			ids = append(ids, e.event.ID)
		}
	}
	if rapid.IntRange(0, 4).Draw(t, "others") == 0 {
		ids = append(ids, trigger.NewID(m.store.Now(), 1, 1))
	}
	if len(ids) > 0 && rapid.IntRange(0, 4).Draw(t, "twice") == 0 {
		ids = append(ids, ids[0])
	}
	return claim, ids, len(ids) > 0
}

// judge compares what a claim still had with what is known. It returns those
// events that it had.
func (m *inboxMachine) judge(t *rapid.T, what string, claim trigger.ID, ids []trigger.ID, had map[trigger.ID]bool) (mine []*inboxModel) {
	for id := range had {
		if !slices.Contains(ids, id) {
			t.Fatalf("%s: %s was not asked for", what, id)
		}
	}
	slices.SortFunc(ids, func(a, b trigger.ID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range slices.Compact(ids) {
		e := m.find(id)
		want := e != nil && e.open() && e.claim == claim
		repeated := what == "ack" && e != nil && e.done == claim && !e.deleted
		switch {
		case want && e.unsure:
			if e.unsure = false; !had[id] {
				e.claim = trigger.ID{}
			}
		case had[id] != (want || repeated):
			t.Fatalf("%s of %s by %s: %v, of which is known %+v", what, id, claim, had[id], e)
		}
		if want && had[id] {
			mine = append(mine, e)
		}
	}
	return mine
}

func (m *inboxMachine) ack(t *rapid.T) {
	claim, ids, ok := m.pick(t)
	if !ok {
		return
	}
	had, err := m.store.AckInbox(m.ctx, m.org, claim, ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range m.judge(t, "ack", claim, ids, had) {
		e.done, e.claim = claim, trigger.ID{}
	}
}

func (m *inboxMachine) release(t *rapid.T) {
	claim, ids, ok := m.pick(t)
	if !ok {
		return
	}
	delay := time.Duration(rapid.IntRange(0, 600).Draw(t, "delay")) * time.Second
	before := m.store.Now()
	had, err := m.store.ReleaseInbox(m.ctx, m.org, claim, ids, delay)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range m.judge(t, "release", claim, ids, had) {
		e.claim, e.due, e.last = trigger.ID{}, before.Add(delay).Truncate(time.Microsecond), m.store.Now().Add(delay)
	}
}

func (m *inboxMachine) extend(t *rapid.T) {
	claim, ids, ok := m.pick(t)
	if !ok {
		return
	}
	lease := time.Duration(rapid.IntRange(1, 3600).Draw(t, "lease")) * time.Second
	had, until, err := m.store.ExtendInbox(m.ctx, m.org, claim, ids, lease)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range m.judge(t, "extend", claim, ids, had) {
		e.due, e.last = until.Truncate(time.Microsecond), until
	}
}

// finishWebhook ends what the webhook is owed, so that the inbox alone decides.
func (m *inboxMachine) finishWebhook(t *rapid.T) {
	now := m.store.Now()
	want := store.Want{Bucket: trigger.Bucket(m.org), WebhookID: m.hook, Room: 10}
	taken, err := m.store.Claim(m.ctx, []store.Want{want}, m.store.NewClaim(), now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var results []store.Result
	for _, d := range taken {
		e := m.find(d.EventID)
		if e == nil || !e.inHook || !e.hookOpen || e.event.DeliverAt.After(m.store.Now()) {
			t.Fatalf("the webhook got %s, of which is known %+v", d.EventID, e)
		}
		e.hookOpen = false
		results = append(results, result(m.store, d, trigger.Success))
	}
	if err := m.store.Finish(m.ctx, results); err != nil {
		t.Fatal(err)
	}
}

func (m *inboxMachine) delete(t *rapid.T) {
	if len(m.events) == 0 || rapid.IntRange(0, 2).Draw(t, "rarely") > 0 {
		return
	}
	e := rapid.SampledFrom(m.events).Draw(t, "event")
	err := m.store.DeleteEvent(m.ctx, m.org, e.event.ID)
	if e.deleted != (err != nil && trigger.KindOf(err) == trigger.NotFound) || err != nil && !e.deleted {
		t.Fatalf("deleting %+v: %v", e, err)
	}
	e.deleted, e.hookOpen = true, false
}

// expire ends what is owed of events before one of them; rarely, since that
// looks at the organizations of all checks.
func (m *inboxMachine) expire(t *rapid.T) {
	if len(m.events) == 0 || rapid.IntRange(0, 7).Draw(t, "rarely") > 0 {
		return
	}
	before := rapid.SampledFrom(m.events).Draw(t, "before").event.ID.Time()
	if _, err := m.store.Expire(m.ctx, before); err != nil {
		t.Fatal(err)
	}
	for _, e := range m.events {
		if low := trigger.MinID(before); bytes.Compare(e.event.ID[:], low[:]) < 0 {
			e.expired = e.expired || e.open()
			e.hookLost, e.hookOpen = e.hookLost || e.hookOpen, false
		}
	}
}

func (m *inboxMachine) advance(t *rapid.T) {
	m.db.Clock.Advance(time.Duration(rapid.IntRange(1, 2000).Draw(t, "seconds")) * time.Second)
}

func (e *inboxModel) status() trigger.Status {
	return trigger.StatusOf(e.open() || e.hookOpen, e.expired || e.hookLost)
}

// compare compares what can be asked with what is known.
func (m *inboxMachine) compare(t *rapid.T) {
	if len(m.events) == 0 || rapid.Bool().Draw(t, "later") {
		return
	}
	e := rapid.SampledFrom(m.events).Draw(t, "event")
	_, status, err := m.store.Event(m.ctx, m.org, e.event.ID)
	if e.deleted != (trigger.KindOf(err) == trigger.NotFound && err != nil) || err == nil && status != e.status() {
		t.Fatalf("%s, %v, of which is known %+v", status, err, e)
	}
	compare := []func(*rapid.T){func(t *rapid.T) { m.compareVerdict(t, e) }, m.compareList, m.compareDue, m.compareFound}
	compare[rapid.IntRange(0, 3).Draw(t, "compared")](t)
}

// compareVerdict compares what is said of an event's fate at the inbox.
func (m *inboxMachine) compareVerdict(t *rapid.T, e *inboxModel) {
	v, owed, err := m.store.InboxVerdict(m.ctx, m.org, e.event.ID)
	want := trigger.VerdictWaiting
	switch {
	case !e.done.IsZero():
		want = trigger.VerdictDelivered
	case e.expired:
		want = trigger.VerdictExpired
	}
	if err != nil || owed != (e.inInbox && !e.deleted) || owed && (v.Kind != want || v.Attempts != e.attempts) {
		t.Fatalf("verdict %+v, %v, %v, of which is known %+v", v, owed, err, e)
	}
	if owed && want == trigger.VerdictWaiting && (v.NextAttempt.Before(e.due.Truncate(time.Microsecond)) || v.NextAttempt.After(e.last)) {
		t.Fatalf("next at %v, want %v to %v", v.NextAttempt, e.due, e.last)
	}
}

// compareList compares the list of the inbox, page by page.
func (m *inboxMachine) compareList(t *rapid.T) {
	p := store.InboxPage{Limit: rapid.IntRange(3, 30).Draw(t, "limit"), Bytes: rapid.SampledFrom([]int{5000, 1 << 20, 1 << 20}).Draw(t, "bytes")}
	skip := rapid.Bool().Draw(t, "skip")
	if skip {
		p.Without = func(id trigger.ID) bool { return id[15]&1 == 0 }
	}
	listed := map[trigger.ID]store.InboxEvent{}
	before := m.store.Now()
	var last trigger.ID
	for after, more := (trigger.ID{}), true; more; more = !after.IsZero() {
		list, next, err := m.store.ListInbox(m.ctx, m.org, after, p)
		if err != nil || len(list) > p.Limit {
			t.Fatalf("%d of at most %d: %v", len(list), p.Limit, err)
		}
		for _, got := range list {
			if bytes.Compare(got.ID[:], last[:]) <= 0 {
				t.Fatalf("%s comes after %s", got.ID, last)
			}
			last, listed[got.ID] = got.ID, got
		}
		after = next
	}
	after := m.store.Now()
	for _, e := range m.events {
		got, is := listed[e.event.ID]
		delete(listed, e.event.ID)
		if skip && e.event.ID[15]&1 == 0 {
			if is {
				t.Fatalf("%s was to be left out", e.event.ID)
			}
			continue
		}
		must, may := e.open() && (e.attempts > 0 || !e.last.After(before)), e.open() && (e.attempts > 0 || !e.due.After(after))
		if must && !is || is && !may || is && got.Attempts != e.attempts {
			t.Fatalf("listed: %v %+v, of which is known %+v", is, got, e)
		}
		held := !e.claim.IsZero() && e.due.After(after)
		if is && (held && !got.ClaimedUntil.Equal(e.due) || (e.claim.IsZero() || !e.last.After(before)) && !got.ClaimedUntil.IsZero()) {
			t.Fatalf("claimed until %v, of which is known %+v", got.ClaimedUntil, e)
		}
	}
	if len(listed) > 0 {
		t.Fatalf("these are not known: %v", slices.Collect(maps.Keys(listed)))
	}
}

// compareDue compares what has come due in a span of time, page by page.
func (m *inboxMachine) compareDue(t *rapid.T) {
	p := store.InboxPage{Limit: rapid.IntRange(3, 30).Draw(t, "limit"), Bytes: rapid.SampledFrom([]int{5000, 1 << 20, 1 << 20}).Draw(t, "bytes")}
	upTo := rapid.SampledFrom(m.events).Draw(t, "up to").event.ID
	from := rapid.SampledFrom(m.events).Draw(t, "from").due.Add(-time.Millisecond)
	now := m.store.Now()
	listed := map[trigger.ID]bool{}
	var last store.Due
	for place, more := (store.Due{At: from}), true; more; more = !place.ID.IsZero() {
		list, next, err := m.store.DueInbox(m.ctx, m.org, upTo, place, now, p)
		if err != nil || !next.ID.IsZero() && next.At.Before(last.At) {
			t.Fatalf("%v after %v: %v", next, last, err)
		}
		for _, got := range list {
			e := m.find(got.ID)
			if listed[got.ID] || e == nil || !e.open() || e.last.Before(from) || e.due.After(now) || bytes.Compare(got.ID[:], upTo[:]) > 0 {
				t.Fatalf("%s came due, of which is known %+v", got.ID, e)
			}
			listed[got.ID] = true
		}
		place, last = next, next
	}
	for _, e := range m.events {
		if e.open() && !e.due.Before(from) && !e.last.After(now) && bytes.Compare(e.event.ID[:], upTo[:]) <= 0 && !listed[e.event.ID] {
			t.Fatalf("%+v came due and was not listed", e)
		}
	}
}

// compareFound compares a search, page by page: what is found with more
// filters is a part of what is found with fewer.
func (m *inboxMachine) compareFound(t *rapid.T) {
	q := store.EventQuery{
		Status:    rapid.SampledFrom([]trigger.Status{"", trigger.Pending, trigger.Delivered, trigger.Failed}).Draw(t, "status"),
		OfWebhook: rapid.Bool().Draw(t, "of a webhook"), Oldest: rapid.Bool().Draw(t, "oldest"), Limit: rapid.IntRange(3, 20).Draw(t, "limit"),
	}
	if q.OfWebhook {
		q.WebhookID = rapid.SampledFrom([]int64{trigger.InboxID, m.hook}).Draw(t, "webhook")
	}
	settled := trigger.MinID(m.store.Now().Add(-30 * time.Second))
	var want []store.EventStatus
	for _, e := range m.events {
		of := q.WebhookID == trigger.InboxID && e.inInbox || q.WebhookID == m.hook && e.inHook
		young := q.Oldest && bytes.Compare(e.event.ID[:], settled[:]) >= 0
		if !e.deleted && !young && (q.Status == "" || q.Status == e.status()) && (!q.OfWebhook || of) {
			want = append(want, store.EventStatus{ID: e.event.ID, Status: e.status()})
		}
	}
	slices.SortFunc(want, func(a, b store.EventStatus) int {
		if q.Oldest {
			a, b = b, a
		}
		return bytes.Compare(b.ID[:], a.ID[:])
	})
	var got []store.EventStatus
	for more := true; more; more = !q.After.IsZero() {
		page, next, err := m.store.FindEvents(m.ctx, m.org, q)
		if err != nil || len(page) > q.Limit {
			t.Fatalf("%d of at most %d: %v", len(page), q.Limit, err)
		}
		got, q.After = append(got, page...), next
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%+v found %v, want %v", q, got, want)
	}
}

// Many consumers at once share an inbox: each event is acknowledged by one of
// them, though some are released, and some leases run out.
func TestInboxConsumers(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		const consumers, total = 8, 500
		var batch []*trigger.Event
		for len(batch) < total {
			batch = append(batch, events(s, org, 100)...)
			add(t, s, batch[len(batch)-100:], trigger.InboxID)
		}
		var mu sync.Mutex
		done, given := map[trigger.ID]int{}, map[trigger.ID]map[trigger.ID]bool{}
		left := func() int {
			mu.Lock()
			defer mu.Unlock()
			return total - len(done)
		}
		var wg sync.WaitGroup
		for c := range consumers {
			wg.Go(func() {
				for n := 0; left() > 0; n++ {
					claim := s.NewClaim()
					mu.Lock()
					before := maps.Clone(done) // what is acknowledged meanwhile may be claimed, before that
					mu.Unlock()
					list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 1 + (c*7+n)%40, Bytes: 1 << 20}, claim, time.Hour)
					if err != nil {
						t.Error(err)
						return
					}
					ids := make([]trigger.ID, len(list))
					mu.Lock()
					for i, e := range list {
						if ids[i] = e.ID; given[e.ID] == nil {
							given[e.ID] = map[trigger.ID]bool{}
						}
						if given[e.ID][claim] = true; before[e.ID] > 0 {
							t.Errorf("%s was claimed after it was acknowledged", e.ID)
						}
					}
					mu.Unlock()
					if len(ids) == 0 {
						db.Clock.Advance(10 * time.Minute) // for leases of those who have forgotten
						continue
					}
					back, fails := ids[:len(ids)/4], n%5 == 4
					if _, err := s.ReleaseInbox(t.Context(), org, claim, back, 0); err != nil {
						t.Error(err)
						return
					}
					if fails {
						continue
					}
					had, err := s.AckInbox(t.Context(), org, claim, ids)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					for id := range had {
						done[id]++
					}
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for _, e := range batch {
			if done[e.ID] != 1 {
				t.Errorf("%s was acknowledged %d times", e.ID, done[e.ID])
			}
		}
		if n := storetest.CountEvents(t, s, org)[trigger.Delivered]; n != total {
			t.Errorf("%d are delivered, want %d", n, total)
		}
	})
}

// A claim whose events cannot be read is nobody's.
func TestClaimOfWhoIsGone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		add(t, s, events(s, org, 3), trigger.InboxID)
		gone, leave := context.WithCancel(t.Context())
		leave()
		if list, _, err := s.ClaimInbox(gone, org, store.InboxPage{Limit: 10, Bytes: 1 << 20}, s.NewClaim(), time.Hour); err == nil || len(list) > 0 {
			t.Errorf("%d events for who is gone, %v", len(list), err)
		}
		list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 10, Bytes: 1 << 20}, s.NewClaim(), time.Hour)
		if err != nil || len(list) != 3 || list[0].Attempts != 1 {
			t.Errorf("%+v, %v; want all 3, for the first time", list, err)
		}
	})
}

// A claim that nobody was told, though it may be committed, takes its events from
// nobody: they are given back as soon as the database answers.
func TestLostClaims(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		add(t, s, events(s, org, 5), trigger.InboxID)
		claim, kept := s.NewClaim(), s.NewClaim()
		lost, until, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 3, Bytes: 1 << 20}, claim, 12*time.Hour)
		if err != nil || len(lost) != 3 {
			t.Fatalf("%d events, %v", len(lost), err)
		}
		if list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 5, Bytes: 1 << 20}, kept, 12*time.Hour); err != nil || len(list) != 2 {
			t.Fatalf("%d events, %v", len(list), err)
		}
		s.LoseClaim(org, claim, until)
		keepRunning(t, s)
		back := map[trigger.ID]bool{}
		for len(back) < 3 { // else the test never ends
			list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 5, Bytes: 1 << 20}, s.NewClaim(), time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range list {
				back[e.ID] = true
				if e.Attempts != 1 {
					t.Errorf("attempt %d, want 1: nobody has had it", e.Attempts)
				}
			}
		}
		for _, e := range lost {
			if !back[e.ID] {
				t.Errorf("%s did not come back", e.ID)
			}
		}
	})
}

// Wherever a claim breaks off, its commit included, its events are there for the
// next consumer when the node has seen the database again.
func TestBrokenClaims(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		plain := db.Open(t)
		org := storetest.NewOrganization(t, plain)
		add(t, plain, events(plain, org, 3), trigger.InboxID)
		claim := func(s *store.Store) int {
			id := s.NewClaim()
			list, _, err := s.ClaimInbox(t.Context(), org, store.InboxPage{Limit: 3, Bytes: 1 << 20}, id, 12*time.Hour)
			if err != nil {
				return 0
			}
			ids := make([]trigger.ID, len(list))
			for i, e := range list {
				ids[i] = e.ID
			}
			if _, err := plain.ReleaseInbox(t.Context(), org, id, ids, 0); err != nil {
				t.Fatal(err)
			}
			return len(ids)
		}
		c := newCutter(t, &db.Options.PostgresURL)
		cut := db.Open(t)
		committed := 0
		for n, isCut := 1, true; isCut; n++ {
			c.arm(n)
			claim(cut)
			if isCut = c.disarm(); !isCut {
				break
			}
			if claim(plain) < 3 {
				committed++
			}
			if err := cut.Beat(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := claim(plain); got != 3 {
				t.Errorf("cut before message %d: %d of 3 events can be claimed", n, got)
			}
		}
		if committed == 0 {
			t.Error("no claim was committed and not told, so this test cannot see that it is given back")
		}
	})
}
