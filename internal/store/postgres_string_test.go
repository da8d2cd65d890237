package store_test

import (
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// A part of a password that is read as a setting is not in what the server says
// about it.
func TestSettingThatIsNotTakenIsNotTold(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		for _, part := range []string{"&tiger=1", "&work_mem=tiger", "&role=tiger"} {
			o := db.Options
			o.PostgresURL += "?" + part[1:]
			if strings.Contains(db.Options.PostgresURL, "?") {
				o.PostgresURL = db.Options.PostgresURL + part
			}
			s, err := store.Open(t.Context(), o)
			if err == nil {
				s.Close()
				t.Fatalf("%s: it is taken", part)
			}
			if strings.Contains(err.Error(), "tiger") || !strings.Contains(err.Error(), "does not take a setting") {
				t.Errorf("%s: the error is %v", part, err)
			}
		}
	})
}
