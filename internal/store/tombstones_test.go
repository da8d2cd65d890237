package store_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// secretive is a webhook with secrets in all places that can have one.
func secretive(word string) trigger.Webhook {
	return trigger.Webhook{
		State: trigger.Active, URL: "https://example.com/hook?key=URL" + word, Secrets: trigger.OneSecret(secretOf(word)),
		Headers: map[string]string{"X-Key": "HEADER" + word}, Auth: trigger.Auth{Bearer: "BEARER" + word},
		Description: "DESCRIPTION" + word, Metadata: map[string]string{"key": "METADATA" + word},
	}
}

// secretOf is a signing secret whose bytes begin with the word.
func secretOf(word string) trigger.Secret {
	return trigger.StoredSecret([]byte(fmt.Sprintf("%-32s", "SIGN"+word)))
}

// canaries are all texts by which a secret of the webhook can be found.
func canaries(word string) []string {
	return []string{
		"URL" + word, "HEADER" + word, "BEARER" + word, "DESCRIPTION" + word, "METADATA" + word,
		"SIGN" + word, strings.TrimPrefix(secretOf(word).Reveal(), "whsec_"),
	}
}

// dump is the content of all columns of all tables.
func dump(t *testing.T, db *storetest.DB) string {
	t.Helper()
	text := `SELECT name FROM sqlite_schema WHERE type = 'table'`
	if db.IsPostgres() {
		text = `SELECT table_name FROM information_schema.tables WHERE table_schema = 'triggerd' AND table_type = 'BASE TABLE'`
	}
	raw := db.SQL(t)
	var all strings.Builder
	for _, table := range scanRows(t, raw, text) {
		for _, row := range scanRows(t, raw, `SELECT * FROM `+table) {
			all.WriteString(table + ": " + row + "\n")
		}
	}
	return all.String()
}

// scanRows returns the rows of a query, each with its columns in a line.
func scanRows(t *testing.T, raw *sql.DB, text string) (list []string) {
	t.Helper()
	rows, err := raw.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		dest := make([]any, len(columns))
		for i := range dest {
			dest[i] = new(sql.RawBytes)
		}
		if err := rows.Scan(dest...); err != nil {
			t.Fatal(err)
		}
		values := make([]string, len(dest))
		for i := range dest {
			values[i] = string(*dest[i].(*sql.RawBytes))
		}
		list = append(list, strings.Join(values, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// asOlder makes the database of programs before schema 7 of a webhook: a
// tombstone that keeps all, with a URL in its versions.
func asOlder(t *testing.T, db *storetest.DB, id int64) {
	t.Helper()
	config, err := json.Marshal(map[string]any{"state": "active", "url": secretive("OLD").URL, "filter": "user.*"})
	if err != nil {
		t.Fatal(err)
	}
	exec(t, db, `UPDATE webhooks SET state = 'gone', gone_at = 0, secrets_until = 1 WHERE id = $1`, id)
	exec(t, db, `UPDATE webhook_versions SET config = $2, has_url = 1 WHERE webhook_id = $1`, id, string(config))
}

// asOlderRotates rotates a webhook's secret as a program before schema 7 does: it
// writes the columns that it knows, and a version.
func asOlderRotates(f *failing, overlap time.Duration) {
	f.t.Helper()
	var until, version int64
	raw := f.db.SQL(f.t)
	if err := raw.QueryRowContext(f.t.Context(), `SELECT secrets_until FROM webhooks WHERE id = $1`, f.hook).Scan(&until); err != nil {
		f.t.Fatal(err)
	}
	w, err := f.nodes[0].SetWebhook(f.t.Context(), f.org, f.hook, func(w *trigger.Webhook) error {
		w.Secrets = w.Secrets.Rotate(secretOf("NEW"), f.nodes[0].Now(), overlap)
		return nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := raw.QueryRowContext(f.t.Context(), `SELECT max(version) FROM webhook_versions WHERE webhook_id = $1`, f.hook).Scan(&version); err != nil {
		f.t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"state": w.State, "url": w.URL, "filter": ""})
	if err != nil {
		f.t.Fatal(err)
	}
	f.exec(`UPDATE webhooks SET secrets_until = $2 WHERE id = $1`, f.hook, until)
	f.exec(`UPDATE webhook_versions SET config = $3, has_url = 1 WHERE webhook_id = $1 AND version = $2`, f.hook, version, string(config))
}

// endings are the ways by which secrets of a webhook come to be needed no more.
// sweep is what the sweeper does.
func endings() map[string]func(f *failing, sweep func()) {
	change := func(f *failing, change func(w *trigger.Webhook)) {
		f.t.Helper()
		if _, err := f.nodes[0].SetWebhook(f.t.Context(), f.org, f.hook, func(w *trigger.Webhook) error { change(w); return nil }); err != nil {
			f.t.Fatal(err)
		}
	}
	return map[string]func(f *failing, sweep func()){
		"deleted": func(f *failing, _ func()) { f.set(trigger.Deleted, -1) },
		"deleted while paused": func(f *failing, _ func()) {
			f.set(trigger.Paused, -1)
			f.set(trigger.Deleted, -1)
		},
		"deleted when it was gone": func(f *failing, _ func()) {
			f.leave(f.hook)
			f.set(trigger.Deleted, -1)
		},
		"gone for long": func(f *failing, sweep func()) {
			f.leave(f.hook)
			f.db.Clock.Advance(25 * time.Hour)
			sweep()
		},
		"pushed out by others that are gone": func(f *failing, _ func()) {
			f.leave(f.hook)
			next := newWebhook(f.t, f.nodes[0], f.org, "")
			f.exec(`INSERT INTO webhooks (organization_id, state, url, filter, secret, created_at, gone_at)
				WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
				SELECT organization_id, 'ended', '', '', secret, created_at, CAST($2 AS bigint) + i FROM webhooks, n WHERE id = $1`,
				next, f.nodes[0].Now().Add(time.Hour).UnixMicro())
			f.leave(next)
		},
		"changed": func(f *failing, _ func()) {
			change(f, func(w *trigger.Webhook) {
				other := secretive("NEW")
				w.URL, w.Headers, w.Auth, w.Description, w.Metadata = other.URL, other.Headers, other.Auth, other.Description, other.Metadata
				w.Secrets = w.Secrets.Rotate(secretOf("NEW"), f.nodes[0].Now(), 0)
			})
		},
		"rotated, and the overlap is over": func(f *failing, sweep func()) {
			change(f, func(w *trigger.Webhook) {
				w.URL, w.Headers, w.Auth, w.Description, w.Metadata = "https://example.com/", nil, trigger.Auth{}, "", nil
				w.Secrets = w.Secrets.Rotate(secretOf("NEW"), f.nodes[0].Now(), time.Hour)
			})
			sweep()
			if secrets := f.webhook(f.hook).Secrets; len(secrets) != 2 {
				f.t.Errorf("%d secrets sign in the overlap", len(secrets))
			}
			f.db.Clock.Advance(time.Hour)
			sweep()
			if secrets := f.webhook(f.hook).Secrets; len(secrets) != 1 || secrets[0].Reveal() != secretOf("NEW").Reveal() {
				f.t.Errorf("%d secrets are left", len(secrets))
			}
		},
		"rotated by an older program": func(f *failing, sweep func()) {
			change(f, func(w *trigger.Webhook) {
				w.URL, w.Headers, w.Auth, w.Description, w.Metadata = "https://example.com/", nil, trigger.Auth{}, "", nil
			})
			sweep() // which sees that no secret ends
			asOlderRotates(f, time.Hour)
			sweep()
			if secrets := f.webhook(f.hook).Secrets; len(secrets) != 2 {
				f.t.Errorf("%d secrets sign in the overlap", len(secrets))
			}
			f.db.Clock.Advance(time.Hour)
			sweep()
		},
		"with its organization": func(f *failing, _ func()) {
			if err := f.nodes[0].DeleteOrganization(f.t.Context(), f.org); err != nil {
				f.t.Fatal(err)
			}
		},
		"by an older program": func(f *failing, sweep func()) {
			asOlder(f.t, f.db, f.hook)
			sweep()
		},
		"by an older program, and started": func(f *failing, _ func()) {
			asOlder(f.t, f.db, f.hook)
			if f.db.IsPostgres() { // else there is one server
				f.nodes[0] = f.db.Open(f.t)
			} else if err := f.nodes[0].Close(); err != nil {
				f.t.Fatal(err)
			} else {
				f.nodes[0] = f.db.Open(f.t)
			}
			if strings.Contains(dump(f.t, f.db), "BEARER") {
				f.t.Error("a start does not clear the row")
			}
			if err := f.nodes[0].DropGone(f.t.Context(), f.nodes[0].Now().Add(-24*time.Hour)); err != nil {
				f.t.Fatal(err)
			}
		},
	}
}

// No byte of a secret, or of a URL, is in any column of any table when nobody
// can use it any more, and none in the files of SQLite soon after.
func TestNoSecretIsLeft(t *testing.T) {
	t.Parallel()
	for name, end := range endings() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Each(t, func(t *testing.T, db *storetest.DB) {
				db.Options = db.Options.WithEmptyLog(50 * time.Millisecond)
				f := newFailing(t, db)
				f.leave(f.listener) // else it would be told of the URL
				var err error
				if f.hook, err = f.nodes[0].AddWebhook(t.Context(), f.org, secretive("OLD"), store.Once{}); err != nil {
					t.Fatal(err)
				}
				before := dump(t, db)
				for _, canary := range canaries("OLD") {
					if !strings.Contains(before, canary) {
						t.Errorf("%s is nowhere, so this test cannot see that it goes", canary)
					}
				}
				end(f, func() {
					t.Helper()
					if err := f.nodes[0].DropGone(t.Context(), f.nodes[0].Now().Add(-24*time.Hour)); err != nil {
						t.Fatal(err)
					}
				})
				after := dump(t, db)
				for _, canary := range canaries("OLD") {
					if at := strings.Index(after, canary); at >= 0 {
						t.Errorf("%s is left in %s", canary, after[strings.LastIndexByte(after[:at], '\n')+1:at])
					} else if !db.IsPostgres() {
						awaitNone(t, db, canary)
					}
				}
			})
		})
	}
}

// A webhook that is gone, and may be resumed, keeps all that it needs for that.
func TestGoneWebhookKeepsItsSettings(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		var err error
		if f.hook, err = f.nodes[0].AddWebhook(t.Context(), f.org, secretive("OLD"), store.Once{}); err != nil {
			t.Fatal(err)
		}
		want := shown(f.webhook(f.hook))
		f.leave(f.hook)
		if err := f.nodes[0].DropGone(t.Context(), f.nodes[0].Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		f.set(trigger.Active, -1)
		if diff := cmp.Diff(want, shown(f.webhook(f.hook))); diff != "" {
			t.Error(diff)
		}
	})
}

// What is left of deleted webhooks says why an event was not sent to them.
func TestTombstonesExplain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newFailing(t, db)
		s := f.nodes[0]
		picky := newWebhook(t, s, f.org, "other")
		old := event(s, f.org, "")
		subs, err := s.Subscribers(t.Context(), []int64{f.org})
		if err != nil {
			t.Fatal(err)
		}
		old.Version = subs[f.org].Version
		add(t, s, []*trigger.Event{old}, f.hook)
		for _, id := range []int64{f.hook, picky} {
			if err := s.SetWebhookState(t.Context(), f.org, id, trigger.Deleted); err != nil {
				t.Fatal(err)
			}
		}
		got := map[int64]trigger.VerdictKind{}
		verdicts, err := s.Why(t.Context(), f.org, old.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range verdicts {
			got[v.WebhookID] = v.Kind
		}
		want := map[int64]trigger.VerdictKind{
			f.hook: trigger.VerdictGone, picky: trigger.VerdictFiltered, f.listener: trigger.VerdictFiltered,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// exec runs a statement as the first node runs its own.
func (f *failing) exec(text string, args ...any) {
	f.t.Helper()
	if err := f.nodes[0].Exec(f.t.Context(), text, args...); err != nil {
		f.t.Fatal(err)
	}
}
