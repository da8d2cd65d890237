package api

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/store/storetest"
)

// Accepting an event begins with the look-up of its key, which must not wait
// for those who read inboxes: here they do not get on at all, and hold all the
// connections that there are for them.
func TestKeysDoNotWaitForInboxes(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		slow, honest := s.newKey(t, "free"), s.newKey(t, "free")
		s.inbox(t, slow, "") // now its key is cached
		conn, err := pgx.Connect(t.Context(), db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		if _, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE triggerd.events"); err != nil {
			t.Fatal(err)
		}
		var reading sync.WaitGroup
		defer reading.Wait()
		answered := make(chan struct{}, 100)
		for range cap(answered) {
			reading.Go(func() {
				s.do(t, "GET", "/api/inbox", slow, "").wants(t, "a locked inbox", 503, "")
				answered <- struct{}{}
			})
		}
		eventually(t, "their connections are all in use", func() bool { return s.store.Stats().InUse >= 3 }) // of 10, 3 are for events, 1 is the server's own, and they get half of 6
		s.post(t, honest, `{`).wants(t, "another organization", 400, "")
		if n := len(answered); n > 0 {
			t.Errorf("%d inboxes were answered before it", n)
		}
	})
}
