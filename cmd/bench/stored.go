package main

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/torture"
	"triggerd/internal/trigger"
)

// stored is a database with the rows of years. It is filled once, and all runs
// on its kind of database share it. Each run has its own server and
// organizations.
type stored struct {
	Database string  `json:"database"` // the name in the report
	Events   int     `json:"events"`   // delivered, each at the first attempt
	Dedup    int     `json:"dedup_ids"`
	Took     float64 `json:"filled_in_s"`
	Size     int64   `json:"bytes"`

	dir      string
	options  store.Options
	postgres *torture.Postgres // nil: SQLite, or a PostgreSQL that the bench has not started
	past     past
}

// The organizations and the days of stored events.
const (
	storedOwners = 50
	storedDays   = 7
)

// newStored creates and fills a database in a directory, and reports progress.
func newStored(ctx context.Context, set *settings, database, dir string, errOut io.Writer) (s *stored, err error) {
	s = &stored{
		Database: database + "+" + shortCount(set.Stored), Events: set.Stored, Dedup: set.dedupIDs(),
		dir: filepath.Join(dir, "stored-"+database),
	}
	s.options = store.Options{DataDir: filepath.Join(s.dir, "data"), PoolSize: 4, Now: time.Now}
	if err := os.Mkdir(s.dir, 0o755); err != nil {
		return nil, err
	}
	if database == "postgres" {
		if s.postgres, err = torture.StartPostgres(ctx, s.dir, set.Postgres...); err != nil {
			return nil, err
		}
		s.options.PostgresURL = s.postgres.URL()
	}
	begun := time.Now()
	err = s.quickly(ctx, func() error { return s.fill(ctx, set.Payload, errOut) })
	if err == nil {
		err = s.measure(ctx)
	}
	if s.Took = time.Since(begun).Seconds(); err != nil {
		return nil, errors.Join(fmt.Errorf("fill %s: %w", s.Database, err), s.close())
	}
	return s, nil
}

// fill writes the organizations and their events.
func (s *stored) fill(ctx context.Context, payload int, errOut io.Writer) error {
	span := storedDays * 24 * time.Hour
	s.past = past{events: s.Events, dedup: s.Dedup, payload: payload, since: lately().Add(-span), span: span}
	if err := s.addOwners(ctx); err != nil {
		return err
	}
	p := &s.past
	lots := append([]lot{p.accepted(), p.tried(0, p.events, trigger.Success, 204)}, p.known()...)
	f := filling{options: s.options, told: s.progress(errOut)}
	return f.write(ctx, lots...)
}

// addOwners creates the days, and the organizations, each with a webhook.
func (s *stored) addOwners(ctx context.Context) error {
	if err := makeDays(ctx, s.options, s.past.since); err != nil {
		return err
	}
	return offline(ctx, s.options, func(db *store.Store) error { return s.addOwnersTo(ctx, db) })
}

func (s *stored) addOwnersTo(ctx context.Context, db *store.Store) error {
	const eventType = "stored.event"
	filter, err := trigger.ParseFilter([]string{eventType}, nil)
	if err != nil {
		return err
	}
	for range storedOwners {
		o := owner{eventType: eventType, key: trigger.NewAPIKey(random())}
		hash, _ := trigger.HashAPIKey(o.key)
		org := trigger.Organization{Name: "Stored", Tier: trigger.Enterprise}
		if o.id, err = db.AddOrganization(ctx, org, trigger.APIKey{Hash: hash, Prefix: trigger.KeyPrefix(o.key)}, store.Once{}); err != nil {
			return err
		}
		hook := trigger.Webhook{State: trigger.Active, URL: "http://127.0.0.1:9/stored", Filter: filter, Secrets: trigger.OneSecret(trigger.NewSecret(random()))}
		if o.webhook, err = db.AddWebhook(ctx, o.id, hook, store.Once{}); err != nil {
			return err
		}
		if org, err = db.Organization(ctx, o.id); err != nil {
			return err
		}
		o.version = org.Version
		s.past.owners = append(s.past.owners, o)
	}
	return nil
}

// makeDays makes the store create the days of events since a time. The store
// creates two weeks from its own time on.
func makeDays(ctx context.Context, o store.Options, since time.Time) error {
	behind := time.Since(since)
	o.Now, o.OwnClock = func() time.Time { return time.Now().Add(-behind) }, true
	return offline(ctx, o, func(*store.Store) error { return nil })
}

func random() (bytes [32]byte) {
	_, _ = crand.Read(bytes[:]) // never fails
	return bytes
}

// quickly runs fill with a PostgreSQL without autovacuum and with rare
// checkpoints.
func (s *stored) quickly(ctx context.Context, fill func() error) error {
	if s.postgres == nil {
		return fill()
	}
	db, err := openSQL(s.options, nil)
	if err != nil {
		return err
	}
	set := func(statements ...string) error {
		for _, text := range append(statements, "SELECT pg_reload_conf()") {
			if _, err := db.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
	err = set("ALTER SYSTEM SET autovacuum = off", "ALTER SYSTEM SET max_wal_size = '8GB'", "ALTER SYSTEM SET checkpoint_timeout = '30min'")
	if err == nil {
		err = fill()
	}
	return errors.Join(err, set("ALTER SYSTEM RESET ALL"), db.Close())
}

// progress returns a function that writes a line every few seconds.
func (s *stored) progress(errOut io.Writer) func(rows int) {
	var mu sync.Mutex
	done, all, begun := 0, 2*s.Events+s.Dedup, time.Now()
	told := begun
	return func(rows int) {
		mu.Lock()
		defer mu.Unlock()
		done += rows
		if now := time.Now(); now.Sub(told) > 5*time.Second || done == all {
			told = now
			fmt.Fprintf(errOut, "fill %s: %d of %d rows, %.0f/s\n", s.Database, done, all, perSecond(done, now.Sub(begun)))
		}
	}
}

// measure sets the size.
func (s *stored) measure(ctx context.Context) error {
	db, err := openSQL(s.options, nil)
	if err != nil {
		return err
	}
	s.Size, err = databaseSize(ctx, db, s.options)
	return errors.Join(err, db.Close())
}

// tidy removes the work that a run has left, so that the next one does not find
// it. The run's server must have ended. Its accepted events stay.
func (s *stored) tidy(ctx context.Context) error {
	db, err := openSQL(s.options, nil)
	if err != nil {
		return err
	}
	statements := []string{"DELETE FROM deliveries", "PRAGMA wal_checkpoint(TRUNCATE)"}
	if s.options.PostgresURL != "" { // so that plans are made for an empty queue
		statements = []string{"TRUNCATE deliveries", "VACUUM (ANALYZE) deliveries", "CHECKPOINT"}
	}
	last := s.past.owners[len(s.past.owners)-1].webhook
	for _, text := range append([]string{
		"UPDATE webhooks SET state = 'gone' WHERE id > " + strconv.FormatInt(last, 10) + " AND state <> 'gone'",
		"UPDATE replays SET state = 'cancelled'", "DELETE FROM webhook_health", "DELETE FROM nodes",
	}, statements...) {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return db.Close()
}

// close stops the database and removes it.
func (s *stored) close() error {
	if s.postgres != nil {
		s.postgres.Stop()
	}
	return os.RemoveAll(s.dir)
}

func (s *stored) String() string {
	return fmt.Sprintf("%s: %d events and %d dedup ids, %.0f MB, filled in %.0f s", s.Database, s.Events, s.Dedup, float64(s.Size)/1e6, s.Took)
}

// roomFor returns an error if the disk has too little room for the stored
// databases.
func roomFor(set *settings, databases int, dir string) error {
	need := databases * (set.Stored*(768+set.Payload) + set.dedupIDs()*250)
	var disk syscall.Statfs_t
	if err := syscall.Statfs(dir, &disk); err != nil {
		return err
	}
	if free := int(disk.Bavail) * int(disk.Bsize); free < need {
		return fmt.Errorf("--stored %d --stored-dedup %d need some %.1f GB on the disk of %s, which has %.1f GB: choose another with --dir, or store less",
			set.Stored, set.dedupIDs(), float64(need)/1e9, dir, float64(free)/1e9)
	}
	return nil
}

// shortCount formats a number like 300k or 10M.
func shortCount(n int) string {
	switch {
	case n >= 1e6:
		return strconv.FormatFloat(float64(n/1e4)/100, 'f', -1, 64) + "M"
	case n >= 1e3:
		return strconv.FormatFloat(float64(n/10)/100, 'f', -1, 64) + "k"
	}
	return strconv.Itoa(n)
}
