package store_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// forgetful is a pooler that ignores all start-up parameters but user and
// database, as PgBouncer does with ignore_startup_parameters. It returns the URL
// to reach a database by.
func forgetful(t *testing.T, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	server := u.Host
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { forget(ctx, client, server) })
		}
	})
	t.Cleanup(func() { cancel(); listener.Close(); serving.Wait() })
	query := u.Query()
	query.Set("sslmode", "disable")
	u.Host, u.RawQuery = listener.Addr().String(), query.Encode()
	return u.String()
}

// forget relays one connection, but for its parameters.
func forget(ctx context.Context, client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	defer context.AfterFunc(ctx, func() { client.Close(); server.Close() })()
	var size [4]byte
	if _, err := io.ReadFull(client, size[:]); err != nil {
		return
	}
	message := make([]byte, binary.BigEndian.Uint32(size[:])-4)
	if _, err := io.ReadFull(client, message); err != nil {
		return
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
	if _, err := server.Write(append(size[:], message...)); err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}

// A pooler that drops the settings of our connections is refused before anything
// is made: it would be made elsewhere.
func TestLostSettingsAreRefused(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		direct := db.Options.PostgresURL
		db.Options.PostgresURL = forgetful(t, direct)
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
		for _, text := range []string{
			"CREATE ROLE app LOGIN PASSWORD 'app'", "GRANT ALL ON SCHEMA triggerd TO app", "GRANT ALL ON ALL TABLES IN SCHEMA triggerd TO app",
		} {
			if _, err := raw.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		owner := u.User.Username()
		u.User = url.UserPassword("app", "app")
		as := db.Options
		as.PostgresURL = u.String()
		s, err := store.Open(t.Context(), as)
		if err == nil {
			s.Close()
			t.Fatal("it is taken")
		}
		reassign := `REASSIGN OWNED BY "` + owner + `" TO "app"`
		if !strings.Contains(err.Error(), reassign) || !strings.Contains(err.Error(), "the schema") {
			t.Errorf("%q, want %q in it", err, reassign)
		}
		if _, err := raw.ExecContext(t.Context(), "GRANT "+`"`+owner+`"`+" TO app"); err != nil {
			t.Fatal(err)
		}
		if s, err = store.Open(t.Context(), as); err != nil {
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
		raw := db.SQL(t)
		var port string
		if err := raw.QueryRowContext(t.Context(), "SHOW port").Scan(&port); err != nil {
			t.Fatal(err)
		}
		with := func(change func(u *url.URL)) string {
			u, err := url.Parse(db.Options.PostgresURL)
			if err != nil {
				t.Fatal(err)
			}
			change(u)
			return u.String()
		}
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

// A server with fewer connections than a pool may have is a busy pool: whoever
// wants one waits, and all get what they want.
func TestFewerConnectionsThanThePool(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, _ *storetest.DB) {
		db := storetest.Cluster(t)
		raw := db.SQL(t)
		for _, text := range []string{"CREATE ROLE app LOGIN PASSWORD 'app' CONNECTION LIMIT 4", "CREATE DATABASE app OWNER app"} {
			if _, err := raw.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		u.User, u.Path = url.UserPassword("app", "app"), "/app"
		db.Options.PostgresURL, db.Options.PoolSize = u.String(), 20
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
		raw := db.SQL(t)
		if _, err := raw.ExecContext(t.Context(), "CREATE ROLE app LOGIN PASSWORD 'app' CONNECTION LIMIT 0"); err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.UserPassword("app", "app")
		options := db.Options
		options.PostgresURL = u.String()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if s, err := store.Open(ctx, options); !errors.Is(err, store.ErrStarting) {
			if err == nil {
				s.Close()
			}
			t.Errorf("%v, want ErrStarting", err)
		}
	})
}
