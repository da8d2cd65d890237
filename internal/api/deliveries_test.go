package api

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// mixture is what the tests below list: two webhooks and the inbox,
// with deliveries of each kind.
type mixture struct {
	*owner
	one, two int64
	events   []string
}

// newMixture posts 6 events: the first two are failed at one, the next two wait
// there for a retry, then one is new, and one goes to the inbox; all but that
// wait at two.
func newMixture(t *testing.T, db *storetest.DB) *mixture {
	t.Helper()
	f := &mixture{owner: newServer(t, db).newOwner(t)}
	f.one, f.two = f.hook(t, "a").ID, f.hook(t, "a").ID
	post := func(n int, types string) {
		for range n {
			f.events = append(f.events, f.accept(t, f.key, `{"type":"`+types+`","payload":1}`))
		}
	}
	post(2, "a")
	f.settle(t, f.key, f.one, trigger.Permanent)
	post(2, "a")
	f.settle(t, f.key, f.one, trigger.Transient)
	post(1, "a")
	post(1, "b")
	return f
}

// what names a delivery.
func what(d client.OwedDelivery) string {
	return fmt.Sprintf("%s to %d by %d: %s after %d, %s", d.EventID, d.WebhookID, d.ReplayID, d.Status, d.Attempts, d.Reason)
}

func (f *mixture) expected() (all []client.OwedDelivery) {
	for i, id := range f.events {
		one := client.OwedDelivery{EventID: id, WebhookID: f.one, Status: "open"}
		switch {
		case i < 2:
			one.Status, one.Attempts, one.Reason = "failed", 1, "refused"
		case i < 4:
			one.Attempts = 1
		case i == 5:
			one.WebhookID = trigger.InboxID
		}
		all = append(all, one)
		if i < 5 {
			all = append(all, client.OwedDelivery{EventID: id, WebhookID: f.two, Status: "open"})
		}
	}
	slices.SortFunc(all, func(a, b client.OwedDelivery) int {
		return cmp.Or(cmp.Compare(b.EventID, a.EventID), cmp.Compare(b.WebhookID, a.WebhookID))
	})
	return all
}

// All pages together list what is open or failed, each once, whatever is asked
// for.
func TestListDeliveries(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newMixture(t, db)
		all := f.expected()
		inbox, nobody := trigger.InboxID, f.two+100
		for _, status := range []string{"", "open", "failed"} {
			for _, webhook := range []*int64{nil, &f.one, &f.two, &inbox, &nobody} {
				var want []string
				for _, d := range all {
					if (status == "" || d.Status == status) && (webhook == nil || *webhook == d.WebhookID) {
						want = append(want, what(d))
					}
				}
				for _, limit := range []int{1, 2, 3, 11, 100} {
					var got []string
					for d, err := range f.Deliveries(t.Context(), client.DeliveryQuery{Status: status, WebhookID: webhook, Limit: limit}) {
						got = append(got, what(sure(d, err)(t)))
					}
					if diff := gocmp.Diff(want, got); diff != "" {
						t.Errorf("%q of %v by %d:\n%s", status, webhook, limit, diff)
					}
				}
			}
		}
		if page := sure(f.newOwner(t).DeliveriesPage(t.Context(), client.DeliveryQuery{}, ""))(t); len(page.Data) != 0 || page.NextCursor != "" {
			t.Errorf("another organization's: %+v", page)
		}
	})
}

// A delivery says when it is tried next, unless someone is at it.
func TestDeliveryTimes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newMixture(t, db)
		now, org := f.store.Now(), f.keyOf(t, f.key).Organization.ID
		want := store.Want{Bucket: trigger.Bucket(org), WebhookID: f.two, Room: 1}
		taken, err := f.store.Claim(t.Context(), []store.Want{want}, f.store.NewClaim(), now, now.Add(time.Minute))
		if err != nil || len(taken) != 1 {
			t.Fatalf("claimed %v, %v", taken, err)
		}
		replay := sure(f.CreateReplay(t.Context(), client.ReplayInput{WebhookID: f.one}))(t)
		db.Clock.Advance(time.Minute / 2)
		for range 2 {
			if err := f.store.SyncClock(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		db.Clock.Advance(time.Second)
		job, err := f.store.Replay(t.Context(), org, replay.ID)
		if err == nil {
			_, err = f.store.FeedReplay(t.Context(), job)
		}
		if err != nil {
			t.Fatal(err)
		}
		claimed, replayed := 0, 0
		for d, err := range f.Deliveries(t.Context(), client.DeliveryQuery{}) {
			mine := sure(d, err)(t).EventID == taken[0].EventID.String() && d.WebhookID == f.two
			if d.Claimed != mine || d.NextAttemptAt.IsZero() != (mine || d.Status == "failed") {
				t.Errorf("%+v", d)
			}
			if d.Claimed {
				claimed++
			}
			if d.ReplayID == replay.ID && d.Status == "open" && d.WebhookID == f.one {
				replayed++
			}
		}
		if claimed != 1 || replayed != 5 {
			t.Errorf("%d are claimed, %d of a replay", claimed, replayed)
		}
		db.Clock.Advance(time.Minute) // whoever was at it has died
		if err := f.store.SyncClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		for d, err := range f.Deliveries(t.Context(), client.DeliveryQuery{}) {
			if sure(d, err)(t).Claimed {
				t.Errorf("still claimed: %+v", d)
			}
		}
	})
}

// Attempts are listed by webhook, the inbox too, by outcome and by replay.
func TestListAttempts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		f := newMixture(t, db)
		f.settle(t, f.key, f.two, trigger.Success)
		claim, err := f.ClaimInbox(t.Context(), client.ClaimInput{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.AckInbox(t.Context(), claim.ID, f.events[5:]); err != nil {
			t.Fatal(err)
		}
		resent := sure(f.ResendEvent(t.Context(), f.events[4], f.two))(t)
		f.settleReplay(t, resent.ReplayID, trigger.Success)
		count := func(query string) (n int) {
			for _, limit := range []string{"1", "2", "100"} {
				path, cursor, found := "/v1/attempts?limit="+limit+query, "", 0
				for more := true; more; more = cursor != "" {
					page := f.page(t, path, cursor)
					found += len(page.Data)
					cursor = page.NextCursor
				}
				if n = found; limit != "100" && found != count100(f, t, query) {
					t.Errorf("%s: %d by %s", query, found, limit)
				}
			}
			return n
		}
		for query, want := range map[string]int{
			"": 11, fmt.Sprintf("&webhook_id=%d", f.one): 4, fmt.Sprintf("&webhook_id=%d", f.two): 6, "&webhook_id=0": 1, "&webhook_id=1000": 0,
			"&outcome=success": 7, "&outcome=transient": 2, "&outcome=permanent": 2, "&outcome=gone": 0,
			fmt.Sprintf("&replay_id=%d", resent.ReplayID): 1, "&replay_id=1000": 0,
		} {
			if got := count(query); got != want {
				t.Errorf("%s: %d, want %d", query, got, want)
			}
		}
		var before string
		for a, err := range f.Attempts(t.Context(), client.AttemptQuery{WebhookID: &f.one}) {
			if sure(a, err)(t); before != "" && a.EventID > before || a.Number != 1 || a.Error != "refused" || a.At.IsZero() {
				t.Errorf("%+v after %s", a, before)
			}
			before = a.EventID
		}
	})
}

func count100(f *mixture, t *testing.T, query string) int {
	t.Helper()
	return len(f.page(t, "/v1/attempts?limit=100"+query, "").Data)
}

// page reads a page of attempts.
func (f *mixture) page(t *testing.T, path, cursor string) (p client.Page[client.Attempt]) {
	t.Helper()
	if cursor != "" {
		path += "&cursor=" + cursor
	}
	r := f.ask(t, "GET", path, "")
	if r.status != 200 || json.Unmarshal([]byte(r.body), &p) != nil {
		t.Fatalf("%s: %d %.300s", path, r.status, r.body)
	}
	return p
}

func TestDeliveryParameters(t *testing.T) {
	t.Parallel()
	f := newMixture(t, storetest.SQLite(t))
	for query, at := range map[string]string{
		"deliveries?status=pending": "status", "deliveries?status=": "status", "deliveries?webhook_id=-1": "webhook_id", "deliveries?webhook_id=": "webhook_id",
		"deliveries?limit=101": "limit", "deliveries?outcome=success": "outcome", "attempts?outcome=failed": "outcome", "attempts?replay_id=0": "replay_id",
		"attempts?replay_id=x": "replay_id", "attempts?webhook_id=x": "webhook_id", "attempts?status=open": "status", "attempts?limit=0": "limit",
	} {
		f.refuses(t, "GET", "/v1/"+query, "", "invalid_parameter", at)
	}
	first := sure(f.DeliveriesPage(t.Context(), client.DeliveryQuery{Limit: 1}, ""))(t)
	other := f.newOwner(t)
	for _, path := range []string{"/v1/deliveries?status=open&cursor=", "/v1/attempts?cursor=", "/v1/deliveries?webhook_id=1&cursor="} {
		f.refuses(t, "GET", path+first.NextCursor, "", "invalid_cursor", "cursor")
	}
	for _, cursor := range []string{"", "x", first.NextCursor + "AAAA", first.NextCursor[:len(first.NextCursor)-4]} {
		f.refuses(t, "GET", "/v1/deliveries?cursor="+cursor, "", "invalid_cursor", "cursor")
	}
	other.refuses(t, "GET", "/v1/deliveries?cursor="+first.NextCursor, "", "invalid_cursor", "cursor")
}
