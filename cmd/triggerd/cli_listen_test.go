package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/trigger"
)

// eventStore is a fake API that lists events by type and time, newest first.
type eventStore struct {
	mu     sync.Mutex
	events []client.Event
	down   bool
	looks  int
}

// add keeps an event of some age.
func (s *eventStore) add(n int, eventType string, age time.Duration) client.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := time.Now().Add(-age).Truncate(time.Millisecond)
	event := client.Event{ID: trigger.NewID(at, uint16(n), 1).String(), Type: eventType, Payload: json.RawMessage(`{"n":1.0}`), CreatedAt: at}
	s.events = append(s.events, event)
	return event
}

func (s *eventStore) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *eventStore) answer(request string) (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks++; s.down {
		return 503, `{"status":503,"code":"unavailable","title":"Unavailable"}`
	}
	_, uri, _ := strings.Cut(request, " ")
	at, _ := url.Parse(uri)
	q := at.Query()
	since, _ := time.Parse(time.RFC3339Nano, q.Get("since"))
	found := []client.Event{}
	for _, event := range s.events {
		if trigger.StoredPattern(q.Get("type")).Match(event.Type) && !event.CreatedAt.Before(since) {
			found = append([]client.Event{event}, found...)
		}
	}
	if q.Get("limit") == "1" && len(found) > 1 {
		found = found[:1]
	}
	body, _ := json.Marshal(map[string]any{"data": found, "next_cursor": nil})
	return 200, string(body)
}

// listening runs a listener whose lines can be waited for.
type listening struct {
	lines *bufio.Scanner
	stop  func() string // gives what is left to read
}

// listen runs l until the end of the test, or stop.
func listen(t *testing.T, api *fakeAPI, l *listener, run func(context.Context) error) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	l.session = &session{out: write, errOut: write, now: time.Now}
	for _, end := range []**link{&l.from, &l.settle} {
		var err error
		if *end, err = (&remote{URL: api.URL}).link(l.session, "sk_x", ""); err != nil {
			t.Fatal(err)
		}
	}
	l.from.Retries = -1
	ended := make(chan error, 1)
	go func() {
		err := run(ctx)
		l.close()
		write.Close()
		ended <- err
	}()
	scanner := bufio.NewScanner(read)
	stop := sync.OnceValue(func() string {
		cancel()
		var rest strings.Builder
		for scanner.Scan() {
			rest.WriteString(scanner.Text() + "\n")
		}
		if err := <-ended; err != nil {
			t.Errorf("it ended with %v", err)
		}
		return rest.String()
	})
	t.Cleanup(func() { stop() })
	return &listening{scanner, stop}
}

// line is the next line that has a part.
func (l *listening) line(t *testing.T, part string) string {
	t.Helper()
	for l.lines.Scan() {
		if strings.Contains(l.lines.Text(), part) {
			return l.lines.Text()
		}
	}
	t.Fatalf("there was no line with %q", part)
	return ""
}

func TestListenForwardsNewEvents(t *testing.T) {
	t.Parallel()
	store := &eventStore{}
	store.add(1, "user.created", time.Second) // before the start
	api := newFakeAPI(t, store.answer)
	secret := newSecret()
	rec := newRecorder(t, func(n int, _ received) int {
		if n == 1 {
			return 500
		}
		return 204
	})
	l := &listener{to: newForwarder(rec.URL+"/hook", secret, patience, time.Now), pattern: "user.*", every: time.Millisecond, pause: time.Millisecond}
	out := listen(t, api, l, l.follow)
	out.line(t, "ready")
	store.add(2, "order.paid", 0)
	first := store.add(3, "user.created", 0)
	out.line(t, first.ID)
	late := store.add(4, "user.deleted", 10*time.Second) // visible late
	out.line(t, "500")
	out.line(t, late.ID)
	got := rec.wait(t, 3)
	verifier, err := client.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []client.Event{first, late, late} {
		body := fmt.Sprintf(`{"id":"%s","type":"%s","timestamp":"%s","data":{"n":1.0}}`, want.ID, want.Type, want.CreatedAt.UTC().Format("2006-01-02T15:04:05.000Z"))
		if diff := cmp.Diff(body, string(got[i].body)); diff != "" || got[i].path != "/hook" {
			t.Errorf("%s %s", got[i].path, diff)
		}
		h := got[i].header
		if err := verifier.Verify(h, got[i].body); err != nil || h.Get("Content-Type") != "application/json" || h.Get("User-Agent") != "triggerd/dev" || len(h.Get("Traceparent")) != 55 {
			t.Errorf("%v: %v", err, h)
		}
	}
	out.stop()
	if l.taken != 2 || l.refused != 0 || len(rec.wait(t, 3)) != 3 {
		t.Errorf("%d taken, %d refused", l.taken, l.refused)
	}
}

// A server that is away for a while is told so once, and nothing is missed.
func TestListenBearsTrouble(t *testing.T) {
	t.Parallel()
	store := &eventStore{}
	store.setDown(true)
	api := newFakeAPI(t, store.answer)
	rec := newRecorder(t, nil)
	l := &listener{to: newForwarder(rec.URL, newSecret(), patience, time.Now), every: time.Millisecond, pause: time.Millisecond}
	out := listen(t, api, l, l.follow)
	out.line(t, "Unavailable; retrying")
	store.setDown(false)
	out.line(t, "connected again")
	out.line(t, "ready")
	store.setDown(true)
	out.line(t, "Unavailable; retrying")
	missed := store.add(1, "a", 0)
	store.setDown(false)
	out.line(t, missed.ID)
}

// A receiver that is away gets each event four times, and then the next one.
func TestListenGoesOnWithoutReceiver(t *testing.T) {
	t.Parallel()
	store := &eventStore{}
	api := newFakeAPI(t, store.answer)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	l := &listener{to: newForwarder(gone.URL, newSecret(), patience, time.Now), every: time.Millisecond, pause: time.Millisecond}
	out := listen(t, api, l, l.follow)
	out.line(t, "ready")
	first, second := store.add(1, "a", 0), store.add(2, "b", 0)
	for _, event := range []client.Event{first, second} {
		for range watchRetries {
			if line := out.line(t, event.ID); !strings.Contains(line, "connection refused") || !strings.Contains(line, "retry in") {
				t.Errorf("the line is %s", line)
			}
		}
		if line := out.line(t, event.ID); strings.Contains(line, "retry in") {
			t.Errorf("the line is %s", line)
		}
	}
	out.stop()
	if l.refused != 2 {
		t.Errorf("%d refused", l.refused)
	}
}

// What no other try can help with ends it.
func TestListenEnds(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, always(401, `{"status":401,"code":"unauthorized","title":"Unauthorized"}`))
	for _, more := range []string{"", "--inbox"} {
		got := api.run(t, "", strings.Fields("listen --forward http://127.0.0.1:1 "+more)...)
		got.failsWith(t, "Unauthorized; is TRIGGERD_KEY")
		if !strings.Contains(got.out, "secret for the receiver, which verifies the signatures: whsec_") || !strings.Contains(got.out, "0 forwarded, 0 refused") {
			t.Errorf("it wrote %q", got.out)
		}
	}
}

// Of events that are scheduled, and of operational events, the listener makes
// what the server does.
func TestListenHoldsAndLeavesOut(t *testing.T) {
	t.Parallel()
	notice := client.Event{Type: "webhook.paused", DedupID: "triggerd/webhook.paused/1/x"}
	own := client.Event{Type: "webhook.paused", DedupID: "x"}
	for pattern, want := range map[string]bool{"": false, "*": false, "webhook.*": true} {
		if wanted(pattern, notice) != want || !wanted(pattern, own) {
			t.Errorf("pattern %q: %v, %v", pattern, wanted(pattern, notice), wanted(pattern, own))
		}
	}
	store := &eventStore{}
	api := newFakeAPI(t, store.answer)
	rec := newRecorder(t, nil)
	l := &listener{to: newForwarder(rec.URL, newSecret(), patience, time.Now), every: time.Millisecond, pause: time.Millisecond}
	out := listen(t, api, l, l.follow)
	out.line(t, "ready")
	store.mu.Lock()
	at := time.Now().Truncate(time.Millisecond)
	event := client.Event{ID: trigger.NewID(at, 1, 1).String(), Type: "a", Payload: json.RawMessage("1"), CreatedAt: at, DeliverAt: at.Add(300 * time.Millisecond)}
	store.events = append(store.events, event)
	store.mu.Unlock()
	out.line(t, "is scheduled for")
	out.line(t, "200")
	if time.Now().Before(event.DeliverAt) {
		t.Error("it was forwarded too early")
	}
}

// inboxScript is a fake inbox with one event, which comes again if it is
// released.
func inboxScript(event string) (answer func(string) (int, string), deeds func() []string) {
	var mu sync.Mutex
	var done []string
	claims := 0
	answer = func(request string) (int, string) {
		mu.Lock()
		defer mu.Unlock()
		_, deed, _ := strings.Cut(request, "/v1/inbox/")
		if !strings.HasPrefix(deed, "claim") {
			done = append(done, deed)
			status := map[byte]string{'a': "acknowledged", 'r': "released", 'e': "extended"}[deed[0]]
			return 200, `{"data":[{"id":"` + event + `","status":"` + status + `"}]}`
		}
		if len(done) > 0 && strings.HasPrefix(done[len(done)-1], "ack") {
			return 200, `{"claim":null,"data":[]}`
		}
		claims++
		return 200, fmt.Sprintf(`{"claim":"c%d","data":[{"id":%q,"type":"a","payload":1,"created_at":"2026-01-02T03:04:05Z","attempts":%d}]}`, claims, event, claims)
	}
	return answer, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return append([]string(nil), done...)
	}
}

func TestListenToTheInbox(t *testing.T) {
	t.Parallel()
	answer, deeds := inboxScript(someEvent)
	api := newFakeAPI(t, answer)
	rec := newRecorder(t, func(n int, _ received) int { return []int{500, 404, 204}[n] })
	l := &listener{to: newForwarder(rec.URL, newSecret(), patience, time.Now), every: time.Millisecond, lease: time.Minute}
	out := listen(t, api, l, l.work)
	out.line(t, "500  ")
	out.line(t, "404  ")
	out.line(t, "204  ")
	want := []string{
		`release {"claim":"c1","ids":["` + someEvent + `"],"delay_seconds":1}`,
		`release {"claim":"c2","ids":["` + someEvent + `"],"delay_seconds":2}`,
		`ack {"claim":"c3","ids":["` + someEvent + `"]}`,
	}
	if diff := cmp.Diff(want, deeds()); diff != "" {
		t.Error(diff)
	}
	if got := releaseDelay(30); got != maxReleaseDelay {
		t.Errorf("after 30 claims the pause is %v", got)
	}
}

// A claim is kept while the receiver takes its time, and given back at a stop.
func TestListenKeepsTheClaim(t *testing.T) {
	t.Parallel()
	answer, deeds := inboxScript(someEvent)
	extended := make(chan struct{})
	once := sync.OnceFunc(func() { close(extended) })
	api := newFakeAPI(t, func(request string) (int, string) {
		if strings.Contains(request, "extend") {
			once()
		}
		return answer(request)
	})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(slow.Close)
	l := &listener{to: newForwarder(slow.URL, newSecret(), patience, time.Now), every: time.Millisecond, lease: 30 * time.Millisecond}
	out := listen(t, api, l, l.work)
	<-extended
	if rest := out.stop(); !strings.Contains(rest, "released") {
		t.Errorf("it wrote %q", rest)
	}
	done := deeds()
	if last := done[len(done)-1]; last != `release {"claim":"c1","ids":["`+someEvent+`"]}` {
		t.Errorf("the last was %s", last)
	}
}
