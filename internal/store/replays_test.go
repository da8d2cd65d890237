package store_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// drain claims and delivers what a replay has open, and returns which events.
func drain(t *testing.T, s *store.Store, orgID, job int64, outcome trigger.Outcome) (sent []trigger.ID) {
	t.Helper()
	now := s.Now()
	ds, err := s.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(orgID), Job: job, Room: 5000}}, s.NewClaim(), now, now.Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	var results []store.Result
	for _, d := range ds {
		sent = append(sent, d.EventID)
		results = append(results, result(s, d, outcome))
	}
	if len(results) > 0 {
		if err := s.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
	}
	return sent
}

// run goes on with a replay until it has ended; each step by a node of its
// own, as if the one before had died.
func run(t *testing.T, s *store.Store, db *storetest.DB, orgID, job int64) map[trigger.ID]int {
	t.Helper()
	sent := map[trigger.ID]int{}
	for range 100 {
		r, err := s.Replay(t.Context(), orgID, job)
		if err != nil {
			t.Fatal(err)
		}
		if r.State != trigger.ReplayRunning {
			return sent
		}
		if _, err := s.FeedReplay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if _, err := s.FeedReplay(t.Context(), r); err != nil { // of a node that is behind
			t.Fatal(err)
		}
		for _, id := range drain(t, s, orgID, job, trigger.Success) {
			sent[id]++
		}
		if db.IsPostgres() && r.Cursor != (trigger.ID{}) && len(sent) == 0 {
			s = db.Open(t)
		}
	}
	t.Fatal("the replay does not end")
	return nil
}

// settle lets events be older than a replay stays behind.
func settle(t *testing.T, db *storetest.DB, s *store.Store) {
	t.Helper()
	db.Clock.Advance(time.Minute)
	if err := s.SyncClock(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func startReplay(t *testing.T, s *store.Store, orgID int64, r trigger.Replay, want int) (job int64) {
	t.Helper()
	if p, err := s.PreviewReplay(t.Context(), orgID, r, 3); err != nil || p.Matched != want || p.Scanned < want || !p.All || len(p.Newest) != min(want, 3) {
		t.Errorf("the preview is %+v, want %d: %v", p, want, err)
	}
	job, err := s.AddReplay(t.Context(), orgID, r, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// A replay owes each event of its range once, however many there are, and
// counts what became of them.
func TestReplay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "user.*")
		since := s.Now()
		const n = 2300 // more than a page, more than a window
		var posted []*trigger.Event
		for range n / 100 {
			group := events(s, org, 100)
			add(t, s, group)
			posted = append(posted, group...)
		}
		other := event(s, org, "")
		other.Type = "order.created"
		add(t, s, []*trigger.Event{other})
		settle(t, db, s)
		late := event(s, org, "")
		late.ID = trigger.NewID(s.Now().Add(time.Second), 0, 1) // after the replay began
		job := startReplay(t, s, org, trigger.Replay{WebhookID: hook, Since: since}, n)
		add(t, s, []*trigger.Event{late})
		settle(t, db, s)
		sent := run(t, s, db, org, job)
		for _, e := range posted {
			if sent[e.ID] != 1 {
				t.Fatalf("event %s was sent %d times", e.ID, sent[e.ID])
			}
		}
		if len(sent) != n {
			t.Errorf("%d events were sent, want %d", len(sent), n)
		}
		r, err := s.Replay(t.Context(), org, job)
		if r.State != trigger.ReplayDone || r.Queued != n || r.Delivered != n || r.Failed != 0 || err != nil {
			t.Errorf("ended as %+v, %v", r, err)
		}
		if _, err := s.SetReplayState(t.Context(), org, job, trigger.ReplayPaused); trigger.KindOf(err) != trigger.Conflict {
			t.Errorf("what has ended can be paused: %v", err)
		}
		if _, err := s.Replay(t.Context(), org+1, job); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("another organization's: %v", err)
		}
	})
}

// A replay of what failed, or was delivered, takes that alone; its success
// ends what had failed.
func TestReplayByStatus(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		since := s.Now()
		posted := events(s, org, 6)
		add(t, s, posted, hook)
		fate := map[trigger.ID]trigger.Outcome{}
		var results []store.Result
		for i, d := range claimAll(t, s, org, hook, time.Minute) {
			fate[d.EventID] = []trigger.Outcome{trigger.Success, trigger.Permanent, trigger.Transient}[i%3]
			results = append(results, result(s, d, fate[d.EventID]))
		}
		if err := s.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
		settle(t, db, s)
		for status, outcome := range map[trigger.Status]trigger.Outcome{trigger.Delivered: trigger.Success, trigger.Failed: trigger.Permanent} {
			job := startReplay(t, s, org, trigger.Replay{WebhookID: hook, Since: since, Status: status}, 2)
			settle(t, db, s)
			for id := range run(t, s, db, org, job) {
				if fate[id] != outcome {
					t.Errorf("a replay of what is %s sends what was %s", status, fate[id])
				}
			}
		}
		if failed := statuses(t, s, org, trigger.Failed, 10); len(failed) != 0 {
			t.Errorf("%v are failed after they were sent again", failed)
		}
		if list, err := s.ListReplays(t.Context(), org, 0, 10); err != nil || len(list) != 2 || list[0].ID < list[1].ID {
			t.Errorf("listed as %+v, %v", list, err)
		}
	})
}

// A paused replay makes and claims nothing; a cancelled one gives up what
// nobody is at; one of a webhook that is gone is cancelled.
func TestReplayStops(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		since := s.Now()
		add(t, s, events(s, org, 5))
		settle(t, db, s)
		running := func() []trigger.Replay {
			t.Helper()
			list, err := s.RunningReplays(t.Context(), 0)
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		feed := func() {
			t.Helper()
			for _, r := range running() {
				if _, err := s.FeedReplay(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		job := startReplay(t, s, org, trigger.Replay{WebhookID: hook, Since: since, Pace: 5}, 5)
		if _, err := s.SetReplayState(t.Context(), org, job, trigger.ReplayPaused); err != nil {
			t.Fatal(err)
		}
		if list := running(); len(list) != 0 {
			t.Errorf("paused, and listed as running: %+v", list)
		}
		if _, err := s.SetReplayState(t.Context(), org, job, trigger.ReplayRunning); err != nil {
			t.Fatal(err)
		}
		settle(t, db, s)
		feed()
		now := s.Now()
		if ds, err := s.Claim(t.Context(), []store.Want{{Bucket: trigger.Bucket(org), Job: job, Room: 1}}, s.NewClaim(), now, now.Add(time.Hour)); err != nil || len(ds) != 1 {
			t.Fatalf("claimed %v, %v", ds, err)
		}
		if _, err := s.SetReplayState(t.Context(), org, job, trigger.ReplayCancelling); err != nil {
			t.Fatal(err)
		}
		feed()
		feed()
		if r, _ := s.Replay(t.Context(), org, job); r.State != trigger.ReplayCancelling {
			t.Errorf("%s while an attempt is under way", r.State)
		}
		db.Clock.Advance(2 * time.Hour) // whoever was at it has died
		feed()
		feed()
		if r, _ := s.Replay(t.Context(), org, job); r.State != trigger.ReplayCancelled || r.Queued != 5 || r.Delivered != 0 {
			t.Errorf("cancelled as %+v", r)
		}
		job = startReplay(t, s, org, trigger.Replay{WebhookID: hook, Since: since}, 5)
		if err := s.SetWebhookState(t.Context(), org, hook, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		feed()
		feed()
		if r, _ := s.Replay(t.Context(), org, job); r.State != trigger.ReplayCancelled {
			t.Errorf("%s after its webhook is gone", r.State)
		}
		if _, err := s.AddReplay(t.Context(), org, trigger.Replay{WebhookID: hook, Since: since}, store.Once{}); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("a replay to a webhook that is gone: %v", err)
		}
	})
}

// A failed delivery is reopened with a fresh schedule, what waits is due now,
// and what was delivered is owed as a job, which does not count for the status.
func TestResend(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		hook := newWebhook(t, s, org, "")
		posted := events(s, org, 3)
		add(t, s, posted, hook)
		var results []store.Result
		for i, d := range claimAll(t, s, org, hook, time.Minute) {
			results = append(results, result(s, d, []trigger.Outcome{trigger.Success, trigger.Permanent, trigger.Transient}[i]))
		}
		if err := s.Finish(t.Context(), results); err != nil {
			t.Fatal(err)
		}
		var jobs []int64
		for _, r := range results {
			job, err := s.Resend(t.Context(), org, r.Attempt.EventID, hook, store.Once{})
			if err != nil {
				t.Fatal(err)
			}
			jobs = append(jobs, job)
		}
		if jobs[0] == 0 || jobs[1] != 0 || jobs[2] != 0 {
			t.Errorf("resent as jobs %v", jobs)
		}
		again := claimAll(t, s, org, hook, time.Minute)
		attempts := map[trigger.ID]int{}
		for _, d := range again {
			attempts[d.EventID] = d.Attempts
		}
		if diff := cmp.Diff(map[trigger.ID]int{results[1].Attempt.EventID: 0, results[2].Attempt.EventID: 1}, attempts); diff != "" {
			t.Errorf("attempts of what is due again:\n%s", diff)
		}
		for range 2 { // an attempt of it is under way, and may fail: each wish is a delivery
			if job, err := s.Resend(t.Context(), org, again[0].EventID, hook, store.Once{}); err != nil || job == 0 {
				t.Errorf("resent while it is being sent: job %d, %v", job, err)
			}
		}
		if got := statuses(t, s, org, trigger.Delivered, 10); len(got) != 1 {
			t.Errorf("delivered: %v", got)
		}
		if sent := drain(t, s, org, jobs[0], trigger.Permanent); len(sent) != 1 || sent[0] != results[0].Attempt.EventID {
			t.Errorf("sent again: %v", sent)
		}
		if r, err := s.Replay(t.Context(), org, jobs[0]); err != nil || r.Failed != 1 || r.Queued != 1 {
			t.Errorf("the job is %+v, %v", r, err)
		}
		if got := statuses(t, s, org, trigger.Failed, 10); len(got) != 0 {
			t.Errorf("failed by a job: %v", got)
		}
		for what, ask := range map[string][2]int64{"no webhook": {org, hook + 1}, "another organization": {org + 1, hook}} {
			if _, err := s.Resend(t.Context(), ask[0], posted[0].ID, ask[1], store.Once{}); trigger.KindOf(err) != trigger.NotFound {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}
