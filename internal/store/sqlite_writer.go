package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"time"
)

// writer owns SQLite's only writing connection. When a commit ends, it runs all
// waiting jobs, for example ingest, results and claims, in one transaction with
// one sync. Each job has its own savepoint, so that its failure does not affect
// the others.
type writer struct {
	db   *sql.DB
	conn *sql.Conn

	files    *dataFiles
	scrubber scrubber // used only by the loop

	stmts  map[string]*sql.Stmt // used only by the loop
	hot    chan *writeJob       // for events and deliveries; nil ends the loop
	others chan *writeJob
	rest   []*writeJob // left for the next transaction
	apart  chan func() // run between transactions
	ended  chan struct{}
	once   sync.Once
}

type writeJob struct {
	ctx  context.Context
	fn   func(querier) error
	done chan error
	hot  bool
}

// Maximum numbers of jobs in one transaction. If a hot job arrives meanwhile,
// the transaction ends after othersPerCommit others. So constant changes of
// settings or claims of an inbox do not delay events and deliveries.
const (
	writesPerCommit = 64
	othersPerCommit = 3
)

var errClosed = errors.New("the store is closed")

func newWriter(ctx context.Context, db *sql.DB, files *dataFiles) (*writer, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	w := &writer{
		db: db, conn: conn, files: files, stmts: map[string]*sql.Stmt{},
		hot: make(chan *writeJob, writesPerCommit), others: make(chan *writeJob, writesPerCommit),
		apart: make(chan func()), ended: make(chan struct{}),
	}
	w.scrubber.timer = time.NewTimer(files.options.emptyAfter)
	w.scrubber.armed = true
	if err := w.checkpointAtStart(context.WithoutCancel(ctx)); err != nil {
		return nil, errors.Join(err, w.closeFiles())
	}
	go w.run(context.WithoutCancel(ctx))
	return w, nil
}

// do runs fn within a transaction and returns when it is synced. If ctx ends
// while fn is queued, fn is not run; later ctx has no effect. The queue must be
// hot or others.
func (w *writer) do(ctx context.Context, queue chan *writeJob, fn func(querier) error) error {
	job := &writeJob{ctx, fn, make(chan error, 1), queue == w.hot}
	select {
	case queue <- job:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ended:
		return errClosed
	}
	select {
	case err := <-job.done:
		return err
	case <-w.ended:
		return errClosed
	}
}

// alone runs fn in the loop, outside any transaction.
func (w *writer) alone(ctx context.Context, fn func() error) error {
	done := make(chan error, 1)
	select {
	case w.apart <- func() { done <- fn() }:
		return <-done
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ended:
		return errClosed
	}
}

// close ends the loop after the jobs it has taken. It must be the last to close
// the files.
func (w *writer) close() error {
	w.once.Do(func() { w.hot <- nil })
	<-w.ended
	return w.closeFiles()
}

func (w *writer) closeFiles() error {
	w.scrubber.timer.Stop()
	var errs []error
	for _, stmt := range w.stmts { // an open statement keeps the file open
		errs = append(errs, stmt.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

func (w *writer) run(ctx context.Context) {
	defer close(w.ended)
	for {
		jobs, open, empty := w.gather()
		switch {
		case len(jobs) > 0:
			w.commit(ctx, jobs)
			w.arm(w.files.options.emptyAfter)
		case empty:
			w.emptyLog(ctx)
		}
		if !open {
			w.leave(ctx)
			return
		}
	}
}

// leave empties the log and records that its absence from now on is in order.
// It also empties the log if another file has replaced triggerd.db, because
// SQLite would write the log into that file at the next start. SQLite itself
// leaves the log of a file that was moved.
func (w *writer) leave(ctx context.Context) {
	if w.files.replaced() {
		_ = w.exec(ctx, "PRAGMA wal_checkpoint(TRUNCATE)") // into the file that was replaced
	} else if err := w.tryEmptyLog(ctx); err != nil {
		w.files.log.Debug("cannot empty the log", "error", err)
	}
	w.files.noteClosed()
}

// gather waits for a job and takes all that are ready, hot ones first. open is
// false if the writer must end after them. empty is true if the log must be
// emptied instead.
func (w *writer) gather() (jobs []*writeJob, open, empty bool) {
	rest := w.rest
	w.rest = nil
	if len(rest) == 0 {
		select {
		case job := <-w.hot:
			if job == nil {
				return nil, false, false
			}
			jobs = append(jobs, job)
		case job := <-w.others:
			rest = append(rest, job)
		case fn := <-w.apart:
			fn()
			return nil, true, false
		case <-w.scrubber.timer.C:
			return nil, true, true
		}
	}
	jobs, open = ready(jobs, w.hot)
	jobs = append(jobs, rest...)
	if open {
		jobs, _ = ready(jobs, w.others)
	}
	return slices.DeleteFunc(jobs, func(job *writeJob) bool {
		err := job.ctx.Err()
		if err != nil {
			job.done <- err
		}
		return err != nil
	}), open, false
}

// ready adds the jobs that are ready in a queue, up to writesPerCommit in all.
// open is false after the nil that ends the queue.
func ready(jobs []*writeJob, queue <-chan *writeJob) (all []*writeJob, open bool) {
	for len(jobs) < writesPerCommit {
		select {
		case job := <-queue:
			if job == nil {
				return jobs, false
			}
			jobs = append(jobs, job)
		default:
			return jobs, true
		}
	}
	return jobs, true
}

// mustEnd reports whether the transaction must end before a job, after so many
// others.
func (w *writer) mustEnd(job *writeJob, others int) bool {
	return !job.hot && others >= othersPerCommit && len(w.hot) > 0
}

// commit runs the jobs in one transaction, and answers them when it is synced
// and its files are still in place.
func (w *writer) commit(ctx context.Context, jobs []*writeJob) {
	errs := make([]error, len(jobs))
	var log logState
	var note logNote
	err := w.files.look()
	if err == nil {
		log = w.logState(ctx)
		note, err = w.begin(ctx, log)
	}
	if err == nil {
		jobs, err = w.runAll(ctx, jobs, errs)
		if err == nil {
			err = w.exec(ctx, "COMMIT")
		}
		if err == nil {
			err = w.files.look()
		}
		if err == nil && note.open {
			w.files.noteLog(note)
		}
	}
	if err != nil {
		_ = w.exec(ctx, "ROLLBACK") // it may have rolled back by itself
	}
	for i, job := range jobs {
		if err != nil {
			errs[i] = err
		}
		job.done <- errs[i]
	}
	if err == nil && log.long {
		_ = w.checkpoint(ctx) // else after the next commit
	}
}

// runAll runs jobs and sets their errors, until the transaction must end or is
// broken. It returns the jobs that belong to the transaction.
func (w *writer) runAll(ctx context.Context, jobs []*writeJob, errs []error) ([]*writeJob, error) {
	others := 0
	for i, job := range jobs {
		if w.mustEnd(job, others) {
			w.rest = jobs[i:]
			return jobs[:i], nil
		}
		if errs[i] = w.nested(ctx, job.fn); errs[i] != nil && w.broken(ctx) {
			return jobs, errs[i]
		}
		if !job.hot {
			others++
		}
	}
	return jobs, nil
}

// nested runs fn in a savepoint.
func (w *writer) nested(ctx context.Context, fn func(querier) error) (err error) {
	if err := w.exec(ctx, "SAVEPOINT job"); err != nil {
		return err
	}
	if err = fn(w); err != nil {
		err = errors.Join(err, w.exec(ctx, "ROLLBACK TO job"))
	}
	return errors.Join(err, w.exec(ctx, "RELEASE job"))
}

// broken reports whether SQLite has ended the whole transaction, for example
// because the disk is full or fails.
func (w *writer) broken(ctx context.Context) bool {
	return w.exec(ctx, "SAVEPOINT probe") != nil || w.exec(ctx, "RELEASE probe") != nil || !w.inTransaction(ctx)
}

// inTransaction reports whether a transaction is open, by testing whether BEGIN
// is refused.
func (w *writer) inTransaction(ctx context.Context) bool {
	if w.exec(ctx, "BEGIN IMMEDIATE") != nil {
		return true
	}
	_ = w.exec(ctx, "ROLLBACK")
	return false
}

func (w *writer) exec(ctx context.Context, text string) error {
	_, err := w.ExecContext(ctx, text)
	return err
}

// prepared returns the prepared statement of a text, and keeps it as long as
// the writer. The texts are constants, so there are only some dozens.
func (w *writer) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if stmt := w.stmts[text]; stmt != nil {
		return stmt, nil
	}
	stmt, err := w.conn.PrepareContext(context.WithoutCancel(ctx), text)
	if err == nil {
		w.stmts[text] = stmt
	}
	return stmt, err
}

// ExecContext, QueryContext and QueryRowContext make the writer a querier for
// the jobs. Contexts do not interrupt them, because an interrupt would also
// roll back the other jobs.
func (w *writer) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	stmt, err := w.prepared(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(context.WithoutCancel(ctx), args...)
}

// QueryContext implements querier.
func (w *writer) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, err := w.prepared(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(context.WithoutCancel(ctx), args...)
}

// QueryRowContext implements querier.
func (w *writer) QueryRowContext(ctx context.Context, text string, args ...any) *sql.Row {
	stmt, err := w.prepared(ctx, text)
	if err != nil {
		return w.conn.QueryRowContext(context.WithoutCancel(ctx), text, args...) // carries the error
	}
	return stmt.QueryRowContext(context.WithoutCancel(ctx), args...)
}
