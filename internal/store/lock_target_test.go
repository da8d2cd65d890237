package store_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// One server at a time uses a database, also where a data folder has a link to
// the database of another one.
func TestLinkToDatabaseInUse(t *testing.T) {
	t.Parallel()
	for _, linkFirst := range []bool{false, true} {
		db := storetest.SQLite(t)
		link := db.Options
		link.DataDir = t.TempDir()
		if err := os.Symlink(filepath.Join(db.Options.DataDir, "triggerd.db"), filepath.Join(link.DataDir, "triggerd.db")); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), db.Options) // makes the database
		if err != nil {
			t.Fatal(err)
		}
		second := link
		if linkFirst {
			second = db.Options
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if s, err = store.Open(t.Context(), link); err != nil {
				t.Fatal(err)
			}
		}
		if other, err := store.Open(t.Context(), second); err == nil || !strings.Contains(err.Error(), "another triggerd already uses the data folder") {
			t.Errorf("link first: %v: two servers on one database: %v", linkFirst, err)
			if err == nil {
				_ = other.Close()
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s, err = store.Open(t.Context(), second)
		if err != nil {
			t.Fatalf("after the first has stopped: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
