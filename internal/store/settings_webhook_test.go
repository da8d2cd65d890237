package store_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// shown is a webhook as it compares: everything, secrets revealed.
func shown(w trigger.Webhook) map[string]any {
	var secrets []string
	for _, s := range w.Secrets {
		secrets = append(secrets, s.Reveal()+" "+s.Until.String())
	}
	return map[string]any{
		"id": w.ID, "organization": w.OrganizationID, "state": w.State, "url": w.URL, "types": w.Filter.TypeStrings(),
		"content": string(w.Filter.Content.Raw()), "secrets": secrets, "headers": w.Headers, "bearer": w.Auth.Bearer,
		"user": w.Auth.User, "password": w.Auth.Password, "format": w.Format, "timeout": w.Timeout, "schedule": w.Schedule,
		"rate": w.Rate, "concurrency": w.Concurrency, "description": w.Description, "metadata": w.Metadata,
		"paused by": w.PausedBy, "held": w.HeldUntil, "holds": w.Holds,
	}
}

// full is a webhook with everything set.
func full(t *testing.T, orgID int64) trigger.Webhook {
	t.Helper()
	filter, err := trigger.ParseFilter([]string{"user.*", "*.created"}, []byte(`{"path":"/n","equals":9007199254740993}`))
	if err != nil {
		t.Fatal(err)
	}
	old := trigger.OneSecret(trigger.NewSecret([32]byte{1}))
	return trigger.Webhook{
		OrganizationID: orgID, State: trigger.Active, URL: "https://example.com/hook", Filter: filter,
		Secrets: old.Rotate(trigger.NewKeyPair([32]byte{2}), time.Date(2099, 5, 1, 0, 0, 0, 0, time.UTC), time.Hour),
		Headers: map[string]string{"X-Team": "payments-canary"}, Auth: trigger.Auth{User: "kim", Password: "open-sesame"},
		Format: trigger.FormatCloudEvents, Timeout: 7 * time.Second, Schedule: trigger.Schedule{0, time.Minute},
		Rate: 12.5, Concurrency: 3, Description: "to the ledger", Metadata: map[string]string{"team": "é"},
	}
}

func TestWebhookSettings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		db.Options.Retention = 48 * time.Hour
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		want := full(t, org)
		id, err := s.AddWebhook(t.Context(), org, want, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		want.ID = id
		check := func(where string, got trigger.Webhook, err error) {
			t.Helper()
			if diff := cmp.Diff(shown(want), shown(got)); diff != "" || err != nil {
				t.Errorf("%s: %v\n%s", where, err, diff)
			}
		}
		got, err := s.Webhook(t.Context(), org, id)
		check("Webhook", got, err)
		subs, err := s.Subscribers(t.Context(), []int64{org})
		check("Subscribers", subs[org].Webhooks[0], err)
		found, err := s.WebhooksByID(t.Context(), []int64{id, id + 1})
		check("WebhooksByID", *found[id], err)
		if len(found) != 1 {
			t.Errorf("a webhook that is not there is found: %v", found)
		}
		got, err = s.SetWebhook(t.Context(), org, id, func(w *trigger.Webhook) error {
			w.State, w.PausedBy, w.Rate, w.Headers = trigger.Paused, trigger.PausedByOwner, 0, nil
			return nil
		})
		want.State, want.PausedBy, want.Rate, want.Headers = trigger.Paused, trigger.PausedByOwner, 0, nil
		check("SetWebhook", got, err)
		found, err = s.WebhooksByID(t.Context(), []int64{id})
		check("WebhooksByID after SetWebhook", *found[id], err)

		_, err = s.SetWebhook(t.Context(), org, id, func(w *trigger.Webhook) error { w.Concurrency = 65; return nil })
		if trigger.KindOf(err) != trigger.Invalid {
			t.Errorf("concurrency 65: %v", err)
		}
		for pause, want := range map[time.Duration]trigger.Kind{20 * time.Hour: -1, 21 * time.Hour: trigger.Invalid} { // ±20 %, 48 h
			_, err := s.SetWebhook(t.Context(), org, id, func(w *trigger.Webhook) error { w.Schedule = trigger.Schedule{pause}; return nil })
			if (err == nil) != (want == -1) || err != nil && trigger.KindOf(err) != want {
				t.Errorf("a pause of %v within a retention of 48 h: %v", pause, err)
			}
		}
		if _, err = s.SetWebhook(t.Context(), org+1, id, func(*trigger.Webhook) error { return nil }); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("another organization's: %v", err)
		}
		if err := s.SetWebhookState(t.Context(), org, id, trigger.Deleted); err != nil {
			t.Fatal(err)
		}
		if _, err = s.SetWebhook(t.Context(), org, id, func(*trigger.Webhook) error { return nil }); trigger.KindOf(err) != trigger.NotFound {
			t.Errorf("one that is gone: %v", err)
		}
		if found, err = s.WebhooksByID(t.Context(), []int64{id}); err != nil || found[id].State != trigger.Gone {
			t.Errorf("one that is gone is found as %+v, %v", found[id], err)
		}
	})
}

// A webhook whose schedule no longer fits, since events are kept for less time
// than before, can be changed in all else, and paused; its schedule can be made
// one that fits.
func TestScheduleOfLongerRetention(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		db.Options.Retention = 100 * time.Hour
		before := db.Open(t)
		org := storetest.NewOrganization(t, before)
		w := full(t, org)
		w.Schedule = trigger.Schedule{24 * time.Hour, 24 * time.Hour}
		id, err := before.AddWebhook(t.Context(), org, w, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Close(); err != nil {
			t.Fatal(err)
		}
		db.Options.Retention = 48 * time.Hour
		s := db.Open(t)
		set := func(change func(w *trigger.Webhook)) error {
			_, err := s.SetWebhook(t.Context(), org, id, func(w *trigger.Webhook) error { change(w); return nil })
			return err
		}
		for what, change := range map[string]func(w *trigger.Webhook){
			"its description":     func(w *trigger.Webhook) { w.Description = "other" },
			"its secret":          func(w *trigger.Webhook) { w.Secrets = trigger.OneSecret(trigger.NewSecret([32]byte{9})) },
			"its state":           func(w *trigger.Webhook) { w.State = trigger.Paused },
			"its schedule, again": func(w *trigger.Webhook) { w.Schedule = trigger.Schedule{24 * time.Hour, 24 * time.Hour} },
		} {
			if err := set(change); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := set(func(w *trigger.Webhook) { w.Schedule[0] += time.Second }); trigger.KindOf(err) != trigger.Invalid {
			t.Errorf("another schedule that does not fit: %v", err)
		}
		if err := set(func(w *trigger.Webhook) { w.Schedule = trigger.Schedule{time.Hour} }); err != nil {
			t.Errorf("one that fits: %v", err)
		}
	})
}

// secretsInPlain lists what must not stand in the database when it is sealed.
func secretsInPlain(w trigger.Webhook) []string {
	return []string{
		strings.TrimPrefix(w.Secrets[0].Reveal(), "whsk_"), strings.TrimPrefix(w.Secrets[1].Reveal(), "whsec_"),
		string(w.Secrets[1].Stored()), "payments-canary", "open-sesame",
	}
}

// stored is all that stands in the rows of webhooks.
func stored(t *testing.T, db *storetest.DB) string {
	t.Helper()
	rows, err := db.SQL(t).QueryContext(t.Context(), `SELECT w.secret, w.config, w.sealed, v.config
		FROM webhooks w JOIN webhook_versions v ON v.webhook_id = w.id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all bytes.Buffer
	for rows.Next() {
		var secret, config, sealed, version []byte
		if err := rows.Scan(&secret, &config, &sealed, &version); err != nil {
			t.Fatal(err)
		}
		all.Write(bytes.Join([][]byte{secret, config, sealed, version}, []byte("\n")))
	}
	if rows.Err() != nil || all.Len() == 0 {
		t.Fatalf("no rows: %v", rows.Err())
	}
	return all.String()
}

// Secrets are sealed with the first key, those of before too, and open with
// any; without the key the database does not open, and says what to do.
func TestSecretsAreSealed(t *testing.T) {
	t.Parallel()
	keyA, keyB := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		want := full(t, org)
		var err error
		if want.ID, err = s.AddWebhook(t.Context(), org, want, store.Once{}); err != nil {
			t.Fatal(err)
		}
		deleted := storetest.NewOrganization(t, s)
		if _, err := s.AddWebhook(t.Context(), deleted, full(t, deleted), store.Once{}); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteOrganization(t.Context(), deleted); err != nil { // its webhooks are still there
			t.Fatal(err)
		}
		if text := stored(t, db); !strings.Contains(text, "open-sesame") {
			t.Error("the secrets were not stored in plain, so the test cannot see them")
		}
		for _, keys := range [][]string{{keyA}, {keyB, keyA}, {keyB}} {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			db.Options.SecretKeys = keys
			s = db.Open(t)
			got, err := s.Webhook(t.Context(), org, want.ID)
			if diff := cmp.Diff(shown(want), shown(got)); diff != "" || err != nil {
				t.Errorf("with %d keys: %v\n%s", len(keys), err, diff)
			}
			text := stored(t, db)
			for _, secret := range secretsInPlain(want) {
				if strings.Contains(text, secret) {
					t.Errorf("with %d keys, %q is stored", len(keys), secret)
				}
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, keys := range [][]string{nil, {keyA}} {
			o := db.Options
			o.SecretKeys = keys
			if s, err := store.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), "SECRET_KEY") {
				t.Errorf("opened with keys that do not open it: %v", err)
				_ = s.Close()
			}
		}
	})
}

// What a program before schema 3 has stored is read, and kept.
func TestWebhooksOfOlderPrograms(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		id := newWebhook(t, s, org, "user.*")
		exec(t, db, `UPDATE webhooks SET config = '', sealed = $2, secret = $1, filter = 'order.*'`,
			[]byte(strings.Repeat("k", 32)), []byte{})
		exec(t, db, `UPDATE organizations SET version = version + 1`)
		got, err := s.Webhook(t.Context(), org, id)
		if err != nil || got.Secrets[0].Reveal() != trigger.StoredSecret([]byte(strings.Repeat("k", 32))).Reveal() ||
			!cmp.Equal(got.Filter.TypeStrings(), []string{"order.*"}) {
			t.Errorf("read as %v, %v", shown(got), err)
		}
		if _, err := s.SetWebhook(t.Context(), org, id, func(w *trigger.Webhook) error { w.Rate = 5; return nil }); err != nil {
			t.Fatal(err)
		}
		again, err := s.Webhook(t.Context(), org, id)
		got.Rate = 5
		if diff := cmp.Diff(shown(got), shown(again)); diff != "" || err != nil {
			t.Errorf("changed: %v\n%s", err, diff)
		}
	})
}
