package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// book records when each event was sent, answered and received. All times are
// monotonic, since begun.
type book struct {
	begun               time.Time
	accepted, delivered atomic.Int64

	mu       sync.Mutex
	records  []record
	failures int
	first    error // of the failures
	repeats  int   // repeated deliveries
}

// record is the record of one event, by its number. It matches one webhook.
type record struct {
	hook                *hook
	sent, answered, got time.Duration // 0: not yet
	refused             int           // how often it was delivered and answered 503
}

func newBook() *book { return &book{begun: time.Now()} }

func (b *book) now() time.Duration { return time.Since(b.begun) }

// mark returns the number of the next event.
func (b *book) mark() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.records)
}

// send records an event that is sent now.
func (b *book) send(h *hook) (n int, at time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.open.Add(1)
	at = b.now()
	b.records = append(b.records, record{hook: h, sent: at})
	return len(b.records) - 1, at
}

// answer records that an event was accepted.
func (b *book) answer(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records[n].answered = b.now()
	b.accepted.Add(1)
}

// arrive records a delivery at a time, or a failure if it is not of a sent
// event.
func (b *book) arrive(h *hook, n int, sent, at time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n >= len(b.records) || b.records[n].hook != h || b.records[n].sent != sent {
		b.note(fmt.Errorf("webhook %d got event %d, which was never sent to it", h.id, n))
		return
	}
	if b.records[n].got > 0 {
		b.repeats++
		return
	}
	b.records[n].got = at
	b.delivered.Add(1)
	h.open.Add(-1)
}

// refuse records a delivery that was answered 503.
func (b *book) refuse(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n < 0 || n >= len(b.records) {
		b.note(fmt.Errorf("event %d, which was never sent, was to be delivered", n))
		return
	}
	b.records[n].refused++
}

// fail records a failure.
func (b *book) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note(err)
}

func (b *book) note(err error) {
	b.failures++
	if b.first == nil {
		b.first = err
	}
}

// err returns an error if there were failures.
func (b *book) err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failures == 0 {
		return nil
	}
	return fmt.Errorf("%d failures, the first: %w", b.failures, b.first)
}

// again returns the number of repeated deliveries.
func (b *book) again() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.repeats
}

// since returns copies of the records from a mark on, of some webhooks.
func (b *book) since(mark int, of func(*hook) bool) (records []record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.records[mark:] {
		if of(r.hook) {
			records = append(records, r)
		}
	}
	return records
}

// waiting returns how many accepted events have not been received.
func (b *book) waiting() int { return max(0, int(b.accepted.Load()-b.delivered.Load())) }

// latencies returns the times from sending an event to receiving it.
func latencies(records []record) (all []time.Duration) {
	for _, r := range records {
		all = append(all, r.got-r.sent)
	}
	return all
}

// span returns the times of the first event, of the last answer and of the last
// delivery.
func span(records []record) (begun, answered, got time.Duration) {
	for i, r := range records {
		if i == 0 {
			begun = r.sent
		}
		begun, answered, got = min(begun, r.sent), max(answered, r.answered), max(got, r.got)
	}
	return begun, answered, got
}
