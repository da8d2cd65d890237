package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

func TestInboxOrderAndLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		s.do(t, "GET", "/api/inbox", key, "").isExactly(t, "empty", 200, `{"events":[],"count":0}`)
		s.do(t, "GET", "/api/inbox?status=failed&limit=100", key, "").isExactly(t, "empty", 200, `{"events":[],"count":0}`)
		before := time.Now().Add(-2 * time.Millisecond) // shown are whole ones
		var ids []string
		for i := range 103 {
			ids = append(ids, s.accept(t, key, `{"type":"t","payload":`+strconv.Itoa(i)+`}`))
		}
		slices.Reverse(ids)
		for query, n := range map[string]int{
			"": 10, "?": 10, "?limit=1": 1, "?limit=2": 2, "?limit=11": 11, "?limit=99": 99, "?limit=100": 100, "?status=pending": 10,
			"?status=pending&limit=20": 20, "?limit=100&status=pending": 100, "?status=delivered": 0, "?status=failed&limit=5": 0,
			"?unknown=1&limit=3": 3, "?Limit=0&STATUS=x": 10, "?limit=%31%30%30": 100, "?li%6Dit=4": 4, "?limits=0": 10,
		} {
			if got := s.inbox(t, key, query).ids(); !slices.Equal(got, ids[:n]) {
				t.Errorf("inbox%s: %d events, want the newest %d", query, len(got), n)
			}
		}
		for i, e := range s.inbox(t, key, "?limit=100").Events {
			at, err := time.Parse("2006-01-02T15:04:05.000Z", e.CreatedAt)
			if err != nil || e.CreatedAt != createdAt(t, e.ID) || at.Before(before) || at.After(time.Now()) {
				t.Errorf("event %d was created at %s", i, e.CreatedAt)
			}
			if e.ID != strings.ToLower(e.ID) || string(e.Payload) != strconv.Itoa(102-i) || e.Type != "t" {
				t.Errorf("event %d is %+v", i, e)
			}
		}
	})
}

func TestInboxRefuses(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for _, value := range []string{
			"", "0", "101", "1000", "-1", "-0", "+1", "%2B1", "%201", "1%20", "1%00", "00", "1.0", "1e1", "0x1", "1_0", "ten", "NaN", "null",
			"true", "[]", "%D9%A1", "\u0661", "1,2", "9223372036854775808", "18446744073709551617", strings.Repeat("9", 400),
			"10'%20OR%20'1'='1", "1);DROP%20TABLE%20events;--", "10%0d%0aX-A:%20b", "10&limit=10", "10&limit=", "&limit=1", "1&status=",
		} {
			s.do(t, "GET", "/api/inbox?limit="+value, key, "").wants(t, "limit="+value, 400, `{"error":"`)
		}
		for _, value := range []string{
			"", "Pending", "PENDING", "pending%20", "%20pending", "pend", "open", "all", "*", "null", "0", "pending,failed", "accepted", "ended",
			"pending&status=pending", "pending&status=failed", "pending&status=", "&status=pending", "pending%00", "pending'--", "%ff",
			"pending'%20UNION%20SELECT%20key%20FROM%20api_keys--", "failed;limit=1", "%zz", "failed&limit=0", "1&limit=1",
		} {
			s.do(t, "GET", "/api/inbox?status="+value, key, "").wants(t, "status="+value, 400, `{"error":"`)
		}
		for _, query := range []string{"limit", "status", "limit&status", "limit=5;status=failed", "%", "limit=%", "a=%f&limit=5"} {
			s.do(t, "GET", "/api/inbox?"+query, key, "").wants(t, query, 400, `{"error":"`)
		}
	})
}

// pending until nothing that was owed is open, then failed if one of it
// ended so, else delivered.
func TestInboxStatus(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		both := s.newWebhook(t, key, `{"url":"https://example.com/1","event_type_filter":"a.*"}`)
		one := s.newWebhook(t, key, `{"url":"https://example.com/2","event_type_filter":"a.b.*"}`)
		owed := map[string]string{"0": "none", "1": "a.1", "2": "a.b.2"}
		ids := map[string]string{}
		for _, n := range []string{"0", "1", "2"} {
			ids[n] = s.accept(t, key, fmt.Sprintf(`{"type":%q,"payload":1}`, owed[n]))
		}
		check := func(step, pending, delivered, failed string) {
			t.Helper()
			for status, want := range map[string]string{"pending": pending, "delivered": delivered, "failed": failed} {
				var list []string
				for _, n := range strings.Split(want, "") {
					list = append(list, ids[n])
				}
				page := s.inbox(t, key, "?status="+status)
				if !slices.Equal(page.ids(), list) {
					t.Errorf("%s: %s are %v, want %s of %v", step, status, page.ids(), want, ids)
				}
				for _, e := range page.Events {
					if e.Status != status {
						t.Errorf("%s: %s is listed as %s", step, e.Status, status)
					}
				}
				for _, e := range s.inbox(t, key, "").Events {
					if slices.Contains(list, e.ID) && e.Status != status {
						t.Errorf("%s: %s shows %s, want %s", step, e.ID, e.Status, status)
					}
				}
			}
		}
		check("at first", "210", "", "")
		s.settle(t, key, one, trigger.Permanent)
		check("one of two failed", "210", "", "")
		s.settle(t, key, both, trigger.Success)
		check("all are done", "0", "1", "2")
		ids["3"] = s.accept(t, key, `{"type":"a.b","payload":1}`)
		s.settle(t, key, both, trigger.Transient)
		check("tried again later", "30", "1", "2")
	})
}
