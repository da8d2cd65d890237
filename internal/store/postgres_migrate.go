package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// A migration changes tables that other nodes use. A statement that waits for
// such a table, for example behind a pg_dump, blocks all later users of the
// table. So each statement of a migration waits for at most lockWait. Then the
// migration is rolled back, and retried after lockPause. In one of lockPatient
// tries, statements wait for longer than PostgreSQL's deadlock_timeout, after
// which it cancels an autovacuum that blocks them. The server enforces these
// times even if this process was killed.
const (
	lockWait     = "200ms"
	lockWaitLong = "1200ms"
	lockPatient  = 10
	lockPause    = time.Second
	lockTries    = 300 // about 5 minutes, as long as for the migration lock
)

// migrate uses a pool of its own, because a migration may take long.
func (p *postgres) migrate(ctx context.Context, doing func(string)) (schema int64, err error) {
	pool, err := p.newPool(ctx, p.hot.Config(), dialer().DialContext, 2, map[string]string{"statement_timeout": "0", "lock_timeout": lockWait})
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	db := pool.open()
	schema, err = migratePostgres(ctx, db, doing)
	return schema, errors.Join(err, db.Close())
}

// migratePostgres migrates the database, and retries while others hold locks on
// its tables.
func migratePostgres(ctx context.Context, db *sql.DB, doing func(string)) (schema int64, err error) {
	session, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, lockTries)) // every second
	if err != nil {
		return 0, err
	}
	locker, told := &tellingLocker{SessionLocker: session, doing: doing}, ""
	for tries := 1; ; tries++ {
		locker.wait = lockWait
		if tries%lockPatient == 0 {
			locker.wait = lockWaitLong
		}
		schema, err = migrate(ctx, goose.DialectPostgres, db, locker.doing, goose.WithSessionLocker(locker))
		if !isCode(err, "55P03", "40P01") { // lock_not_available or deadlock_detected
			return schema, err
		}
		what := "the locks of " + lockHolders(ctx, db) + " on tables that the migration changes"
		if tries == lockTries {
			return 0, fmt.Errorf("the migration has waited for %s, %d times: end those transactions, and start again: %w", what, tries, err)
		}
		if what != told {
			doing(what)
		}
		told, locker.doing = what, func(string) {} // now it waits for the locks
		if err := pause(ctx, lockPause); err != nil {
			return 0, err
		}
	}
}

// sqlLockHolders names the oldest transactions with locks on our tables, except
// those that began after a statement began to wait. The times of other roles'
// transactions are hidden; prepared transactions have no process.
const sqlLockHolders = `
	SELECT coalesce('pid ' || l.pid || ' (' || coalesce(nullif(max(a.application_name), ''), max(a.backend_type), 'unknown') || ')', 'a prepared transaction')
	FROM pg_locks l JOIN pg_class c ON c.oid = l.relation LEFT JOIN pg_stat_activity a ON a.pid = l.pid
	WHERE l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND l.pid IS DISTINCT FROM pg_backend_pid()
		AND (a.xact_start IS NULL OR a.xact_start < clock_timestamp() - $2::interval)
	GROUP BY l.pid ORDER BY min(a.xact_start) NULLS LAST LIMIT 3`

// lockHolders describes who holds locks on our tables, if that can be found.
func lockHolders(ctx context.Context, db *sql.DB) string {
	names, err := rowsOf(ctx, db, scanText, sqlLockHolders, schema, lockWait)
	if err != nil || len(names) == 0 {
		return "other transactions"
	}
	return strings.Join(names, ", ")
}

// tellingLocker reports when the migration waits for its lock, and sets how
// long statements wait for other locks.
type tellingLocker struct {
	lock.SessionLocker
	doing func(string)
	wait  string
}

// SessionLock implements [lock.SessionLocker].
func (l *tellingLocker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	l.doing("the migration lock, which another node holds while it migrates the database")
	if err := l.SessionLocker.SessionLock(ctx, conn); err != nil {
		return fmt.Errorf("wait for the migration lock, which another node holds while it migrates the database: %w", err)
	}
	l.doing(migrating)
	if _, err := conn.ExecContext(ctx, "SELECT set_config('lock_timeout', $1, false)", l.wait); err != nil {
		return errors.Join(err, l.SessionUnlock(context.WithoutCancel(ctx), conn))
	}
	return nil
}
