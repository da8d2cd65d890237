package ingest_test

import (
	"bytes"
	"net"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// cutter is a proxy before PostgreSQL that cuts a connection between a commit
// and its answer: when a marker has gone to the server, the next thing that
// comes back is swallowed, and the connection closed.
type cutter struct {
	net.Listener
	target string
	marker []byte
	cuts   atomic.Int64 // how many more to make
}

func newCutter(t *testing.T, db *storetest.DB, marker string, cuts int64) *cutter {
	t.Helper()
	u, err := url.Parse(db.Options.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{Listener: l, target: u.Host, marker: []byte(marker)}
	c.cuts.Store(cuts)
	u.Host = l.Addr().String()
	db.Options.PostgresURL = u.String()
	t.Cleanup(func() { l.Close() })
	go c.serve()
	return c
}

func (c *cutter) serve() {
	for {
		client, err := c.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", c.target)
		if err != nil {
			client.Close()
			continue
		}
		var marked atomic.Bool
		go copyUntil(server, client, func(b []byte) bool {
			if bytes.Contains(b, c.marker) && c.cuts.Add(-1) >= 0 {
				marked.Store(true)
			}
			return false
		})
		go copyUntil(client, server, func([]byte) bool { return marked.Load() })
	}
}

// copyUntil copies until one side ends or stop says so of what has come, and
// then closes both.
func copyUntil(to, from net.Conn, stop func([]byte) bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 1<<16)
	for {
		n, err := from.Read(buf)
		if n > 0 && (stop(buf[:n]) || write(to, buf[:n]) != nil) || err != nil {
			return
		}
	}
}

func write(to net.Conn, b []byte) error {
	_, err := to.Write(b)
	return err
}

// The answer of a commit is lost: the event is accepted all the same, once,
// and its claimed delivery is handed off once.
func TestCutBetweenCommitAndAnswer(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		const marker = "cut-here"
		proxy := newCutter(t, db, marker, 0)
		f := start(t, db, db.Open(t), 1000)
		if _, err := f.Add(t.Context(), f.event("user.created", "warm")); err != nil { // statements are prepared now
			t.Fatal(err)
		}
		proxy.cuts.Store(3)
		seen := map[trigger.ID]bool{}
		for _, dedupID := range []string{"a", "", "b"} {
			e := f.event("user.created", dedupID)
			e.Payload = []byte(`"` + marker + `"`)
			r, err := f.Add(t.Context(), e)
			if err != nil || r.Duplicate {
				t.Errorf("dedup id %q: %+v, %v; want accepted", dedupID, r, err)
			}
			seen[r.EventID] = true
		}
		f.stop()
		if proxy.cuts.Load() >= 0 {
			t.Errorf("%d cuts were not made", proxy.cuts.Load())
		}
		if n := storetest.CountEvents(t, f.store, f.org)[trigger.Pending]; n != 4 || len(seen) != 3 || len(f.lanes.taken) != 4 {
			t.Errorf("%d events stored, %d ids, %d handed off; want 4, 3 and 4", n, len(seen), len(f.lanes.taken))
		}
	})
}

// While the database cannot be reached there is no answer but 503, and when it
// is back there is no need for a restart.
func TestDatabaseAway(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		const marker = "cut-here"
		proxy := newCutter(t, db, marker, 1<<40)
		f := start(t, db, db.Open(t), 1000)
		e := f.event("user.created", "a")
		e.Payload = []byte(`"` + marker + `"`)
		begun := time.Now()
		if _, err := f.Add(t.Context(), e); trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("%v after %v, want Unavailable", err, time.Since(begun))
		}
		proxy.cuts.Store(0)
		again := f.event("user.created", "a")
		if _, err := f.Add(t.Context(), again); err != nil {
			t.Error(err)
		}
		if n := storetest.CountEvents(t, f.store, f.org)[trigger.Pending]; n != 1 {
			t.Errorf("%d events stored, want 1", n)
		}
	})
}
