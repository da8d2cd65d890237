package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestJudgeEntries(t *testing.T) {
	t.Parallel()
	single, batch, again, noop := load{adds: 1}, load{adds: 100}, load{repeats: 1}, load{}
	before := entry{accepted: 1000, rows: 900, cached: 50, stored: 5}
	tests := []struct {
		name       string
		load       load
		grown      entry
		unanswered int
		want       string // of the error; "": none
	}{
		{"all stored", single, entry{accepted: 10, rows: 10}, 0, ""},
		{"one is missing", single, entry{accepted: 10, rows: 9}, 0, "9 rows of events in the database, want 10 to 10"},
		{"one is not counted", single, entry{accepted: 9, rows: 10}, 0, "9 events that the server says"},
		{"one too many", single, entry{accepted: 11, rows: 11}, 0, "11 events"},
		{"in flight", single, entry{accepted: 12, rows: 12}, 2, ""},
		{"more than in flight", single, entry{accepted: 13, rows: 13}, 2, "13 events"},
		{"they differ", single, entry{accepted: 12, rows: 11}, 2, "the database has 11 more"},
		{"a duplicate", single, entry{accepted: 10, rows: 10, cached: 1}, 0, "1 duplicates found in the cache"},
		{"batches", batch, entry{accepted: 1100, rows: 1100}, 1, ""},
		{"a part of a batch", batch, entry{accepted: 999, rows: 999}, 1, "999 events"},
		{"duplicates", again, entry{cached: 11}, 1, ""},
		{"a duplicate that was stored", again, entry{cached: 10, accepted: 1, rows: 1}, 1, "1 events"},
		{"not from the cache", again, entry{cached: 10, stored: 1}, 1, "1 duplicates found in the database"},
		{"nothing", noop, entry{}, 256, ""},
		{"something", noop, entry{accepted: 1, rows: 1}, 256, "want 0 to 0"},
	}
	for _, tt := range tests {
		after := entry{
			accepted: before.accepted + tt.grown.accepted, rows: before.rows + tt.grown.rows,
			cached: before.cached + tt.grown.cached, stored: before.stored + tt.grown.stored,
		}
		err := tt.load.judge(before, after, 10, tt.unanswered)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestQuiet(t *testing.T) {
	t.Parallel()
	said := []entry{{rows: 1}, {rows: 2}, {rows: 2, queued: 7}, {rows: 3}, {rows: 3, mallocs: 9}, {rows: 4}}
	got, err := quiet(t.Context(), func(context.Context) (entry, error) {
		next := said[0]
		said = said[1:]
		return next, nil
	})
	if err != nil || got != (entry{rows: 3, mallocs: 9}) {
		t.Errorf("%+v, %v, want the first that is like the one before", got, err)
	}
	gone := errors.New("gone")
	if _, err := quiet(t.Context(), func(context.Context) (entry, error) { return entry{}, gone }); !errors.Is(err, gone) {
		t.Errorf("%v, want %v", err, gone)
	}
}
