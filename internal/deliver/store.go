package deliver

import (
	"context"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Store is the part of the store that the engine uses; [store.Store] implements
// it. The simulation uses a model that fails on command and runs through
// virtual days.
type Store interface {
	Waiting
	Queue
	Webhooks
	Failing
	Clock
}

// Waiting lists the work that waits for webhooks. Replays are jobs that send
// past events again.
type Waiting interface {
	Lanes(ctx context.Context, after store.Lane, limit int) ([]store.Lane, error)
	DueLanes(ctx context.Context, of []store.Lane, from, until time.Time) ([]store.Lane, error)
	Backlog(ctx context.Context) (store.Backlog, error)
	RunningReplays(ctx context.Context, after int64) ([]trigger.Replay, error)
	FeedReplay(ctx context.Context, r trigger.Replay) (due bool, err error)
}

// Queue claims, reads, records and releases deliveries.
type Queue interface {
	Claim(ctx context.Context, wants []store.Want, claim trigger.ID, now, lease time.Time) ([]trigger.Delivery, error)
	EventsOf(ctx context.Context, ds []trigger.Delivery, maxBytes int) (found map[trigger.ID]*trigger.Event, rest []trigger.Delivery, err error)
	Finish(ctx context.Context, results []store.Result) error
	Release(ctx context.Context, ds []trigger.Delivery) error
}

// Webhooks reads and stops webhooks.
type Webhooks interface {
	WebhooksByID(ctx context.Context, ids []int64) (map[int64]*trigger.Webhook, error)
	StopWebhook(ctx context.Context, stop store.Stop) (stopped bool, err error)
	FailWebhook(ctx context.Context, orgID, webhookID int64, reason string) (n int, done bool, err error)
}

// Failing stores breakers and the health of webhooks that always fail.
type Failing interface {
	Holds(ctx context.Context) ([]store.Hold, error)
	SetBreaker(ctx context.Context, c store.BreakerChange) error
	Probe(ctx context.Context, webhookID int64, held, until time.Time) (ok bool, err error)
	Failing(ctx context.Context, e trigger.Endurance) ([]trigger.Health, error)
	Advance(ctx context.Context, h trigger.Health, stage trigger.HealthStage, n trigger.Notice) error
}

// Clock is the database's time, the claim ids made from it, and the number of
// nodes that share it.
type Clock interface {
	Now() time.Time
	NewClaim() trigger.ID
	ClockTrusted() bool
	Nodes() int
}

// SteppedStore is the part of the store that a [ClockWatcher] uses.
type SteppedStore interface {
	ClockTrusted() bool
	StepsBack() (n int, by time.Duration)
	PullBack(ctx context.Context, usual trigger.Schedule) (n int, err error)
}

// SweptStore is the part of the store that the sweeper uses.
type SweptStore interface {
	Now() time.Time
	Keeper
	Cleaner
}

// Keeper makes room for new events and removes old ones.
type Keeper interface {
	MakeDays(ctx context.Context) error
	DropPermits(ctx context.Context) error
	Expire(ctx context.Context, before time.Time) (expired int, err error)
	DropBefore(ctx context.Context, before time.Time) error
	DropDedup(ctx context.Context, before time.Time) error
}

// Cleaner removes rows that are no longer needed.
type Cleaner interface {
	DropRequests(ctx context.Context) error
	DropGone(ctx context.Context, before time.Time) error
	Erase(ctx context.Context) error
}
