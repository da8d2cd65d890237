package main

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// usage is the CPU time of the server, of the database if it has its own
// processes, and of this program with its clients and receivers.
type usage struct{ server, database, bench time.Duration }

func (r *rig) usage() (usage, error) { return r.usageOf(r.cmd.Process.Pid) }

// usageOf is usage with another process instead of the server.
func (r *rig) usageOf(server int) (u usage, err error) {
	var self syscall.Rusage // without children
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &self); err != nil {
		return u, err
	}
	u.bench = time.Duration(self.Utime.Nano() + self.Stime.Nano())
	if u.server, err = cpuTime(server); err != nil || r.postgres == nil {
		return u, err
	}
	u.database, err = cpuTime(r.postgres.PIDs()...)
	return u, err
}

func (r *rig) peakMemory() (float64, error) { return peakMemory(r.cmd.Process.Pid) }

// sample is the waiting work at a time.
type sample struct {
	At      float64 `json:"at"`      // seconds since the first sample
	Waiting int     `json:"waiting"` // accepted but not received, as counted by this program
	Open    float64 `json:"open"`    // triggerd_deliveries_open: in the database, some seconds old
	Queue   float64 `json:"queue"`   // triggerd_delivery_queue: in memory, and not yet recorded
}

func (r *rig) sample(ctx context.Context) (s sample, err error) {
	s.At, s.Waiting = r.book.now().Seconds(), r.book.waiting()
	err = r.get(ctx, "/metrics", func(line string) {
		name, value, _ := strings.Cut(line, " ")
		number, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "triggerd_deliveries_open":
			s.Open = number
		case "triggerd_delivery_queue":
			s.Queue = number
		}
	})
	return s, err
}

// watch takes a sample every second until stop is called, which returns them.
func (r *rig) watch(ctx context.Context) (stop func() []sample) {
	ctx, cancel := context.WithCancel(ctx)
	var samples []sample
	done := make(chan struct{})
	begun := r.book.now().Seconds()
	go func() {
		defer close(done)
		for pause(ctx, time.Second) == nil {
			s, err := r.sample(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				r.book.fail(err)
			}
			s.At -= begun
			samples = append(samples, s)
		}
	}()
	return func() []sample {
		cancel()
		<-done
		return samples
	}
}

// rest returns when the server has recorded its deliveries.
func (r *rig) rest(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, nextPatience)
	defer cancel()
	for {
		s, err := r.sample(ctx)
		if err != nil || s.Queue == 0 {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%g deliveries are not recorded: %w", s.Queue, err)
		}
	}
}

// most returns the largest of some figures of samples; 0 without samples.
func most[T cmp.Ordered](samples []sample, of func(sample) T) (largest T) {
	for _, s := range samples {
		largest = max(largest, of(s))
	}
	return largest
}
