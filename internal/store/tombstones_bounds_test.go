package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// countOf returns how many rows a query counts.
func countOf(t *testing.T, db *storetest.DB, text string, args ...any) (n int) {
	t.Helper()
	if err := db.SQL(t).QueryRowContext(t.Context(), text, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// bury deletes a webhook, and then n copies of it a microsecond apart, each
// with a version.
func (f *failing) bury(n int) {
	f.t.Helper()
	f.set(trigger.Deleted, -1)
	last := countOf(f.t, f.db, `SELECT max(id) FROM webhooks`)
	exec(f.t, f.db, `INSERT INTO webhooks (organization_id, state, url, filter, secret, created_at, gone_at, secrets_until)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < CAST($2 AS bigint))
		SELECT organization_id, 'gone', '', '', secret, created_at, gone_at + i, 0 FROM webhooks, n WHERE id = $1 ORDER BY i`, f.hook, n)
	exec(f.t, f.db, `INSERT INTO webhook_versions (webhook_id, version, at, config, has_url)
		SELECT id, 1, 1, '{"state":"gone"}', 0 FROM webhooks WHERE id > $1`, last)
}

// tombs lists the deleted webhooks of the organization, by their ids.
func (f *failing) tombs() (ids []int64) {
	f.t.Helper()
	rows, err := f.db.SQL(f.t).QueryContext(f.t.Context(), `SELECT id FROM webhooks WHERE organization_id = $1 AND state = 'gone' ORDER BY id`, f.org)
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			f.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	if err := rows.Err(); err != nil {
		f.t.Fatal(err)
	}
	return ids
}

// discard makes a webhook and deletes it.
func (f *failing) discard() {
	f.t.Helper()
	id := newWebhook(f.t, f.nodes[0], f.org, "")
	if err := f.nodes[0].SetWebhookState(f.t.Context(), f.org, id, trigger.Deleted); err != nil {
		f.t.Fatal(err)
	}
}

// An organization keeps its newest deleted webhooks, with their versions, and
// those that the engine has still to end something of.
func TestTombstonesAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		posted, busy := events(s, f.org, 1), newWebhook(t, s, f.org, "")
		add(t, s, posted, busy)
		replay, err := s.AddReplay(t.Context(), f.org, trigger.Replay{WebhookID: f.hook}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.SetReplayState(t.Context(), f.org, replay, trigger.ReplayPaused); err != nil {
			t.Fatal(err)
		}
		if err := s.SetWebhookState(t.Context(), f.org, busy, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		f.bury(trigger.MaxTombstones)
		db.Clock.Advance(time.Minute)
		wants := func(what string, old ...int64) {
			t.Helper()
			f.discard()
			ids := f.tombs()
			isOld := func(id int64) bool { return id == busy || id == f.hook }
			if n := len(ids) - len(old); n != trigger.MaxTombstones {
				t.Errorf("%s: %d tombstones beside %v", what, n, old)
			}
			if diff := cmp.Diff(old, slices.DeleteFunc(ids, func(id int64) bool { return !isOld(id) })); diff != "" && len(old) > 0 {
				t.Errorf("%s: of the oldest there are\n%s", what, diff)
			}
			if n := countOf(t, db, `SELECT count(*) FROM webhook_versions v WHERE NOT EXISTS (SELECT 1 FROM webhooks w WHERE w.id = v.webhook_id)`); n > 0 {
				t.Errorf("%s: %d versions of no webhook", what, n)
			}
		}
		wants("a delivery is open, a replay paused", f.hook, busy)
		if n, _, err := s.FailWebhook(t.Context(), f.org, busy, trigger.ReasonGone); n != 1 || err != nil {
			t.Fatalf("%d failed, %v", n, err)
		}
		wants("a replay is paused", f.hook)
		if err := s.DropGone(t.Context(), s.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		r, err := s.Replay(t.Context(), f.org, replay)
		if err != nil || r.State != trigger.ReplayCancelling {
			t.Fatalf("the replay is %s, %v", r.State, err)
		}
		if _, err := s.FeedReplay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		wants("all has ended")
		if _, err := s.Replay(t.Context(), f.org, replay); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("its replay: %v", err)
		}
		if _, err := s.Why(t.Context(), f.org, posted[0].ID); err != nil {
			t.Error(err)
		}
	})
}

// Tombstones, former versions and ended keys go with the events that they
// belong to, and nothing else does.
func TestDeletedGoesByRetention(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		f.bury(600) // more than go at a time
		for _, filter := range []string{"a", "b", "c"} {
			f.setTypes(f.listener, filter)
		}
		key, ends := addKey(t, s, f.org, newKey()), addKey(t, s, f.org, trigger.APIKey{Scopes: trigger.AllScopes, ExpiresAt: s.Now().Add(time.Hour)})
		if err := s.RevokeAPIKey(t.Context(), f.org, key.ID); err != nil {
			t.Fatal(err)
		}
		if keys := countOf(t, db, `SELECT count(*) FROM api_keys WHERE id IN ($1, $2)`, key.ID, ends.ID); keys != 2 {
			t.Fatalf("%d keys", keys)
		}
		db.Clock.Advance(72 * time.Hour)
		f.setTypes(f.listener, "d")
		f.discard()
		if err := s.DropBefore(t.Context(), s.Now().Add(-30*time.Hour)); err != nil {
			t.Fatal(err)
		}
		if ids := f.tombs(); len(ids) != 1 || slices.Contains(ids, f.hook) {
			t.Errorf("%d tombstones are left, want the one of today", len(ids))
		}
		if n := countOf(t, db, `SELECT count(*) FROM webhook_versions WHERE webhook_id = $1`, f.listener); n != 2 {
			t.Errorf("%d versions of a webhook are left, want that of then and that of today", n)
		}
		if keys := countOf(t, db, `SELECT count(*) FROM api_keys`); keys != 1 {
			t.Errorf("%d keys are left, want the one that is good", keys)
		}
		if err := s.DropBefore(t.Context(), s.Now().Add(-29*time.Hour)); err != nil {
			t.Error(err)
		}
	})
}

func (f *failing) setTypes(hook int64, types ...string) {
	f.t.Helper()
	if _, err := f.nodes[0].SetWebhook(f.t.Context(), f.org, hook, func(w *trigger.Webhook) (err error) {
		w.Filter, err = trigger.ParseFilter(types, nil)
		return err
	}); err != nil {
		f.t.Fatal(err)
	}
}

// A webhook keeps its newest versions. What is no matter to its events makes no
// more of them, and counts as a change all the same.
func TestVersionsAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		versions := func() int {
			return countOf(t, db, `SELECT count(*) FROM webhook_versions WHERE webhook_id = $1`, f.hook)
		}
		for i := range 5 {
			asOf := f.webhooks()[f.hook].AsOf
			if _, err := s.SetWebhook(t.Context(), f.org, f.hook, func(w *trigger.Webhook) error { w.Rate = float64(i + 1); return nil }); err != nil {
				t.Fatal(err)
			}
			stop := store.Stop{OrganizationID: f.org, WebhookID: f.hook, State: trigger.Gone, AsOf: asOf}
			if _, err := s.StopWebhook(t.Context(), stop); err != nil || f.webhook(f.hook).State != trigger.Active {
				t.Fatalf("an answer to what it was before has ended it: %v", err)
			}
		}
		if n := versions(); n != 2 {
			t.Errorf("5 changes of its rate left %d versions, want the first and the last", n)
		}
		for i := range trigger.MaxVersions + 20 {
			f.setTypes(f.hook, []string{"a", "b"}[i%2])
		}
		if n := versions(); n != trigger.MaxVersions {
			t.Errorf("%d versions, want %d", n, trigger.MaxVersions)
		}
		e := event(s, f.org, "")
		subs, err := s.Subscribers(t.Context(), []int64{f.org})
		if err != nil {
			t.Fatal(err)
		}
		e.Version = subs[f.org].Version
		add(t, s, []*trigger.Event{e})
		f.setTypes(f.hook, "user.created")
		verdicts, err := s.Why(t.Context(), f.org, e.ID)
		if err != nil || len(verdicts) != 2 || verdicts[0].Kind != trigger.VerdictFiltered {
			t.Errorf("%+v, %v", verdicts, err)
		}
	})
}

// webhooks are what an event may be owed to, as the first node has it now.
func (f *failing) webhooks() map[int64]trigger.Webhook {
	f.t.Helper()
	subs, err := f.nodes[0].Subscribers(f.t.Context(), []int64{f.org})
	if err != nil {
		f.t.Fatal(err)
	}
	found := map[int64]trigger.Webhook{}
	for _, w := range subs[f.org].Webhooks {
		found[w.ID] = w
	}
	return found
}

// Of keys and replays that have ended, the newest are kept.
func TestEndedAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		const numbers = `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < CAST($2 AS bigint)) `
		hash := `unhex(printf('%064x', i))`
		if db.IsPostgres() {
			hash = `decode(lpad(to_hex(i), 64, '0'), 'hex')`
		}
		exec(t, db, `INSERT INTO api_keys (organization_id, hash, prefix, created_at, revoked_at, expires_at) `+numbers+
			`SELECT $1, `+hash+`, '', 1, CASE WHEN i % 2 = 0 THEN 1 END, CASE WHEN i % 2 = 1 THEN 1 ELSE 0 END FROM n ORDER BY i`, f.org, trigger.MaxEndedKeys+100)
		first := countOf(t, db, `SELECT min(id) FROM api_keys WHERE created_at = 1`)
		addKey(t, s, f.org, newKey())
		if n := countOf(t, db, `SELECT count(*) FROM api_keys WHERE created_at = 1`); n != trigger.MaxEndedKeys {
			t.Errorf("%d ended keys are left", n)
		}
		if min := countOf(t, db, `SELECT min(id) FROM api_keys WHERE created_at = 1`); min != first+100 {
			t.Errorf("from %d on, want %d", min, first+100)
		}
		if keys, err := s.ListAPIKeys(t.Context(), f.org, 0, 10); err != nil || len(keys) != 2 {
			t.Errorf("%d keys are good: %v", len(keys), err)
		}

		exec(t, db, `INSERT INTO replays (organization_id, webhook_id, state, since, until, types, status, pace, cursor, queued, delivered, failed, created_at) `+
			numbers+`SELECT $1, $3, CASE WHEN i = 5 THEN 'paused' ELSE 'done' END, 0, 0, '[]', '', 0, $4, 0, 0, 0, 1 FROM n ORDER BY i`,
			f.org, store.MaxEndedReplays+100, f.hook, make([]byte, 16))
		first = countOf(t, db, `SELECT min(id) FROM replays`)
		if _, err := s.AddReplay(t.Context(), f.org, trigger.Replay{WebhookID: f.hook}, store.Once{}); err != nil {
			t.Fatal(err)
		}
		n, min := countOf(t, db, `SELECT count(*) FROM replays`), countOf(t, db, `SELECT min(id) FROM replays WHERE state = 'done'`)
		if n != store.MaxEndedReplays+1 || min != first+101 { // with the one that is paused
			t.Errorf("%d replays are left, the first that is done is %d, want %d", n, min, first+101)
		}
	})
}
