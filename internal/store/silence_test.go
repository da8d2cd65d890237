package store_test

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// What a server answers is lost on the way, and nobody closes the connection:
// the statement is given up as unknown, and its repeat finds what it has done.
func TestSilence(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		proxy := toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), "silence", "127.0.0.1:0", u.Host)
		if err := proxy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Stop)
		u.Host = proxy.Listen
		db.Options.PostgresURL, db.Options.OwnClock = u.String(), false
		s := db.Open(t)
		org := storetest.NewOrganization(t, s)
		add(t, s, []*trigger.Event{event(s, org, "first")}, trigger.InboxID) // statements are prepared now
		s.SetMaxSilence(300 * time.Millisecond)
		if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(`{"name":"hole","type":"timeout","attributes":{"timeout":0}}`)); err != nil {
			t.Fatal(err)
		}
		for name, work := range map[string]func(context.Context) error{
			"clock": s.SyncClock, "heartbeat": s.TouchNode,
			"lanes": func(ctx context.Context) error { _, err := s.Lanes(ctx, store.Lane{}, 10); return err },
		} {
			if err := work(t.Context()); trigger.KindOf(err) != trigger.Unavailable {
				t.Errorf("%s: %v, want Unavailable", name, err)
			}
		}
		e := event(s, org, "second")
		batch := &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}
		var verdicts []trigger.ID
		tries := 0
		err = store.RunBatch(t.Context(), time.Now, time.Minute, []*store.Batch{batch}, func(_ []*store.Batch, again bool) (err error) {
			if tries++; tries == 2 {
				if err := proxy.Toxics.RemoveToxic(t.Context(), "hole"); err != nil {
					t.Error(err)
				}
				s.SetMaxSilence(time.Minute)
			}
			verdicts, err = s.AddEvents(t.Context(), batch, again)
			return err
		}, func(_ *store.Batch, err error) { t.Error(err) })
		if err != nil || tries < 2 || verdicts[0] != e.ID {
			t.Errorf("after %d tries: %v, %v; want %v", tries, verdicts, err, e.ID)
		}
		if n := storetest.CountEvents(t, db.Open(t), org)[trigger.Pending]; n != 2 {
			t.Errorf("%d events, want 2", n)
		}
	})
}
