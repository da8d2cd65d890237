package main

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// known is what a client knows: which events were acknowledged, under which
// id.
type known struct {
	mu    sync.Mutex
	acked map[string]string // event id by dedup id
}

func (k *known) note(dedupID, eventID string) (acked int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.acked[dedupID] = eventID
	return len(k.acked)
}

// The process is killed in the middle of 2000 events, twice, and started
// again: what was acknowledged is there, under the same id, and is delivered.
func TestKill(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		rec := newRecorder(t, nil)
		p := startProcess(t, db)
		key := p.newKey(t, "enterprise")
		p.register(t, key, rec.URL+"/hook", "user.*")
		acks := &known{acked: map[string]string{}}
		for _, killAt := range []int{400, 1100} {
			postUntil(t, p, key, acks, killAt, syscall.SIGKILL)
			p = startProcess(t, db)
		}
		for dedupID, eventID := range acks.acked {
			answer, ok := p.tryEvent(key, crashEvent(dedupID))
			if !ok || answer.Status != "duplicate" || answer.EventID != eventID {
				t.Errorf("%s was acknowledged as %s, and now is %+v (answered: %v)", dedupID, eventID, answer, ok)
			}
		}
		for i := range 2000 {
			dedupID := fmt.Sprint("d", i)
			answer, ok := p.tryEvent(key, crashEvent(dedupID))
			if !ok {
				t.Fatalf("%s is not accepted after the restart", dedupID)
			}
			acks.note(dedupID, answer.EventID)
		}
		untilReceived(t, rec, acks)
		waitForEmpty(t, p, key)
		if code := p.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d after SIGTERM:\n%s", code, p.log)
		}
		t.Logf("%d deliveries came twice", len(rec.wait(t, 0))-2000)
	})
}

// SIGTERM under load: requests under way are answered, the exit code is 0, and
// after the next start everything acknowledged is there and delivered.
func TestTerminate(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		rec := newRecorder(t, nil)
		p := startProcess(t, db)
		key := p.newKey(t, "enterprise")
		p.register(t, key, rec.URL+"/hook", "")
		acks := &known{acked: map[string]string{}}
		if code := postUntil(t, p, key, acks, 500, syscall.SIGTERM); code != 0 {
			t.Fatalf("exit code %d:\n%s", code, p.log)
		}
		if strings.Contains(p.log.String(), "level=ERROR") {
			t.Errorf("errors while stopping:\n%s", p.log)
		}
		p = startProcess(t, db)
		for dedupID, eventID := range acks.acked {
			if answer, ok := p.tryEvent(key, crashEvent(dedupID)); !ok || answer.EventID != eventID {
				t.Errorf("%s was acknowledged as %s, and now is %+v", dedupID, eventID, answer)
			}
		}
		untilReceived(t, rec, acks)
		waitForEmpty(t, p, key)
	})
}

func (k *known) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.acked)
}

func crashEvent(dedupID string) string {
	return fmt.Sprintf(`{"type":"user.created","dedup_id":%q,"payload":{"id":%q}}`, dedupID, dedupID)
}

// postUntil posts events from 32 clients, sends the server a signal when a
// number of them is acknowledged, and returns its exit code.
func postUntil(t *testing.T, p *process, key string, acks *known, killAt int, signal syscall.Signal) int {
	t.Helper()
	next := make(chan string)
	killed := make(chan struct{})
	kill := sync.OnceFunc(func() { close(killed) })
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for dedupID := range next {
				answer, ok := p.tryEvent(key, crashEvent(dedupID))
				if ok && acks.note(dedupID, answer.EventID) >= killAt {
					kill()
				}
			}
		})
	}
	go func() {
		defer close(next)
		for i := range 2000 {
			select {
			case next <- fmt.Sprint("d", i):
			case <-killed:
				return
			}
		}
	}()
	<-killed
	defer clients.Wait()
	return p.end(t, signal)
}

// untilReceived waits until each acknowledged event has come.
func untilReceived(t *testing.T, rec *recorder, acks *known) {
	t.Helper()
	deadline := time.After(patience)
	for {
		came := map[string]bool{}
		rec.mu.Lock()
		for _, r := range rec.got {
			came[r.header.Get("Webhook-Id")] = true
		}
		more := rec.more
		rec.mu.Unlock()
		missing := 0
		for _, id := range acks.acked {
			if !came[id] {
				missing++
			}
		}
		if missing == 0 {
			return
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("%d of %d acknowledged events did not come", missing, len(acks.acked))
		}
	}
}

// waitForEmpty waits until no event is pending.
func waitForEmpty(t *testing.T, p *process, key string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		r := p.get(t, key, "/api/inbox?status=pending&limit=1")
		if strings.HasSuffix(r.body, `"count":0}`) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still pending: %s", r.body)
		}
	}
}
