package store_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// tryOnce claims what is due, of a replay or of what was owed at acceptance,
// and records one attempt of each delivery. It gives the attempts.
func tryOnce(t *testing.T, db *storetest.DB, s *store.Store, want store.Want, outcome trigger.Outcome) (made []trigger.Attempt) {
	t.Helper()
	want.Room = 1000
	now := s.Now()
	ds, err := s.Claim(t.Context(), []store.Want{want}, s.NewClaim(), now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	results := make([]store.Result, len(ds))
	for i, d := range ds {
		db.Clock.Advance(time.Second) // no two begin at the same time
		results[i] = result(s, d, outcome)
		a := &results[i].Attempt
		a.Number = d.Attempts + 1
		if a.Outcome == trigger.Permanent {
			a.Status, a.Error, a.Response = 0, "no route to host", nil
			results[i].Next = d.After(*a, nil, s.Now(), 0)
		}
		made = append(made, *a)
	}
	if err := s.Finish(t.Context(), results); err != nil {
		t.Fatal(err)
	}
	return made
}

func wantOf(org, hook, job int64) store.Want {
	return store.Want{Bucket: trigger.Bucket(org), WebhookID: hook, Job: job}
}

// All that is known of an attempt comes back, to the microsecond.
func TestAttemptComesBackAsItWas(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		es := events(s, org, 2)
		add(t, s, es, hook)
		for i, d := range claimAll(t, s, org, hook, time.Minute) {
			r := result(s, d, trigger.Transient)
			r.Attempt.Number, r.Attempt.Status, r.Attempt.Error = 1, 503, "answered 503"
			r.Attempt.Took, r.Attempt.Response = 1234567*time.Microsecond, []byte("\x00\xff no text")
			r.Attempt.Timing = trigger.Timing{DNS: time.Microsecond, Connect: 2 * time.Millisecond, TLS: 3 * time.Second, FirstByte: time.Hour}
			if i == 1 { // on an open connection; and with a notice that is wanted, which takes another way
				r.Attempt.Timing, r.Attempt.Response = trigger.Timing{FirstByte: 5 * time.Microsecond}, nil
				r.Notice = &trigger.Notice{Type: trigger.DeliveryExhausted, About: hook}
				newWebhook(t, s, org, "delivery.*")
			}
			if err := s.Finish(t.Context(), []store.Result{r}); err != nil {
				t.Fatal(err)
			}
			got, err := s.Attempts(t.Context(), org, d.EventID)
			if diff := gocmp.Diff([]trigger.Attempt{r.Attempt}, got, cmpopts.EquateEmpty()); err != nil || diff != "" {
				t.Errorf("attempt %d: %v\n%s", i, err, diff)
			}
			if list, next, err := s.ListAttempts(t.Context(), org, store.AttemptFilter{}, trigger.ID{}, 100); err != nil || !next.IsZero() || len(list) != i+1 {
				t.Errorf("%d attempts are listed, and more below %s: %v", len(list), next, err)
			}
		}
		other := storetest.NewOrganization(t, s)
		if got, err := s.Attempts(t.Context(), other, es[0].ID); err != nil || len(got) != 0 {
			t.Errorf("another organization sees %v, %v", got, err)
		}
		if got, next, err := s.ListAttempts(t.Context(), other, store.AttemptFilter{}, trigger.ID{}, 100); err != nil || len(got) != 0 || !next.IsZero() {
			t.Errorf("another organization lists %v, %v, %v", got, next, err)
		}
	})
}

// Attempts are listed by their events, the newest first, in pages that hold
// all attempts of an event; a filter picks the same ones as one that is asked
// of the whole list.
func TestListAttempts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		one, two := newWebhook(t, s, org, ""), newWebhook(t, s, org, "")
		foreign := storetest.NewOrganization(t, s)
		elsewhere := newWebhook(t, s, foreign, "")
		var es []*trigger.Event
		for range 7 {
			db.Clock.Advance(time.Second)
			es = append(es, event(s, org, ""))
			add(t, s, []*trigger.Event{event(s, foreign, "")}, elsewhere)
		}
		add(t, s, es[:5], one, two)
		add(t, s, es[5:], one)
		tryOnce(t, db, s, wantOf(foreign, elsewhere, 0), trigger.Success)
		all := tryOnce(t, db, s, wantOf(org, one, 0), trigger.Transient)
		db.Clock.Advance(time.Minute)
		all = append(all, tryOnce(t, db, s, wantOf(org, one, 0), trigger.Success)...)
		all = append(all, tryOnce(t, db, s, wantOf(org, two, 0), trigger.Permanent)...)
		job, err := s.Resend(t.Context(), org, es[2].ID, one, store.Once{}) // which was delivered
		if err != nil || job == 0 {
			t.Fatalf("resent as %d, %v", job, err)
		}
		all = append(all, tryOnce(t, db, s, wantOf(org, one, job), trigger.Success)...)
		if len(all) != 20 {
			t.Fatalf("%d attempts, want 7 and 7 and 5 and 1", len(all))
		}
		slices.SortFunc(all, func(a, b trigger.Attempt) int {
			return cmp.Or(-slices.Compare(a.EventID[:], b.EventID[:]), b.At.Compare(a.At))
		})
		filters := []store.AttemptFilter{
			{},
			{OfWebhook: true, WebhookID: one},
			{OfWebhook: true, WebhookID: two},
			{Outcome: trigger.Success},
			{Outcome: trigger.ReceiverGone},
			{Job: job},
			{OfWebhook: true, WebhookID: one, Outcome: trigger.Success},
			{OfWebhook: true, WebhookID: two, Job: job},
			{OfWebhook: true, WebhookID: elsewhere},
			{OfWebhook: true}, // the inbox
		}
		for _, f := range filters {
			for _, limit := range []int{1, 2, 3, 7, 20, 100} {
				checkPages(t, s, org, f, limit, all)
			}
		}
		checkAttemptsOf(t, s, es[2], all)
	})
}

// checkPages lists all pages, and compares them with what the filter picks of
// all attempts.
func checkPages(t *testing.T, s *store.Store, org int64, f store.AttemptFilter, limit int, all []trigger.Attempt) {
	t.Helper()
	var got, want []trigger.Attempt
	for _, a := range all {
		if (!f.OfWebhook || f.WebhookID == a.WebhookID) && (f.Outcome == "" || f.Outcome == a.Outcome) && (f.Job == 0 || f.Job == a.Job) {
			want = append(want, a)
		}
	}
	const most = 4 // attempts of one event
	var before trigger.ID
	for pages := 1; ; pages++ {
		page, next, err := s.ListAttempts(t.Context(), org, f, before, limit)
		if err != nil || pages > len(all)+1 {
			t.Fatalf("page %d of %+v by %d: %v", pages, f, limit, err)
		}
		if len(page) >= limit+max(limit, most) || len(page) < limit && !next.IsZero() {
			t.Errorf("page %d of %+v by %d has %d attempts, and goes on below %s", pages, f, limit, len(page), next)
		}
		got = append(got, page...)
		if before = next; next.IsZero() {
			break
		}
	}
	if diff := gocmp.Diff(places(want), places(got)); diff != "" {
		t.Errorf("%+v by %d:\n%s", f, limit, diff)
	}
}

// places are what tells attempts apart.
func places(list []trigger.Attempt) (texts []string) {
	for _, a := range list {
		texts = append(texts, fmt.Sprintf("%s at %d, job %d, claim %s, number %d, %s at %s", a.EventID, a.WebhookID, a.Job, a.Claim, a.Number, a.Outcome, a.At))
	}
	return texts
}

// checkAttemptsOf compares the attempts of one event: in the order in which
// they began, those of replays among them.
func checkAttemptsOf(t *testing.T, s *store.Store, e *trigger.Event, all []trigger.Attempt) {
	t.Helper()
	var want []trigger.Attempt
	for _, a := range all {
		if a.EventID == e.ID {
			want = append(want, a)
		}
	}
	slices.Reverse(want)
	got, err := s.Attempts(t.Context(), e.OrganizationID, e.ID)
	if err != nil || len(want) != 4 || want[3].Job == 0 {
		t.Fatalf("%v; want %v", err, want)
	}
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}
