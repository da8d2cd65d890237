package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/torture"
)

// Bounds of waiting.
const (
	startPatience = 30 * time.Second // until the server is ready
	stopPatience  = 20 * time.Second // until it has ended
	nextPatience  = 75 * time.Second // for the next missing event; longer than the longest lease
)

const adminToken = "bench"

// rig is the environment of one run: a server on a new database, a receiver,
// and a client.
type rig struct {
	dir      string
	postgres *torture.Postgres // nil: SQLite
	stored   *stored           // the database to use; nil: a new one
	book     *book
	receiver *receiver
	client   *client
	hooks    int

	database         store.Options // to open it while no server runs
	program, address string
	env              []string
	cmd              *exec.Cmd
	ended            chan struct{} // closed when the process has ended
	signalled        bool          // its end was requested
}

// with starts a rig, with env added to the environment of the server, and
// removes it when use returns. It keeps the files of a failed run. Failures in
// the book make the run fail.
func (b *bench) with(ctx context.Context, env []string, use func(*rig) error) (err error) {
	dir, err := os.MkdirTemp(b.dir, b.Database+"-")
	if err != nil {
		return err
	}
	r := &rig{dir: dir, program: b.Program, book: newBook(), stored: b.stored}
	others, err := newOthers(r.lasting()...)
	if err != nil {
		return err
	}
	r.receiver = newReceiver(r.book)
	r.client = &client{book: r.book, payload: b.Payload, dedup: b.Dedup}
	defer func() {
		if failed := r.book.err(); failed != nil {
			err = failed // it is the cause of later errors
		}
		r.client.close()
		err = errors.Join(err, r.close(ctx))
		if busy, busyErr := others.percent(r.lasting()...); busyErr == nil {
			b.others = max(b.others, busy)
		}
		if err != nil {
			err = fmt.Errorf("%w; see %s", err, dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	port, err := torture.FreePort()
	if err != nil {
		return err
	}
	r.address = "127.0.0.1:" + strconv.Itoa(port)
	r.client.address = r.address
	if err := r.openDatabase(ctx, b); err != nil {
		return err
	}
	r.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "LISTEN=" + r.address, "DATA_DIR=" + r.database.DataDir, "DATABASE_URL=" + r.database.PostgresURL,
		"ALLOWED_TARGETS=127.0.0.0/8", "RATE_LIMIT_RPM=0", "LOG_LEVEL=warn", "ADMIN_TOKEN=" + adminToken,
	}, env...)
	if err := r.start(ctx); err != nil {
		return err
	}
	return use(r)
}

// openDatabase creates a new database or opens the stored one.
func (r *rig) openDatabase(ctx context.Context, b *bench) (err error) {
	r.database = store.Options{DataDir: filepath.Join(r.dir, "data"), PoolSize: 2, Now: time.Now}
	switch {
	case r.stored != nil:
		r.database, r.postgres = r.stored.options, r.stored.postgres
	case b.Database == "postgres":
		if r.postgres, err = torture.StartPostgres(ctx, r.dir, b.Postgres...); err == nil {
			r.database.PostgresURL = r.postgres.URL()
		}
	}
	return err
}

// lasting returns the processes of a database that exists before and after the
// rig.
func (r *rig) lasting() []int {
	if r.stored == nil || r.stored.postgres == nil {
		return nil
	}
	return r.stored.postgres.PIDs()
}

func (r *rig) close(ctx context.Context) error {
	err := errors.Join(r.stop(syscall.SIGKILL), r.receiver.close())
	if r.stored != nil {
		return errors.Join(err, r.stored.tidy(context.WithoutCancel(ctx)))
	}
	if r.postgres != nil {
		r.postgres.Stop()
	}
	return err
}

// organization creates an organization with a number of webhooks, each of which
// matches its own type.
func (r *rig) organization(webhooks int) (hooks []*hook, err error) {
	var made struct {
		Key string `json:"api-key"`
	}
	err = r.client.ask("/api/keys/generate", "Authorization: Bearer "+adminToken, `{"organization_name":"Bench","tier":"enterprise"}`, &made)
	if err != nil {
		return nil, err
	}
	for range webhooks {
		h := r.hook(made.Key)
		if err := r.register(h); err != nil {
			return nil, err
		}
		hooks = append(hooks, h)
	}
	return hooks, nil
}

// hook returns a webhook that is not registered yet: its events go only to the
// inbox.
func (r *rig) hook(key string) *hook {
	h := &hook{id: r.hooks, key: key, eventType: "bench." + strconv.Itoa(r.hooks)}
	r.hooks++
	return h
}

// register registers a webhook.
func (r *rig) register(h *hook) error {
	url, err := r.receiver.add(h)
	if err != nil {
		return err
	}
	var answer struct {
		ID int64 `json:"webhook-id"`
	}
	body := fmt.Sprintf(`{"url":%q,"event_type_filter":%q}`, url, h.eventType)
	err = r.client.ask("/api/webhook/register", "X-Api-Key: "+h.key, body, &answer)
	h.webhookID = answer.ID
	return err
}

// organizations creates several organizations.
func (r *rig) organizations(n, webhooks int) (hooks []*hook, err error) {
	for range n {
		more, err := r.organization(webhooks)
		if err != nil {
			return nil, err
		}
		hooks = append(hooks, more...)
	}
	return hooks, nil
}

// warmUpEvents make each run begin with open connections, prepared statements
// and filled caches.
const warmUpEvents = 500

// warmUp posts some events to each webhook, which are not measured.
func (r *rig) warmUp(ctx context.Context, hooks []*hook) error {
	r.client.closedLoop(ctx, 8, 0, count(hooks, max(warmUpEvents, 2*len(hooks))))
	return r.settle(ctx, hooks)
}

// settle returns when all events of some webhooks were received. It returns an
// error if one was not accepted or not delivered.
func (r *rig) settle(ctx context.Context, hooks []*hook) error {
	return r.settleWithin(ctx, hooks, nextPatience)
}

// settleWithin is settle with the given patience for the next missing event.
func (r *rig) settleWithin(ctx context.Context, hooks []*hook, patience time.Duration) error {
	before, since := int64(-1), r.book.now()
	for {
		open := int64(0)
		for _, h := range hooks {
			open += h.open.Load()
		}
		if err := r.book.err(); open == 0 || err != nil {
			return err
		}
		if open != before {
			before, since = open, r.book.now()
		}
		if r.book.now()-since > patience {
			return fmt.Errorf("%d events were accepted and not delivered; none for %v", open, patience)
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}
