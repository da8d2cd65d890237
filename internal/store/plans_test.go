package store_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// A queue that was empty when PostgreSQL last looked is huge a moment later,
// and the plan is still the same: each row that is asked for is found by its
// whole key, or in the order of what is due.
func TestPlansOfEmptyQueue(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		db.Open(t) // makes the tables
		raw := db.SQL(t)
		conn, err := raw.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		exec := func(text string) {
			t.Helper()
			if _, err := conn.ExecContext(context.WithoutCancel(t.Context()), text); err != nil {
				t.Fatal(err)
			}
		}
		exec("VACUUM (ANALYZE) deliveries")
		exec("SET enable_seqscan = off")
		exec("SET plan_cache_mode = force_generic_plan")
		explain := func(text string, args []string) (plan string) {
			t.Helper()
			exec("PREPARE hot AS " + text)
			defer exec("DEALLOCATE hot")
			rows, err := conn.QueryContext(t.Context(), "EXPLAIN EXECUTE hot ("+strings.Join(args, ", ")+")")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var line string
				if err := rows.Scan(&line); err != nil {
					t.Fatal(err)
				}
				plan += line + "\n"
			}
			if err := rows.Err(); err != nil {
				t.Fatal(err)
			}
			return plan
		}
		scan := regexp.MustCompile(`Index (?:Only )?Scan using \S+ on deliveries.*\n *(.*)\n`)
		scans := 0
		for text, args := range store.HotStatements() {
			plan := explain(text, args)
			if strings.Contains(plan, "Seq Scan on deliveries") {
				t.Errorf("all of the table is read:\n%s", plan)
			}
			for _, found := range scan.FindAllStringSubmatch(plan, -1) {
				scans++
				key := strings.Contains(found[1], "event_id = ") && strings.Contains(found[1], "organization_id = ")
				due := strings.Contains(found[1], "due_at >= ") && strings.Contains(found[1], "bucket = ")
				if !strings.HasPrefix(found[1], "Index Cond: ") || !key && !due {
					t.Errorf("not by a key: %s, in\n%s", found[1], plan)
				}
			}
		}
		if scans < 4 {
			t.Errorf("only %d scans were found in the plans", scans)
		}
	})
}
