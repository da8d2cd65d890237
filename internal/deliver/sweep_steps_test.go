package deliver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/internal/deliver"
	"triggerd/internal/telemetry"
)

// sweptStore notes the steps of sweeps, and fails those that it is told to.
type sweptStore struct {
	now   time.Time
	fail  string
	steps []string
}

var errStep = errors.New("the step fails")

func (s *sweptStore) step(name string) error {
	s.steps = append(s.steps, name)
	if name == s.fail {
		return fmt.Errorf("%s: %w", name, errStep)
	}
	return nil
}

func (s *sweptStore) Now() time.Time                              { return s.now }
func (s *sweptStore) MakeDays(context.Context) error              { return s.step("MakeDays") }
func (s *sweptStore) DropPermits(context.Context) error           { return s.step("DropPermits") }
func (s *sweptStore) DropRequests(context.Context) error          { return s.step("DropRequests") }
func (s *sweptStore) Erase(context.Context) error                 { return s.step("Erase") }
func (s *sweptStore) DropGone(context.Context, time.Time) error   { return s.step("DropGone") }
func (s *sweptStore) DropBefore(context.Context, time.Time) error { return s.step("DropBefore") }
func (s *sweptStore) DropDedup(context.Context, time.Time) error  { return s.step("DropDedup") }

func (s *sweptStore) Expire(context.Context, time.Time) (int, error) { return 0, s.step("Expire") }

// A step that fails holds up no other, apart from Expire, after which alone
// events may go. The next sweep tries it again.
func TestFailingStepHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	all := []string{"MakeDays", "DropPermits", "DropRequests", "Erase", "DropGone", "Expire", "DropBefore", "DropDedup"}
	for _, name := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &sweptStore{now: time.Unix(1e9, 0)}
			sweeper := deliver.Sweeper{
				Store: s, Retention: dayLong, DedupRetention: dayLong,
				Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler),
			}
			if err := sweeper.Sweep(t.Context()); err != nil { // after which events may go in an hour
				t.Fatal(err)
			}
			s.now = s.now.Add(7 * time.Hour)
			for range 2 {
				s.fail, s.steps = name, nil
				if err := sweeper.Sweep(t.Context()); !errors.Is(err, errStep) {
					t.Errorf("the sweep ends with %v, want %v", err, errStep)
				}
				want := slices.Clone(all)
				if name == "Expire" {
					want = slices.DeleteFunc(want, func(step string) bool { return step == "DropBefore" })
				}
				if diff := cmp.Diff(want, s.steps); diff != "" {
					t.Error(diff)
				}
				s.now = s.now.Add(7 * time.Hour)
			}
		})
	}
}

// A sweep that is ended begins no further step.
func TestSweepEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &sweptStore{}
	sweeper := deliver.Sweeper{Store: s, Metrics: telemetry.New(), Log: slog.New(slog.DiscardHandler)}
	if err := sweeper.Sweep(ctx); err != nil || len(s.steps) != 1 {
		t.Errorf("the sweep makes %v, and ends with %v; want one step", s.steps, err)
	}
}
