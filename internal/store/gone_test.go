package store_test

import (
	"database/sql"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// leave makes the webhook gone, as its receiver has answered.
func (f *failing) leave(hook int64) {
	f.t.Helper()
	if _, err := f.nodes[0].StopWebhook(f.t.Context(), store.Stop{OrganizationID: f.org, WebhookID: hook, State: trigger.Gone}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *failing) webhook(id int64) trigger.Webhook {
	f.t.Helper()
	w, err := f.nodes[1].Webhook(f.t.Context(), f.org, id)
	if err != nil {
		f.t.Fatal(err)
	}
	return w
}

// matched are the webhooks that an event is owed to, as the other node has it.
func (f *failing) matched() (ids []int64) {
	f.t.Helper()
	subs, err := f.nodes[1].Subscribers(f.t.Context(), []int64{f.org})
	if err != nil {
		f.t.Fatal(err)
	}
	for _, w := range subs[f.org].Match(nil, "user.created", []byte(`{}`)) {
		ids = append(ids, w.ID)
	}
	return ids
}

// engineState is what the engine of the other node is told of the webhook.
func (f *failing) engineState() trigger.WebhookState {
	f.t.Helper()
	found, err := f.nodes[1].WebhooksByID(f.t.Context(), []int64{f.hook})
	if err != nil {
		f.t.Fatal(err)
	}
	return found[f.hook].State
}

// set makes the webhook active, paused or deleted, and wants an error of that
// kind; -1: none.
func (f *failing) set(state trigger.WebhookState, want trigger.Kind) {
	f.t.Helper()
	err := f.nodes[0].SetWebhookState(f.t.Context(), f.org, f.hook, state)
	if (err == nil) != (want == -1) || err != nil && trigger.KindOf(err) != want {
		f.t.Errorf("made %s: %v", state, err)
	}
}

// A webhook whose receiver answered 410 is seen with the time and the reason,
// on a node that knew it as active, too. It is owed nothing new, what was open
// fails, and it is told with its URL.
func TestGoneWebhook(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		if got := f.matched(); !slices.Equal(got, []int64{f.hook}) || f.engineState() != trigger.Active {
			t.Fatalf("before: matched %v, %s", got, f.engineState())
		}
		posted := events(f.nodes[0], f.org, 2)
		add(t, f.nodes[0], posted, f.hook)
		before := f.nodes[0].Now().Truncate(time.Microsecond)
		f.leave(f.hook)
		w := f.webhook(f.hook)
		if w.State != trigger.Gone || w.GoneReason != trigger.GoneByReceiver || w.GoneAt.Before(before) || w.GoneAt.After(f.nodes[0].Now()) || w.PausedBy != "" {
			t.Errorf("it is %s by %q, since %v: %q", w.State, w.PausedBy, w.GoneAt, w.GoneReason)
		}
		if got := f.matched(); got != nil || f.engineState() != trigger.Gone {
			t.Errorf("matched %v, and %s for the engine", got, f.engineState())
		}
		f.want(trigger.WebhookGone)
		f.wantNotice(map[string]any{"webhook_id": float64(f.hook), "url": w.URL, "reason": w.GoneReason})
		if n, _, err := f.nodes[1].FailWebhook(t.Context(), f.org, f.hook, trigger.ReasonGone); n != len(posted) || err != nil {
			t.Errorf("%d deliveries failed, want %d: %v", n, len(posted), err)
		}
		if _, err := f.nodes[1].StopWebhook(t.Context(), store.Stop{OrganizationID: f.org, WebhookID: f.hook, State: trigger.Paused}); err != nil {
			t.Errorf("paused by its receiver: %v", err)
		}
		f.set(trigger.Paused, trigger.Conflict)
		if again := f.webhook(f.hook); again.State != trigger.Gone || !again.GoneAt.Equal(w.GoneAt) {
			t.Errorf("afterwards it is %s since %v", again.State, again.GoneAt)
		}
	})
}

// wantNotice compares the payload of the only operational event.
func (f *failing) wantNotice(want map[string]any) {
	f.t.Helper()
	s := f.nodes[0]
	page, err := s.ListEvents(f.t.Context(), f.org, "", 100)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, listed := range page {
		e, _, err := s.Event(f.t.Context(), f.org, listed.ID)
		if err != nil {
			f.t.Fatal(err)
		}
		if !e.IsNotice() {
			continue
		}
		var got map[string]any
		if err := json.Unmarshal(e.Payload, &got); err != nil {
			f.t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			f.t.Errorf("%s:\n%s", e.Type, diff)
		}
	}
}

// The owner corrects a gone webhook and resumes it, with a fresh health. It
// gets the events from then on, and goes again at the next 410.
func TestGoneWebhookIsResumed(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		f.attempt(trigger.Transient)
		f.leave(f.hook)
		if _, err := f.nodes[0].SetWebhook(t.Context(), f.org, f.hook, func(w *trigger.Webhook) error {
			w.URL = "http://127.0.0.1:9/other"
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if w := f.webhook(f.hook); w.State != trigger.Gone || w.GoneAt.IsZero() || w.URL != "http://127.0.0.1:9/other" {
			t.Errorf("corrected, it is %s since %v at %s", w.State, w.GoneAt, w.URL)
		}
		now := f.nodes[0].Now()
		if err := f.nodes[0].SetBreaker(t.Context(), store.BreakerChange{OrganizationID: f.org, WebhookID: f.hook, Until: now.Add(time.Hour)}); err != nil { // of a request under way
			t.Fatal(err)
		}
		missed := event(f.nodes[0], f.org, "")
		add(t, f.nodes[0], []*trigger.Event{missed}, f.matched()...)
		f.set(trigger.Active, -1)
		w := f.webhook(f.hook)
		if w.State != trigger.Active || !w.GoneAt.IsZero() || w.GoneReason != "" || w.Failing != nil || !w.HeldUntil.IsZero() || w.Holds != 0 {
			t.Errorf("resumed as %+v", w)
		}
		if got := f.matched(); !slices.Equal(got, []int64{f.hook}) || f.engineState() != trigger.Active {
			t.Errorf("matched %v, and %s for the engine", got, f.engineState())
		}
		kept := events(f.nodes[0], f.org, 1)
		add(t, f.nodes[0], kept, f.matched()...)
		if n, done, err := f.nodes[1].FailWebhook(t.Context(), f.org, f.hook, trigger.ReasonGone); n != 0 || !done || err != nil {
			t.Errorf("a node that is late has failed %d deliveries: %v", n, err)
		}
		for _, d := range claimAll(t, f.nodes[0], f.org, f.hook, time.Minute) {
			if d.EventID == missed.ID {
				t.Error("it is owed an event of the time in which it was gone")
			}
		}
		db.Clock.Advance(time.Second)
		f.leave(f.hook)
		f.want(trigger.WebhookGone, trigger.WebhookGone)
		f.wantState(trigger.Gone, "")
	})
}

// A gone webhook has no place among those that an organization may have: it
// needs one to be resumed.
func TestGoneWebhooksAreNotCounted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		f.leave(f.hook)
		last := f.listener
		for range trigger.MaxWebhooks - 1 {
			last = newWebhook(t, f.nodes[0], f.org, "")
		}
		f.set(trigger.Active, trigger.Conflict)
		f.wantState(trigger.Gone, "")
		if err := f.nodes[0].SetWebhookState(t.Context(), f.org, last, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		f.set(trigger.Active, -1)
		f.set(trigger.Active, -1) // to resume an active one is no change
		f.wantState(trigger.Active, "")
	})
}

// Nothing is sent again to a gone webhook, before it is resumed. What can be
// read of it can still be read.
func TestReplaysToGoneWebhooks(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		posted := events(s, f.org, 1)
		add(t, s, posted, f.hook)
		running, err := s.AddReplay(t.Context(), f.org, trigger.Replay{WebhookID: f.hook}, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		f.leave(f.hook)
		db.Clock.Advance(time.Minute)
		if _, err := s.AddReplay(t.Context(), f.org, trigger.Replay{WebhookID: f.hook}, store.Once{}); trigger.KindOf(err) != trigger.Conflict {
			t.Errorf("a replay: %v", err)
		}
		if _, err := s.Resend(t.Context(), f.org, posted[0].ID, f.hook, store.Once{}); trigger.KindOf(err) != trigger.Conflict {
			t.Errorf("a resend: %v", err)
		}
		if p, err := s.PreviewReplay(t.Context(), f.org, trigger.Replay{WebhookID: f.hook}, 3); err != nil || p.Matched != 1 {
			t.Errorf("a preview: %+v, %v", p, err)
		}
		r, err := s.Replay(t.Context(), f.org, running)
		if err == nil {
			_, err = s.FeedReplay(t.Context(), r)
		}
		if err != nil {
			t.Fatal(err)
		}
		if r, err = s.Replay(t.Context(), f.org, running); err != nil || r.State != trigger.ReplayCancelling {
			t.Errorf("a replay that was under way is %s, %v", r.State, err)
		}
		f.set(trigger.Active, -1)
		if _, err := s.AddReplay(t.Context(), f.org, trigger.Replay{WebhookID: f.hook}, store.Once{}); err != nil {
			t.Errorf("a replay after it was resumed: %v", err)
		}
	})
}

// A webhook that was deleted never comes back, also one that was gone before,
// or that an older program has made a tombstone of.
func TestDeletedWebhooksStayDeleted(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		old := newWebhook(t, f.nodes[0], f.org, "")
		exec(t, db, `UPDATE webhooks SET state = 'gone' WHERE id = $1`, old)
		exec(t, db, `UPDATE organizations SET version = version + 1`)
		f.leave(f.hook)
		f.set(trigger.Deleted, -1)
		for _, id := range []int64{old, f.hook} {
			if w := f.webhook(id); w.State != trigger.Deleted || !w.GoneAt.IsZero() || w.GoneReason != "" {
				t.Errorf("webhook %d is %s since %v", id, w.State, w.GoneAt)
			}
			for _, state := range []trigger.WebhookState{trigger.Active, trigger.Paused, trigger.Deleted} {
				if err := f.nodes[0].SetWebhookState(t.Context(), f.org, id, state); trigger.KindOf(err) != trigger.NotFound {
					t.Errorf("webhook %d made %s: %v", id, state, err)
				}
			}
			f.leave(id)
			if w := f.webhook(id); w.State != trigger.Deleted {
				t.Errorf("webhook %d is %s after a late 410", id, w.State)
			}
		}
		f.want(trigger.WebhookGone)
		if list, err := f.nodes[0].ListWebhooks(t.Context(), f.org, trigger.Gone, 0, 10); err != nil || len(list) != 0 {
			t.Errorf("%d gone webhooks are listed, %v", len(list), err)
		}
	})
}

// gone lists the gone webhooks of the organization.
func (f *failing) gone() (ids []int64) {
	f.t.Helper()
	list, err := f.nodes[1].ListWebhooks(f.t.Context(), f.org, trigger.Gone, 0, 2*trigger.MaxGone)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, w := range list {
		ids = append(ids, w.ID)
	}
	return ids
}

// Webhooks that have been gone for long are deleted, also more of them than one
// transaction takes, and nothing else is.
func TestGoneWebhooksAreSwept(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		second := newWebhook(t, f.nodes[0], f.org, "")
		f.leave(f.hook)
		f.copyGone(600)
		first := f.webhook(f.hook).GoneAt
		db.Clock.Advance(time.Hour)
		f.leave(second)
		drop := func(before time.Time) {
			t.Helper()
			if err := f.nodes[0].DropGone(t.Context(), before); err != nil {
				t.Fatal(err)
			}
		}
		drop(first)
		if got := f.gone(); len(got) != 602 {
			t.Errorf("%d are gone, want 602", len(got))
		}
		drop(first.Add(time.Minute))
		if got := f.gone(); !slices.Equal(got, []int64{second}) {
			t.Errorf("%v are gone, want %d", got, second)
		}
		if w := f.webhook(f.hook); w.State != trigger.Deleted || !w.GoneAt.IsZero() {
			t.Errorf("it is %s since %v", w.State, w.GoneAt)
		}
		f.set(trigger.Active, trigger.NotFound)
		if w := f.webhook(f.listener); w.State != trigger.Active {
			t.Errorf("an active webhook is %s", w.State)
		}
	})
}

// copyGone makes n more gone webhooks of the organization, a microsecond apart.
func (f *failing) copyGone(n int) {
	f.t.Helper()
	for n > 0 {
		some := min(n, len(f.gone()))
		exec(f.t, f.db, `INSERT INTO webhooks (organization_id, state, url, filter, secret, config, sealed, paused_by, created_at, gone_at, gone_reason)
			SELECT organization_id, state, url, filter, secret, config, sealed, paused_by, created_at, gone_at, gone_reason
			FROM webhooks WHERE organization_id = $1 AND state = 'ended' ORDER BY id LIMIT $2`, f.org, some)
		n -= some
	}
	exec(f.t, f.db, `UPDATE webhooks SET gone_at = gone_at + id WHERE organization_id = $1 AND state = 'ended'`, f.org)
}

// Beside 1,000 gone webhooks of an organization, each one more deletes the one
// that has been gone for the longest.
func TestGoneWebhooksAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		f.leave(f.hook)
		f.copyGone(trigger.MaxGone - 1)
		full := f.gone()
		if len(full) != trigger.MaxGone {
			t.Fatalf("%d are gone", len(full))
		}
		db.Clock.Advance(time.Hour)
		for i := range 2 {
			next := newWebhook(t, f.nodes[0], f.org, "")
			f.leave(next)
			full = append(full[1:], next)
			if diff := cmp.Diff(full, f.gone()); diff != "" {
				t.Fatalf("gone after %d more:\n%s", i+1, diff)
			}
		}
		if w := f.webhook(f.hook); w.State != trigger.Deleted {
			t.Errorf("the first one is %s", w.State)
		}
	})
}

// least is the schema that the database needs of a program.
func least(t *testing.T, db *storetest.DB) (schema int) {
	t.Helper()
	if err := db.SQL(t).QueryRowContext(t.Context(), `SELECT least FROM compatibility`).Scan(&schema); err != nil {
		t.Fatal(err)
	}
	return schema
}

// Older programs, which would send events to a gone webhook, go on until there
// is the first one.
func TestGoneWebhooksRefuseOlderPrograms(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		deleted := newWebhook(t, f.nodes[0], f.org, "")
		if err := f.nodes[0].SetWebhookState(t.Context(), f.org, deleted, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		f.set(trigger.Paused, -1)
		if n := least(t, db); n >= 5 {
			t.Errorf("without a gone webhook the database needs schema %d", n)
		}
		f.leave(f.hook)
		if n := least(t, db); n != 5 {
			t.Errorf("with a gone webhook the database needs schema %d, want 5", n)
		}
	})
}

// A node that cannot read a webhook's secrets, since another has sealed them
// anew, may still be answered 410: they are not lost by it.
func TestGoneWebhookKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		f.leave(f.listener) // else it would be told, and cannot be read either
		var sealed []byte
		raw := db.SQL(t)
		read := func() {
			t.Helper()
			if err := raw.QueryRowContext(t.Context(), `SELECT sealed FROM webhooks WHERE id = $1`, f.hook).Scan(&sealed); err != nil {
				t.Fatal(err)
			}
		}
		read()
		want := slices.Clone(sealed)
		exec(t, db, `UPDATE webhooks SET sealed = $2 WHERE id = $1`, f.hook, []byte("\x01of another key"))
		if w := f.webhook(f.hook); w.Broken == nil {
			t.Fatal("its secrets can be read")
		}
		f.leave(f.hook)
		if read(); string(sealed) != "\x01of another key" || f.webhook(f.hook).State != trigger.Gone {
			t.Errorf("its secrets are %q", sealed)
		}
		if err := f.nodes[0].SetWebhookState(t.Context(), f.org, f.hook, trigger.Active); err == nil {
			t.Error("it was resumed, though it cannot be read")
		}
		exec(t, db, `UPDATE webhooks SET sealed = $2 WHERE id = $1`, f.hook, want)
		f.set(trigger.Active, -1)
		if w := f.webhook(f.hook); w.Broken != nil || len(w.Secrets) != 1 {
			t.Errorf("resumed with %d secrets: %v", len(w.Secrets), w.Broken)
		}
	})
}

// A list of webhooks in some states reads no webhooks in others: an organization
// may have 1,000 gone ones. SQLite chooses an index by the words of a statement,
// PostgreSQL by statistics.
func TestPlansOfWebhookLists(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	newFailing(t, db)
	for condition, index := range store.WebhookStates() {
		rows, err := db.SQL(t).QueryContext(t.Context(), `EXPLAIN QUERY PLAN SELECT w.url FROM webhooks w
			WHERE w.organization_id = $1 AND `+condition+` AND w.id > $2 ORDER BY w.id LIMIT 20`, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		if plan := lastColumn(t, rows); !strings.Contains(plan, index) {
			t.Errorf("where %s, the index %s is not used:\n%s", condition, index, plan)
		}
	}
}

// lastColumn joins the last column of all rows, which is a text.
func lastColumn(t *testing.T, rows *sql.Rows) (lines string) {
	t.Helper()
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var line string
		dest := make([]any, len(columns))
		for i := range dest {
			dest[i] = new(any)
		}
		dest[len(dest)-1] = &line
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		lines += line + "\n"
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}
