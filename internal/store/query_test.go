package store_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// asked is an event of the model: what it is, and what is left of it.
type asked struct {
	id               trigger.ID
	eventType, dedup string
	left             map[int64]string // of what was owed at acceptance: open, failed, done
	jobs             map[int64]int64  // open replays: their webhooks
}

func (e *asked) status() trigger.Status {
	status := trigger.Delivered
	for _, state := range e.left {
		switch {
		case state == "open":
			return trigger.Pending
		case state == "failed":
			status = trigger.Failed
		}
	}
	return status
}

// concerns reports whether a webhook was owed the event, or is sent it again.
func (e *asked) concerns(webhookID int64) bool {
	for _, id := range e.jobs {
		if id == webhookID {
			return true
		}
	}
	return e.left[webhookID] != ""
}

// library is an organization with events of all sorts.
type library struct {
	store  *store.Store
	org    int64
	hooks  []int64 // the inbox among them
	events []*asked
	begun  time.Time
}

// ages are how old the events are: on both sides of 30 s and of two days.
func ages() []time.Duration {
	return []time.Duration{0, time.Second, 2 * time.Minute, time.Hour, 47 * time.Hour, 49 * time.Hour, 100 * time.Hour}
}

func newLibrary(rt *rapid.T, t *testing.T, s *store.Store) *library {
	org := storetest.NewOrganization(t, s)
	l := &library{store: s, org: org, hooks: []int64{trigger.InboxID, newWebhook(t, s, org, ""), newWebhook(t, s, org, "")}, begun: s.Now()}
	b := &store.Batch{}
	for i := range rapid.IntRange(0, 15).Draw(rt, "events") {
		age := rapid.SampledFrom(ages()).Draw(rt, "age")
		e := eventAt(l.begun.Add(-age), org, rapid.SampledFrom([]string{"", fmt.Sprintf("dedup-%d", i)}).Draw(rt, "dedup"))
		e.Type = rapid.SampledFrom([]string{"a", "ab", "b", "c"}).Draw(rt, "type")
		a := &asked{id: e.ID, eventType: e.Type, dedup: e.DedupID, left: map[int64]string{}, jobs: map[int64]int64{}}
		for _, id := range l.hooks {
			if rapid.Bool().Draw(rt, "owed") {
				a.left[id] = "open"
			}
		}
		b.Events = append(b.Events, e)
		b.Deliveries = append(b.Deliveries, owed(e, slices.Sorted(func(yield func(int64) bool) {
			for id := range a.left {
				if !yield(id) {
					return
				}
			}
		})...))
		l.events = append(l.events, a)
	}
	if len(b.Events) > 0 {
		if _, err := s.AddEvents(t.Context(), b, false); err != nil {
			t.Fatal(err)
		}
	}
	l.work(rt, t)
	l.resend(rt, t)
	return l
}

func (l *library) find(id trigger.ID) *asked {
	return l.events[slices.IndexFunc(l.events, func(e *asked) bool { return e.id == id })]
}

// work tries what is owed once, with all outcomes.
func (l *library) work(rt *rapid.T, t *testing.T) {
	for _, hook := range l.hooks[1:] {
		var results []store.Result
		for _, d := range claimAll(t, l.store, l.org, hook, time.Minute) {
			outcome := rapid.SampledFrom([]trigger.Outcome{trigger.Success, trigger.Permanent, trigger.Transient}).Draw(rt, "outcome")
			results = append(results, result(l.store, d, outcome))
			l.find(d.EventID).left[hook] = map[trigger.Outcome]string{trigger.Success: "done", trigger.Permanent: "failed", trigger.Transient: "open"}[outcome]
		}
		if err := l.store.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
	}
	claim := l.store.NewClaim()
	list, _, err := l.store.ClaimInbox(t.Context(), l.org, store.InboxPage{Limit: rapid.IntRange(1, 5).Draw(rt, "claimed"), Bytes: 1 << 20}, claim, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if rapid.Bool().Draw(rt, "acknowledged") {
			if _, err := l.store.AckInbox(t.Context(), l.org, claim, []trigger.ID{e.ID}); err != nil {
				t.Fatal(err)
			}
			l.find(e.ID).left[trigger.InboxID] = "done"
		}
	}
}

// resend sends some events again, and deletes some.
func (l *library) resend(rt *rapid.T, t *testing.T) {
	for _, e := range slices.Clone(l.events) {
		switch rapid.IntRange(0, 9).Draw(rt, "again") {
		case 0:
			hook := rapid.SampledFrom(l.hooks[1:]).Draw(rt, "webhook")
			for range rapid.IntRange(1, 3).Draw(rt, "times") {
				job, err := l.store.Resend(t.Context(), l.org, e.id, hook, store.Once{})
				if err != nil {
					t.Fatal(err)
				}
				if job == 0 {
					e.left[hook] = "open"
				} else {
					e.jobs[job] = hook
				}
			}
		case 1:
			if err := l.store.DeleteEvent(t.Context(), l.org, e.id); err != nil {
				t.Fatal(err)
			}
			l.events = slices.DeleteFunc(l.events, func(other *asked) bool { return other == e })
		}
	}
}

func byID(a, b *asked) int { return bytes.Compare(a.id[:], b.id[:]) }

// query draws a query, and the text of what it must find.
func (l *library) query(rt *rapid.T) (q store.EventQuery, want []string) {
	times := []time.Time{{}}
	for _, age := range ages() {
		times = append(times, l.begun.Add(-age), l.begun.Add(time.Millisecond-age))
	}
	q = store.EventQuery{
		Status: rapid.SampledFrom([]trigger.Status{"", trigger.Pending, trigger.Failed, trigger.Delivered}).Draw(rt, "status"),
		Since:  rapid.SampledFrom(times).Draw(rt, "since"), Until: rapid.SampledFrom(times).Draw(rt, "until"),
		DedupID: rapid.SampledFrom([]string{"", "", "", "dedup-0", "dedup-3", "unknown"}).Draw(rt, "dedup id"),
		Oldest:  rapid.Bool().Draw(rt, "oldest"), Limit: rapid.SampledFrom([]int{1, 2, 3, 7, 100}).Draw(rt, "limit"),
		OfWebhook: rapid.Bool().Draw(rt, "of a webhook"),
	}
	if q.OfWebhook {
		q.WebhookID = rapid.SampledFrom(append([]int64{1 << 40}, l.hooks...)).Draw(rt, "webhook")
	}
	for _, text := range rapid.SampledFrom([][]string{nil, {"a"}, {"a*"}, {"*b"}, {"c", "a"}, {"none"}}).Draw(rt, "types") {
		q.Types = append(q.Types, trigger.StoredPattern(text))
	}
	filter := trigger.Filter{Types: q.Types}
	slices.SortFunc(l.events, byID)
	for _, e := range l.events {
		at := e.id.Time()
		if (q.Status == "" || q.Status == e.status()) && filter.Match(e.eventType, nil) && (q.DedupID == "" || q.DedupID == e.dedup) &&
			!at.Before(q.Since.Truncate(time.Microsecond)) && (q.Until.IsZero() || at.Before(q.Until.Truncate(time.Microsecond))) &&
			(!q.OfWebhook || e.concerns(q.WebhookID)) && (!q.Oldest || l.begun.Sub(at) > time.Minute) {
			want = append(want, fmt.Sprintf("%s %s", e.id, e.status()))
		}
	}
	if !q.Oldest {
		slices.Reverse(want)
	}
	return q, want
}

// openDays opens a store that has had days for all ages.
func openDays(t *testing.T, db *storetest.DB) *store.Store {
	t.Helper()
	const days = 5
	db.Clock.Advance(-days * 24 * time.Hour)
	s := db.Open(t)
	for range days {
		db.Clock.Advance(24 * time.Hour)
		if err := errors.Join(s.SyncClock(t.Context()), s.MakeDays(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// Paging through events, and through deliveries, gives what a slow model
// gives, in its order: nothing twice, and nothing is missing.
func TestFindAndList(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := openDays(t, db)
		rapid.Check(t, func(rt *rapid.T) {
			l := newLibrary(rt, t, s)
			for range 12 {
				q, want := l.query(rt)
				got := findAll(rt, s, l.org, q, len(l.events)+2)
				if diff := gocmp.Diff(want, got); diff != "" {
					rt.Errorf("%+v:\n%s", q, diff)
				}
			}
			q, _ := l.query(rt)
			if other := findAll(rt, s, l.org+1<<40, q, 1); other != nil {
				rt.Errorf("another organization finds %v", other)
			}
			for range 12 {
				l.checkDeliveries(rt)
			}
		})
	})
}

func findAll(rt *rapid.T, s *store.Store, orgID int64, q store.EventQuery, most int) (found []string) {
	for pages := 0; ; pages++ {
		page, next, err := s.FindEvents(rt.Context(), orgID, q)
		if err != nil || pages > most || len(page) > q.Limit {
			rt.Fatalf("page %d of %+v has %d: %v", pages, q, len(page), err)
		}
		for _, e := range page {
			found = append(found, fmt.Sprintf("%s %s", e.ID, e.Status))
		}
		if q.After = next; next.IsZero() {
			return found
		}
	}
}

// Where a filter picks little, a page takes many steps, of 500 events each: the
// fifth that is picked is the last of one.
func TestFindFewAmongMany(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		db.Clock.Advance(time.Minute)
		if err := s.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		var rare []string
		for range 16 {
			list := events(s, org, 100)
			for i, e := range list {
				e.ID = trigger.NewID(s.Now().Add(-time.Minute), uint16(i), 1)
			}
			list[0].Type = "rare"
			add(t, s, list, hook)
			rare = append([]string{list[0].ID.String()}, rare...)
		}
		var results []store.Result
		for _, d := range slices.Concat(claimAll(t, s, org, hook, time.Minute), claimAll(t, s, org, hook, time.Minute)) {
			results = append(results, result(s, d, trigger.Success))
		}
		if err := s.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
		for _, q := range []store.EventQuery{
			{Limit: 3, Types: []trigger.Pattern{trigger.StoredPattern("rare")}},
			{Limit: 5, Types: []trigger.Pattern{trigger.StoredPattern("rare")}},
			{Limit: 100, Types: []trigger.Pattern{trigger.StoredPattern("r*")}, Status: trigger.Delivered, OfWebhook: true, WebhookID: hook},
			{Limit: 1, Types: []trigger.Pattern{trigger.StoredPattern("rare")}, Oldest: true},
		} {
			var got []string
			for pages := 0; pages < 40; pages++ {
				page, next, err := s.FindEvents(t.Context(), org, q)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range page {
					got = append(got, e.ID.String())
				}
				if q.After = next; next.IsZero() {
					break
				}
			}
			if q.Oldest {
				slices.Reverse(got)
			}
			if diff := gocmp.Diff(rare, got); diff != "" {
				t.Errorf("%+v:\n%s", q, diff)
			}
		}
	})
}

// owedRows are the deliveries that the model has left, in their order.
func (l *library) owedRows(q *store.DeliveryQuery) (rows []string) {
	var keys []trigger.DeliveryKey
	states := map[trigger.DeliveryKey]string{}
	for _, e := range l.events {
		for hook, state := range e.left {
			if state != "done" {
				key := trigger.DeliveryKey{OrganizationID: l.org, EventID: e.id, WebhookID: hook}
				keys, states[key] = append(keys, key), state
			}
		}
		for job, hook := range e.jobs {
			key := trigger.DeliveryKey{OrganizationID: l.org, EventID: e.id, WebhookID: hook, Job: job}
			keys, states[key] = append(keys, key), "open"
		}
	}
	slices.SortFunc(keys, func(a, b trigger.DeliveryKey) int {
		return cmp.Or(bytes.Compare(b.EventID[:], a.EventID[:]), cmp.Compare(b.WebhookID, a.WebhookID), cmp.Compare(b.Job, a.Job))
	})
	for _, key := range keys {
		failed := states[key] == "failed"
		if (q.AnyState || failed == (q.State == trigger.DeliveryFailed)) && (!q.OfWebhook || q.WebhookID == key.WebhookID) {
			rows = append(rows, fmt.Sprintf("%v failed %v", key, failed))
		}
	}
	return rows
}

func (l *library) checkDeliveries(rt *rapid.T) {
	q := store.DeliveryQuery{
		AnyState: rapid.Bool().Draw(rt, "any state"), OfWebhook: rapid.Bool().Draw(rt, "of a webhook"),
		WebhookID: rapid.SampledFrom(append([]int64{1 << 40}, l.hooks...)).Draw(rt, "webhook"),
		State:     rapid.SampledFrom([]trigger.DeliveryState{trigger.DeliveryOpen, trigger.DeliveryFailed}).Draw(rt, "state"),
		Limit:     rapid.SampledFrom([]int{1, 2, 3, 7, 100}).Draw(rt, "limit"),
	}
	want, got := l.owedRows(&q), []string(nil)
	for full := true; full; {
		page, err := l.store.ListDeliveries(rt.Context(), l.org, q)
		if err != nil || len(page) > q.Limit || len(got) > len(want) {
			rt.Fatalf("%+v: %d and %d: %v", q, len(got), len(page), err)
		}
		for _, d := range page {
			got = append(got, fmt.Sprintf("%v failed %v", d.DeliveryKey, d.State == trigger.DeliveryFailed))
			q.After = d.DeliveryKey
		}
		full = len(page) == q.Limit
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		rt.Errorf("%+v:\n%s", q, diff)
	}
}

// The newest events of a span are looked at, up to a limit, with payloads where
// they are asked for.
func TestLookBack(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, since := storetest.NewOrganization(t, s), s.Now()
		db.Clock.Advance(time.Minute)
		if err := s.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		var ids []trigger.ID  // the newest first
		for i := range 2100 { // more than two queries look at
			ids = append(ids, trigger.NewID(since.Add(time.Duration(2100-i)*time.Millisecond), 0, 1))
		}
		for part := range slices.Chunk(ids, 700) {
			list := events(s, org, len(part))
			for i, e := range list {
				e.ID = part[i]
			}
			add(t, s, list)
		}
		for _, tt := range []struct {
			from, to time.Duration
			limit    int
			want     []trigger.ID
			all      bool
		}{
			{0, time.Hour, 5000, ids, true},
			{0, time.Hour, 2100, ids, true},
			{0, time.Hour, 2099, ids[:2099], false},
			{0, time.Hour, 999, ids[:999], false},
			{0, time.Hour, 1000, ids[:1000], false},
			{2 * time.Millisecond, 11 * time.Millisecond, 9, ids[2090:2099], true},
			{2 * time.Millisecond, 11 * time.Millisecond, 8, ids[2090:2098], false},
			{time.Hour, 2 * time.Hour, 1, nil, true},
		} {
			var got []trigger.ID
			span := store.Span{Since: since.Add(tt.from), Until: since.Add(tt.to), Limit: tt.limit, Payloads: tt.limit%2 == 0}
			all, err := s.LookBack(t.Context(), org, span, func(e *trigger.Event) {
				if got = append(got, e.ID); (len(e.Payload) > 0) != span.Payloads || e.Type != "user.created" || e.OrganizationID != org {
					t.Errorf("looked at %+v", e)
				}
			})
			if err != nil || all != tt.all || !slices.Equal(got, tt.want) {
				t.Errorf("%+v: %d, all %v, want %d: %v", span, len(got), all, len(tt.want), err)
			}
		}
	})
}

// Paging through webhooks gives those in a state, by their ids: active and
// paused ones where none is named, and never deleted ones.
func TestListWebhooks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		want := map[trigger.WebhookState][]int64{}
		for i := range 15 {
			newWebhook(t, s, other, "")
			id := newWebhook(t, s, org, strings.Repeat("a", i))
			stop := func(ctx context.Context, orgID, webhookID int64, state trigger.WebhookState) error {
				_, err := s.StopWebhook(ctx, store.Stop{OrganizationID: orgID, WebhookID: webhookID, State: state})
				return err
			}
			state, set := trigger.Active, s.SetWebhookState
			switch i % 5 {
			case 0:
				state = trigger.Deleted
			case 1:
				state = trigger.Paused
			case 2:
				state, set = trigger.Gone, stop
			}
			if err := set(t.Context(), org, id, state); err != nil {
				t.Fatal(err)
			}
			if want[state] = append(want[state], id); state.Receives() {
				want[""] = append(want[""], id)
			}
		}
		delete(want, trigger.Deleted)
		for state, want := range want {
			for _, limit := range []int{1, 2, 3, 9, 10} {
				var got []int64
				for after, full := int64(0), true; full; {
					page, err := s.ListWebhooks(t.Context(), org, state, after, limit)
					if err != nil || len(page) > limit {
						t.Fatalf("%d of %d: %v", len(page), limit, err)
					}
					for _, w := range page {
						got, after = append(got, w.ID), w.ID
					}
					full = len(page) == limit
				}
				if !slices.Equal(got, want) {
					t.Errorf("in state %q by %d: %v, want %v", state, limit, got, want)
				}
			}
		}
	})
}
