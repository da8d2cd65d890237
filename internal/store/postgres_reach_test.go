package store_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// changed is a URL with a change.
func changed(t *testing.T, from string, change func(u *url.URL)) string {
	t.Helper()
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	change(u)
	return u.String()
}

// as is a URL for another role, whose password is its name.
func as(t *testing.T, from, role string) string {
	t.Helper()
	return changed(t, from, func(u *url.URL) { u.User = url.UserPassword(role, role) })
}

// execAll runs statements.
func execAll(t *testing.T, raw *sql.DB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if _, err := raw.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
}

// forget passes on a start-up of a connection with user and database alone, as
// PgBouncer does with ignore_startup_parameters.
func forget(client, server net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(client, size[:]); err != nil {
		return err
	}
	message := make([]byte, binary.BigEndian.Uint32(size[:])-4)
	if _, err := io.ReadFull(client, message); err != nil {
		return err
	}
	if fields := bytes.Split(message[4:], []byte{0}); binary.BigEndian.Uint32(message) == 196608 { // a start-up, of protocol 3.0
		kept := bytes.Clone(message[:4])
		for i := 0; i+1 < len(fields); i += 2 {
			if name := string(fields[i]); name == "user" || name == "database" {
				kept = append(append(append(append(kept, fields[i]...), 0), fields[i+1]...), 0)
			}
		}
		message = append(kept, 0)
	}
	binary.BigEndian.PutUint32(size[:], uint32(len(message)+4))
	_, err := server.Write(append(size[:], message...))
	return err
}

// A pooler that drops the settings of our connections is refused before anything
// is made: it would be made elsewhere.
func TestLostSettingsAreRefused(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		direct := db.Options.PostgresURL
		db.Options.PostgresURL = changed(t, direct, func(u *url.URL) {
			query := u.Query()
			query.Set("sslmode", "disable")
			u.Host, u.RawQuery = storetest.Relay(t, "127.0.0.1:0", u.Host, forget), query.Encode()
		})
		s, err := store.Open(t.Context(), db.Options)
		if err == nil {
			s.Close()
			t.Fatal("it is taken")
		}
		for _, part := range []string{"search_path", "lock_timeout", "PgBouncer", "connect to PostgreSQL directly"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q says nothing of %q", err, part)
			}
		}
		if errors.Is(err, store.ErrStarting) {
			t.Error("it is waited for")
		}
		db.Options.PostgresURL = direct
		var tables int
		if err := db.SQL(t).QueryRowContext(t.Context(), "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").Scan(&tables); err != nil || tables != 0 {
			t.Errorf("%d tables were made, %v", tables, err)
		}
	})
}

// A database whose tables belong to another role is refused in words: a dump was
// restored by it.
func TestForeignOwnerIsRefused(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		db.Open(t).Close()
		raw := db.SQL(t)
		execAll(t, raw, "CREATE ROLE app LOGIN PASSWORD 'app'", "GRANT ALL ON SCHEMA triggerd TO app", "GRANT ALL ON ALL TABLES IN SCHEMA triggerd TO app")
		var owner string
		if err := raw.QueryRowContext(t.Context(), "SELECT current_user").Scan(&owner); err != nil {
			t.Fatal(err)
		}
		options := db.Options
		options.PostgresURL = as(t, options.PostgresURL, "app")
		s, err := store.Open(t.Context(), options)
		if err == nil {
			s.Close()
			t.Fatal("it is taken")
		}
		reassign := `REASSIGN OWNED BY "` + owner + `" TO "app"`
		if !strings.Contains(err.Error(), reassign) || !strings.Contains(err.Error(), "the schema") {
			t.Errorf("%q, want %q in it", err, reassign)
		}
		execAll(t, raw, `GRANT "`+owner+`" TO app`)
		if s, err = store.Open(t.Context(), options); err != nil {
			t.Fatalf("a member of the owner's role is refused: %v", err)
		}
		s.Close()
	})
}

// What time alone may mend is told apart from what somebody has to.
func TestStarting(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		with := func(change func(u *url.URL)) string { return changed(t, db.Options.PostgresURL, change) }
		mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
		if err != nil {
			t.Fatal(err)
		}
		defer mute.Close()
		for name, c := range map[string]struct {
			url   string
			waits bool
		}{
			"refused":                 {"postgres://127.0.0.1:1/x?sslmode=disable", true},
			"no such host":            {"postgres://nowhere.invalid/x?sslmode=disable", true},
			"nobody answers":          {"postgres://" + mute.Addr().String() + "/x?sslmode=disable", true},
			"no socket":               {"host=" + t.TempDir() + " dbname=x", true},
			"wrong database":          {with(func(u *url.URL) { u.Path = "/nowhere" }), false},
			"wrong password":          {with(func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), "wrong") }), false},
			"wrong role":              {with(func(u *url.URL) { u.User = url.UserPassword("nobody", "wrong") }), false},
			"one refused, one wrong":  {with(func(u *url.URL) { u.Host = "127.0.0.1:1," + u.Host; u.Path = "/nowhere" }), false},
			"no TLS":                  {with(func(u *url.URL) { q := u.Query(); q.Set("sslmode", "require"); u.RawQuery = q.Encode() }), false},
			"not a connection string": {"postgres://%zz", false},
		} {
			options := db.Options
			options.PostgresURL = c.url
			s, err := store.Open(t.Context(), options)
			if err == nil {
				s.Close()
			}
			if err == nil || errors.Is(err, store.ErrStarting) != c.waits {
				t.Errorf("%s: %v; to be waited for: %v", name, err, c.waits)
			}
		}
	})
}

// A lock that somebody has is waited for, as a server is that starts.
func TestStartBehindALock(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		other, err := db.SQL(t).BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.ExecContext(t.Context(), "LOCK TABLE nodes"); err != nil {
			t.Fatal(err)
		}
		if s, err := store.Open(t.Context(), db.Options); !errors.Is(err, store.ErrStarting) {
			if err == nil {
				s.Close()
			}
			t.Errorf("%v, want ErrStarting", err)
		}
		if err := other.Rollback(); err != nil {
			t.Fatal(err)
		}
		db.Open(t)
	})
}

// A server with fewer connections than a pool may have is a busy pool: whoever
// wants one waits, and all get what they want.
func TestFewerConnectionsThanThePool(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		execAll(t, db.SQL(t), "CREATE ROLE app LOGIN PASSWORD 'app' CONNECTION LIMIT 4", "CREATE DATABASE app OWNER app")
		db.Options.PostgresURL = changed(t, as(t, db.Options.PostgresURL, "app"), func(u *url.URL) { u.Path = "/app" })
		db.Options.PoolSize = 20
		s := db.Open(t)
		defer s.Close()
		org := storetest.NewOrganization(t, s)
		work := make(chan error)
		for i := range 40 {
			go func() {
				for range 20 {
					if _, err := s.Organization(t.Context(), org); err != nil {
						work <- err
						return
					}
				}
				e := event(s, org, strconv.Itoa(i))
				_, err := s.AddEvents(t.Context(), &store.Batch{Events: []*trigger.Event{e}, Deliveries: [][]trigger.Delivery{owed(e, trigger.InboxID)}}, false)
				work <- err
			}()
		}
		for range 40 {
			if err := <-work; err != nil {
				t.Error(err)
			}
		}
	})
}

// Where not even one connection is free, the wait has an end.
func TestNoConnectionLeft(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		s := db.Open(t)
		defer s.Close()
		execAll(t, db.SQL(t), "CREATE ROLE app LOGIN PASSWORD 'app' CONNECTION LIMIT 0")
		options := db.Options
		options.PostgresURL = as(t, options.PostgresURL, "app")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if s, err := store.Open(ctx, options); !errors.Is(err, store.ErrStarting) {
			if err == nil {
				s.Close()
			}
			t.Errorf("%v, want ErrStarting", err)
		}
	})
}
