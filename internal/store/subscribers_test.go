package store_test

import (
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// What a webhook is, the database says: gone only if it is gone there, and
// nothing where its settings cannot be had.
func TestWebhooksByID(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s, raw := db.Open(t), db.SQL(t)
		exec := func(text string, args ...any) {
			t.Helper()
			if _, err := raw.ExecContext(t.Context(), text, args...); err != nil {
				t.Fatal(err)
			}
		}
		org, deleted := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		active, paused, gone := newWebhook(t, s, org, ""), newWebhook(t, s, org, ""), newWebhook(t, s, org, "")
		orphan := newWebhook(t, s, deleted, "")
		for id, state := range map[int64]trigger.WebhookState{paused: trigger.Paused, gone: trigger.Gone} {
			if err := s.SetWebhookState(t.Context(), org, id, state); err != nil {
				t.Fatal(err)
			}
		}
		ids := []int64{active, paused, gone, orphan, 1 << 40}
		check := func(what string, broken bool, want map[int64]trigger.WebhookState) {
			t.Helper()
			hooks, err := s.WebhooksByID(t.Context(), ids)
			if err != nil || len(hooks) != len(want) {
				t.Fatalf("%s: %v, %v", what, hooks, err)
			}
			for id, state := range want {
				if w := hooks[id]; w == nil || w.ID != id || w.State != state || (w.Broken != nil) != (broken && id != gone && id != orphan) {
					t.Errorf("%s: webhook %d is %+v, want it %s", what, id, w, state)
				}
			}
		}
		states := map[int64]trigger.WebhookState{
			active: trigger.Active, paused: trigger.Paused, gone: trigger.Gone, orphan: trigger.Active,
		}
		check("all are there", false, states)
		if err := s.DeleteOrganization(t.Context(), deleted); err != nil {
			t.Fatal(err)
		}
		states[orphan] = trigger.Gone
		check("an organization was deleted", false, states)

		exec(`UPDATE webhooks SET state = 'active' WHERE id = $1`, gone) // which no version tells
		if hooks, err := s.WebhooksByID(t.Context(), ids); hooks != nil || trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("settings are missing: %v, %v, want Unavailable", hooks, err)
		}
		exec(`UPDATE webhooks SET state = 'gone' WHERE id = $1`, gone)

		exec(`UPDATE webhooks SET config = '{' WHERE id = $1`, active)
		exec(`UPDATE organizations SET version = version + 1 WHERE id = $1`, org)
		check("settings cannot be read", true, states)

		exec(`DELETE FROM webhook_versions WHERE webhook_id = $1`, orphan)
		exec(`DELETE FROM webhooks WHERE id = $1`, orphan)
		delete(states, orphan)
		check("a webhook was erased", true, states)
	})
}
