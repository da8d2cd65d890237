package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The database's application_id says whether a secret was ever stored plain,
// without SECRET_KEY. Then bytes of it may be in pages that older programs have
// freed. So once all secrets are encrypted, the file is rewritten.
const (
	plainNotKnown  = 0          // left by older programs
	plainNever     = 0x74726700 // or the file was rewritten since
	plainWasStored = 0x74726701
)

// rewriteTimeout bounds the rewrite of the file at a start.
const rewriteTimeout = 10 * time.Minute

// notePlain records that a secret is stored plain, in the transaction that
// stores it.
func (s *Store) notePlain(ctx context.Context, q querier) error {
	if s.keys.encrypts() {
		return nil
	}
	return s.dialect.notePlain(ctx, q)
}

// forgetPlain removes the remains of secrets that were stored plain, if all are
// encrypted now. If that fails, it logs a warning, and the next start retries.
func (s *Store) forgetPlain(ctx context.Context) error {
	if !s.keys.encrypts() {
		return nil
	}
	return s.dialect.forgetPlain(ctx)
}

func (e *embedded) notePlain(ctx context.Context, q querier) error {
	is, err := plainOf(ctx, q)
	if err != nil || is == plainWasStored {
		return err
	}
	_, err = q.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", plainWasStored))
	return err
}

func plainOf(ctx context.Context, q querier) (is int64, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA application_id").Scan(&is)
	return is, err
}

// learnPlain sets the application_id of a database that has none. It assumes
// that a secret was stored plain if the database ever had a webhook.
func (e *embedded) learnPlain(ctx context.Context) error {
	if is, err := plainOf(ctx, e.hot); err != nil || is != plainNotKnown {
		return err
	}
	return e.write(ctx, func(q querier) error {
		var webhooks int
		err := q.QueryRowContext(ctx, `SELECT count(*) FROM sqlite_sequence WHERE name = 'webhooks'`).Scan(&webhooks)
		if err == nil && webhooks > 0 {
			return e.notePlain(ctx, q)
		}
		return errors.Join(err, setPlainNever(ctx, q))
	})
}

func setPlainNever(ctx context.Context, q querier) error {
	_, err := q.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", plainNever))
	return err
}

func (e *embedded) forgetPlain(ctx context.Context) error {
	is, err := plainOf(ctx, e.hot)
	if err != nil || is != plainWasStored {
		return err
	}
	log := e.files.log
	log.Info("the database file is rewritten, because secrets were stored in it before SECRET_KEY was set; "+
		"this needs up to twice its size of free disk space", "bytes", sizeOf(e.files.target))
	begun := e.clock.monotonic()
	bound, cancel := context.WithTimeout(ctx, rewriteTimeout)
	defer cancel()
	err = e.writer.alone(bound, func() error { return e.writer.rewrite(bound) })
	if err == nil { // only now, so that a start after a kill rewrites again
		err = e.write(ctx, func(q querier) error { return setPlainNever(ctx, q) })
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		log.Warn("the database file cannot be rewritten, and may still have secrets that were stored before SECRET_KEY was set: "+
			"the next start tries it again; free some disk space, and end other programs that have the file open", "error", err)
		return nil
	}
	log.Info("the database file was rewritten", "bytes", sizeOf(e.files.target), "took", e.clock.monotonic().Sub(begun).String())
	return nil
}

// rewrite copies all data into new pages, and empties the log. It runs in the
// writer's loop.
func (w *writer) rewrite(ctx context.Context) error {
	_, err := w.conn.ExecContext(ctx, "VACUUM")
	// Even if ctx ended or VACUUM failed, because what it wrote is in the log.
	return errors.Join(err, w.tryEmptyLog(context.WithoutCancel(ctx)))
}
