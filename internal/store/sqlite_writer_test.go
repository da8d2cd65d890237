package store

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// What is hot comes first, and is not held up by others that were there before.
func TestHotWritesComeFirst(t *testing.T) {
	t.Parallel()
	w := &writer{hot: make(chan *writeJob, writesPerCommit), others: make(chan *writeJob, writesPerCommit), ended: make(chan struct{})}
	name := func(text string) func(querier) error {
		return func(querier) error { return &namedError{text} }
	}
	w.scrubber.timer = time.NewTimer(time.Hour)
	defer w.scrubber.timer.Stop()
	var asking sync.WaitGroup
	ask := func(queue chan *writeJob, text string, n int) {
		for range n {
			asking.Go(func() { _ = w.do(t.Context(), queue, name(text)) })
		}
	}
	ask(w.others, "other", 40)
	ask(w.hot, "hot", 20)
	for len(w.hot) < 20 || len(w.others) < 40 {
		select { // the goroutines are about to ask
		case <-t.Context().Done():
			t.Fatal("nobody asks")
		default:
		}
	}
	late := false
	take := func() (names []string) {
		jobs, _, _ := w.gather()
		others := 0
		for i, job := range jobs {
			if w.mustEnd(job, others) {
				w.rest = jobs[i:]
				break
			}
			err := job.fn(nil)
			names = append(names, err.Error())
			job.done <- err
			if !job.hot {
				others++
			}
			if len(names) == 22 && !late { // while it runs
				late = true
				ask(w.hot, "late", 1)
				for len(w.hot) == 0 && !t.Failed() {
					runtime.Gosched()
				}
			}
		}
		return names
	}
	first := take()
	hot := slices.Index(first, "other")
	if hot != 20 || len(first) != 20+othersPerCommit {
		t.Errorf("the first transaction has %q", first)
	}
	if second := take(); second[0] != "late" || len(second) != 1+40-othersPerCommit {
		t.Errorf("the second transaction has %q", second)
	}
	for len(w.others)+len(w.hot)+len(w.rest) > 0 {
		take()
	}
	asking.Wait()
}

// namedError tells which job has returned it.
type namedError struct{ name string }

func (e *namedError) Error() string { return e.name }
