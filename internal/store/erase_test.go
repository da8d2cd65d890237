package store_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// tablesOf counts the rows that an organization has, by table: of all tables
// that the database says have owners, and those of its webhooks.
func tablesOf(t *testing.T, db *storetest.DB, orgID int64) map[string]int {
	t.Helper()
	text := `SELECT m.name, 'organization_id' FROM sqlite_schema m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND c.name = 'organization_id'
		UNION SELECT m.name, 'webhook_id' FROM sqlite_schema m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND c.name = 'webhook_id' AND m.name LIKE 'webhook%'`
	if db.IsPostgres() {
		text = `SELECT table_name, 'organization_id' FROM information_schema.columns c JOIN information_schema.tables USING (table_schema, table_name)
			WHERE table_schema = 'triggerd' AND table_type = 'BASE TABLE' AND column_name = 'organization_id'
				AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhrelid = ('triggerd.' || quote_ident(table_name))::regclass)
			UNION SELECT table_name, 'webhook_id' FROM information_schema.columns
			WHERE table_schema = 'triggerd' AND column_name = 'webhook_id' AND table_name LIKE 'webhook%'`
	}
	raw := db.SQL(t)
	rows, err := raw.QueryContext(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	counts := []string{fmt.Sprintf("SELECT 'organizations' AS name, count(*) AS n FROM organizations WHERE id = %d", orgID)}
	for rows.Next() {
		var table, column string
		if err := rows.Scan(&table, &column); err != nil {
			t.Fatal(err)
		}
		where := fmt.Sprintf("organization_id = %d", orgID)
		if column == "webhook_id" {
			// Of an organization that is gone nobody knows which they were.
			where = fmt.Sprintf("webhook_id NOT IN (SELECT id FROM webhooks WHERE organization_id <> %d)", orgID)
		}
		counts = append(counts, fmt.Sprintf("SELECT '%s by %s', count(*) FROM %s WHERE %s", table, column, table, where))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	found, err := raw.QueryContext(t.Context(), strings.Join(counts, " UNION ALL "))
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	n := map[string]int{}
	for found.Next() {
		var table string
		var count int
		if err := found.Scan(&table, &count); err != nil {
			t.Fatal(err)
		}
		n[table] = count
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}

// live has an organization do all that there is to do.
func live(t *testing.T, s *store.Store, orgID int64) {
	t.Helper()
	ctx := t.Context()
	good, bad := newWebhook(t, s, orgID, ""), newWebhook(t, s, orgID, "user.*")
	newWebhook(t, s, orgID, "webhook.*")
	gone := newWebhook(t, s, orgID, "")
	if err := s.SetWebhookState(ctx, orgID, gone, trigger.Deleted); err != nil {
		t.Fatal(err)
	}
	var some []*trigger.Event
	for i := range 5 {
		some = append(some, event(s, orgID, fmt.Sprintf("dedup %d", i)))
	}
	add(t, s, append(some, events(s, orgID, 510)...), good, bad, 0) // more than are erased at a time
	unwanted := event(s, orgID, "")
	add(t, s, []*trigger.Event{unwanted})
	var results []store.Result
	for i, d := range claimAll(t, s, orgID, good, time.Minute) {
		results = append(results, result(s, d, [...]trigger.Outcome{trigger.Success, trigger.Permanent}[i%2]))
	}
	for _, d := range claimAll(t, s, orgID, bad, time.Minute)[:1] {
		results = append(results, result(s, d, trigger.Transient))
	}
	if err := s.Finish(ctx, results); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddReplay(ctx, orgID, trigger.Replay{WebhookID: good}, store.Once{Key: "replay"}); err != nil {
		t.Fatal(err)
	}
	if job, err := s.Resend(ctx, orgID, unwanted.ID, bad, store.Once{}); err != nil || job == 0 {
		t.Fatalf("replay %d: %v", job, err)
	}
	addKey(t, s, orgID, trigger.APIKey{Scopes: trigger.ScopeRead})
	if _, _, err := s.SetEventType(ctx, orgID, trigger.EventType{Name: "user.created", Mode: trigger.ValidationWarn}); err != nil {
		t.Fatal(err)
	}
	if ok, _, err := s.TakePermits(ctx, orgID, 100, 1); err != nil || !ok {
		t.Fatal(err)
	}
}

// A deleted organization leaves no row in any table, and another one keeps all
// of its own.
func TestErase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := db.Open(t)
		org, other := storetest.NewOrganization(t, s), storetest.NewOrganization(t, s)
		live(t, s, org)
		live(t, s, other)
		before, theirs := tablesOf(t, db, org), tablesOf(t, db, other)
		for table, n := range before {
			if n == 0 {
				t.Errorf("nothing is in %s, so this test cannot see that it goes", table)
			}
		}
		if len(before) < 13 {
			t.Errorf("only %v have owners", slices.Sorted(maps.Keys(before)))
		}
		if err := s.Erase(t.Context()); err != nil { // nobody is to go
			t.Fatal(err)
		}
		if err := s.DeleteOrganization(t.Context(), org); err != nil {
			t.Fatal(err)
		}
		if err := s.Erase(t.Context()); err != nil { // not yet
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, tablesOf(t, db, org)); diff != "" {
			t.Errorf("erased at once: %s", diff)
		}
		db.Clock.Advance(2 * time.Minute)
		for range 2 { // a second time it does nothing
			if err := s.Erase(t.Context()); err != nil {
				t.Fatal(err)
			}
			for table, n := range tablesOf(t, db, org) {
				if n != 0 {
					t.Errorf("%d rows are left in %s", n, table)
				}
			}
			if diff := cmp.Diff(theirs, tablesOf(t, db, other)); diff != "" {
				t.Errorf("another organization's rows: %s", diff)
			}
		}
		if id := storetest.NewOrganization(t, s); id <= other {
			t.Errorf("the id %d is used again", id)
		}
	})
}
