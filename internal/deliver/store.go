package deliver

import (
	"context"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Store is what the engine asks of the store: [store.Store] has it all. The
// simulation has a model that fails on command and lives through virtual days.
type Store interface {
	Waiting
	Queue
	Webhooks
	Failing
	Clock
}

// Waiting is where there is something to deliver; replays are jobs that send
// events of the past again.
type Waiting interface {
	Lanes(ctx context.Context, after store.Lane, limit int) ([]store.Lane, error)
	DueLanes(ctx context.Context, of []store.Lane, from, until time.Time) ([]store.Lane, error)
	Backlog(ctx context.Context) (store.Backlog, error)
	RunningReplays(ctx context.Context, after int64) ([]trigger.Replay, error)
	FeedReplay(ctx context.Context, r trigger.Replay) (due bool, err error)
}

// Queue is the life of deliveries.
type Queue interface {
	Claim(ctx context.Context, wants []store.Want, claim trigger.ID, now, lease time.Time) ([]trigger.Delivery, error)
	EventsOf(ctx context.Context, ds []trigger.Delivery, maxBytes int) (found map[trigger.ID]*trigger.Event, rest []trigger.Delivery, err error)
	Finish(ctx context.Context, results []store.Result) error
	Release(ctx context.Context, ds []trigger.Delivery) error
}

// Webhooks are where deliveries go.
type Webhooks interface {
	WebhooksByID(ctx context.Context, ids []int64) (map[int64]*trigger.Webhook, error)
	StopWebhook(ctx context.Context, stop store.Stop) (stopped bool, err error)
	FailWebhook(ctx context.Context, orgID, webhookID int64, reason string) (n int, done bool, err error)
}

// Failing is how webhooks fare that do nothing but fail.
type Failing interface {
	Holds(ctx context.Context) ([]store.Hold, error)
	SetBreaker(ctx context.Context, c store.BreakerChange) error
	Probe(ctx context.Context, webhookID int64, held, until time.Time) (ok bool, err error)
	Failing(ctx context.Context, e trigger.Endurance) ([]trigger.Health, error)
	Advance(ctx context.Context, h trigger.Health, stage trigger.HealthStage, n trigger.Notice) error
}

// Clock is the database's time, and what is made from it; and how many share
// it.
type Clock interface {
	Now() time.Time
	NewClaim() trigger.ID
	ClockTrusted() bool
	Nodes() int
}

// SteppedStore is what a [ClockWatcher] asks of the store.
type SteppedStore interface {
	ClockTrusted() bool
	StepsBack() (n int, by time.Duration)
	PullBack(ctx context.Context, usual trigger.Schedule) (n int, err error)
}

// SweptStore is what the sweeper asks of the store.
type SweptStore interface {
	Now() time.Time
	Keeper
	Cleaner
}

// Keeper makes room for what comes and removes what is too old.
type Keeper interface {
	MakeDays(ctx context.Context) error
	DropPermits(ctx context.Context) error
	Expire(ctx context.Context, before time.Time) (expired int, err error)
	DropBefore(ctx context.Context, before time.Time) error
	DropDedup(ctx context.Context, before time.Time) error
}

// Cleaner removes what nobody asks for any more.
type Cleaner interface {
	DropRequests(ctx context.Context) error
	DropGone(ctx context.Context, before time.Time) error
	Erase(ctx context.Context) error
}
