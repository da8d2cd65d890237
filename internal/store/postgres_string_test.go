package store_test

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
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

// A setting of the driver's own with which statements fail is refused by its
// name, before anything is made.
func TestDriverSettings(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		for _, c := range []struct{ setting, refused string }{
			{"default_query_exec_mode=simple_protocol", "default_query_exec_mode must be cache_statement"},
			{"default_query_exec_mode=exec", "got exec"},
			{"default_query_exec_mode=cache_statement", ""},
			{"default_query_exec_mode=cache_describe", ""},
			{"default_query_exec_mode=describe_exec", ""},
			{"statement_cache_capacity=0", "statement_cache_capacity must be at least 1; got 0"},
			{"description_cache_capacity=0", ""},
			{"default_query_exec_mode=cache_describe&description_cache_capacity=0", "description_cache_capacity must be at least 1; got 0"},
		} {
			o := db.Options
			o.PostgresURL = changed(t, o.PostgresURL, func(u *url.URL) { u.RawQuery += "&" + c.setting })
			s, err := store.Open(t.Context(), o)
			if err != nil {
				if c.refused == "" || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), "DATABASE_URL") {
					t.Errorf("%s: %v, want %q in it", c.setting, err, c.refused)
				}
				continue
			}
			if c.refused != "" {
				t.Errorf("%s: it is taken", c.setting)
			}
			e := event(s, storetest.NewOrganization(t, s), c.setting)
			_, err = s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}, false)
			if err != nil {
				t.Errorf("%s: %v", c.setting, err)
			}
			if _, _, err := s.ClaimInbox(t.Context(), e.OrganizationID, store.InboxPage{Limit: 1, Bytes: 1 << 20}, e.ID, time.Minute); err != nil {
				t.Errorf("%s: claim: %v", c.setting, err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: close: %v", c.setting, err)
			}
		}
	})
}
