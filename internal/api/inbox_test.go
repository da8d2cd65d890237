package api

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// ticking lets the API's clock run, which stands still otherwise: what is
// written late has a deadline by it.
func ticking(a *API) { a.Now = time.Now }

// impatient serves the API at an address that gives requests little time to be
// read, which a test of what takes long must outlive.
func (s *server) impatient(t *testing.T) {
	t.Helper()
	other := httptest.NewUnstartedServer(s.Config.Handler)
	other.Config.ReadTimeout, other.Config.WriteTimeout = 100*time.Millisecond, time.Minute
	other.Config.ErrorLog = s.Config.ErrorLog
	other.Start()
	s.URL = other.URL
	t.Cleanup(func() {
		s.api.inboxes.close()
		other.Close()
	})
}

// claimedIDs are those of what was claimed.
func claimedIDs(c client.Claim) (ids []string) {
	for _, e := range c.Data {
		ids = append(ids, e.ID)
	}
	return ids
}

// postTo posts an event to the inbox, and gives its id.
func (s *server) postTo(t *testing.T, key string, in client.EventInput) string {
	t.Helper()
	if in.Type == "" {
		in.Type = "t"
	}
	if in.Payload == nil {
		in.Payload = json.RawMessage(`1`)
	}
	made, err := s.as(key).PostEvent(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return made.ID
}

// The life of a claim: what is acknowledged is delivered, what is not comes
// back, and nobody else can do either.
func TestClaims(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key, other := s.newKey(t, "free"), s.newKey(t, "free")
		c := s.as(key)
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{}))(t); got.ID != "" || len(got.Data) != 0 {
			t.Errorf("claimed of nothing: %+v", got)
		}
		var ids []string
		for range 3 {
			ids = append(ids, s.postTo(t, key, client.EventInput{}))
		}
		first := sure(c.ClaimInbox(t.Context(), client.ClaimInput{Limit: 2, LeaseSeconds: 100}))(t)
		if got := claimedIDs(first); len(got) != 2 || got[0] != ids[0] || got[1] != ids[1] || first.Data[0].Attempts != 1 || !first.Data[0].ClaimedUntil.Equal(first.LeasedUntil) {
			t.Errorf("claimed %+v", first)
		}
		status := func(list []client.InboxResult, err error) string {
			t.Helper()
			words := []string{}
			for _, r := range sure(list, err)(t) {
				words = append(words, r.Status)
			}
			return strings.Join(words, " ")
		}
		if got := status(s.as(other).AckInbox(t.Context(), first.ID, ids)); got != "lost lost lost" {
			t.Errorf("by another organization: %s", got)
		}
		if got := status(c.AckInbox(t.Context(), first.ID, []string{ids[0], ids[2], ids[0]})); got != "acknowledged lost acknowledged" {
			t.Errorf("acknowledged: %s", got)
		}
		if got := status(c.AckInbox(t.Context(), first.ID, ids[:1])); got != "acknowledged" {
			t.Errorf("acknowledged again: %s", got)
		}
		if e := sure(c.Event(t.Context(), ids[0]))(t); e.Status != "delivered" || e.Deliveries[0].Verdict != "delivered" || e.Deliveries[0].LastAttempt == nil {
			t.Errorf("acknowledged: %+v", e)
		}
		nobody := "00000000-0000-0000-0000-000000000000"
		for _, path := range []string{"ack", "release", "extend"} {
			s.do(t, "POST", "/v1/inbox/"+path, key, `{"claim":"`+nobody+`","ids":["`+ids[2]+`"]}`, "Content-Type: application/json").
				wants(t, "nobody's claim, to "+path, 422, `"pointer":"#/claim"`)
		}
		db.Clock.Advance(200 * time.Second)
		if list := sure(c.InboxPage(t.Context(), 10, ""))(t).Data; len(list) != 2 || list[0].ID != ids[1] || !list[0].ClaimedUntil.IsZero() || list[0].Attempts != 1 {
			t.Errorf("open are %+v", list)
		}
		late := sure(c.ExtendInbox(t.Context(), first.ID, ids[:2], 60))(t)
		if len(late.Data) != 2 || late.Data[0].Status != "lost" || late.Data[1].Status != "extended" {
			t.Errorf("extended late: %+v", late)
		}
		db.Clock.Advance(61 * time.Second)
		second := sure(c.ClaimInbox(t.Context(), client.ClaimInput{Limit: 10}))(t)
		if got := claimedIDs(second); len(got) != 2 || second.Data[0].ID != ids[1] || second.Data[0].Attempts != 2 || second.Data[1].Attempts != 1 {
			t.Errorf("claimed again: %+v", second)
		}
		if got := status(c.AckInbox(t.Context(), first.ID, ids[1:2])); got != "lost" {
			t.Errorf("of a claim that another has followed: %s", got)
		}
		if got := status(c.ReleaseInbox(t.Context(), second.ID, ids[1:2], 30)); got != "released" {
			t.Errorf("released: %s", got)
		}
		if got := status(c.AckInbox(t.Context(), second.ID, ids[1:])); got != "lost acknowledged" {
			t.Errorf("after a release: %s", got)
		}
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{}))(t); len(got.Data) != 0 {
			t.Errorf("claimed before its delay is over: %+v", got)
		}
		db.Clock.Advance(31 * time.Second)
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{}))(t); len(got.Data) != 1 {
			t.Errorf("claimed after its delay: %+v", got)
		}
	})
}

// A claim that waits is woken by what is posted, outlives the time for reading
// a request, and ends with the server.
func TestClaimWaits(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, ticking)
		s.impatient(t)
		key := s.newKey(t, "enterprise")
		c := s.as(key)
		for i := range 20 { // each would take a second without being woken
			claims := make(chan client.Claim)
			go func() {
				got, err := c.ClaimInbox(t.Context(), client.ClaimInput{WaitSeconds: 30})
				if err != nil {
					t.Error(err)
				}
				claims <- got
			}()
			eventually(t, "it waits", func() bool { return s.isWaited() })
			id := s.postTo(t, key, client.EventInput{})
			if got := <-claims; len(got.Data) != 1 || got.Data[0].ID != id {
				t.Fatalf("claim %d: %+v", i, got)
			} else if _, err := c.AckInbox(t.Context(), got.ID, claimedIDs(got)); err != nil {
				t.Fatal(err)
			}
		}
		// One outlives ReadTimeout, with nothing to claim: it is answered when it is due.
		later := s.postTo(t, key, client.EventInput{DeliverAt: s.store.Now().Add(400 * time.Millisecond)})
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{WaitSeconds: 20}))(t); len(got.Data) != 1 || got.Data[0].ID != later {
			t.Errorf("after a while: %+v", got)
		}
		// A client that leaves while it waits takes nothing with it.
		gone, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := c.ClaimInbox(gone, client.ClaimInput{WaitSeconds: 30, LeaseSeconds: 3600})
			left <- err
		}()
		eventually(t, "it waits", func() bool { return s.isWaited() })
		leave()
		if err := <-left; err == nil {
			t.Error("a client that has left got an answer")
		}
		id := s.postTo(t, key, client.EventInput{})
		got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{WaitSeconds: 30}))(t)
		if len(got.Data) == 0 || got.Data[0].ID != id {
			t.Errorf("what was posted after a client has left: %+v", got)
		}
		// The stop ends what waits, with an answer.
		ended := make(chan client.Claim)
		go func() {
			got, err := c.ClaimInbox(t.Context(), client.ClaimInput{WaitSeconds: 30})
			if err != nil {
				t.Error(err)
			}
			ended <- got
		}()
		eventually(t, "it waits", func() bool { return s.isWaited() })
		s.api.inboxes.close()
		if got := <-ended; got.ID != "" {
			t.Errorf("at the stop: %+v", got)
		}
		if got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{WaitSeconds: 30}))(t); got.ID != "" {
			t.Errorf("after the stop: %+v", got)
		}
	})
}

// isWaited reports whether a request waits for an inbox.
func (s *server) isWaited() bool {
	s.api.inboxes.mu.Lock()
	defer s.api.inboxes.mu.Unlock()
	return len(s.api.inboxes.of) > 0
}

func TestInboxRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "free")
	id := s.postTo(t, key, client.EventInput{})
	for _, c := range []struct{ path, body, at string }{
		{"claim", `{"limit":0}`, "#/limit"},
		{"claim", `{"limit":1001}`, "#/limit"},
		{"claim", `{"limit":1.5}`, "#/limit"},
		{"claim", `{"lease_seconds":0.5}`, "#/lease_seconds"},
		{"claim", `{"lease_seconds":43201}`, "#/lease_seconds"},
		{"claim", `{"wait_seconds":30.1}`, "#/wait_seconds"},
		{"claim", `{"wait_seconds":-1}`, "#/wait_seconds"},
		{"claim", `{"more":1}`, "#/more"},
		{"ack", `{}`, "#/claim"},
		{"ack", `{"claim":"` + id + `"}`, "#/ids"},
		{"ack", `{"claim":"` + id + `","ids":[]}`, "#/ids"},
		{"ack", `{"claim":"` + id + `","ids":["` + id + `","x"]}`, "#/ids/1"},
		{"ack", `{"claim":"x","ids":["` + id + `"]}`, "#/claim"},
		{"ack", `{"claim":"` + id + `","ids":["` + id + `"],"lease_seconds":1}`, "#/lease_seconds"},
		{"ack", `{"claim":"` + id + `","ids":["` + id + `"],"delay_seconds":1}`, "#/delay_seconds"},
		{"release", `{"claim":"` + id + `","ids":["` + id + `"],"delay_seconds":43201}`, "#/delay_seconds"},
		{"release", `{"claim":"` + id + `","ids":["` + id + `"],"lease_seconds":1}`, "#/lease_seconds"},
		{"extend", `{"claim":"` + id + `","ids":["` + id + `"],"delay_seconds":1}`, "#/delay_seconds"},
		{"extend", `{"claim":"` + id + `","ids":["` + id + `"],"lease_seconds":0}`, "#/lease_seconds"},
		{"extend", `{"claim":"` + id + `","ids":["` + id + `"],"":1}`, "#/"},
	} {
		s.do(t, "POST", "/v1/inbox/"+c.path, key, c.body, "Content-Type: application/json").wantsProblem(t, c.path+" "+c.body, 422, "validation_failed", c.at)
	}
	s.do(t, "GET", "/v1/inbox/stream?last_event_id=", key, "").wantsProblem(t, "empty", 400, "invalid_parameter", "last_event_id")
	s.do(t, "GET", "/v1/inbox/stream", key, "", "Last-Event-ID: x").wantsProblem(t, "no id", 400, "invalid_parameter", "last_event_id")
	if got := sure(s.as(key).ClaimInbox(t.Context(), client.ClaimInput{}))(t); len(got.Data) != 1 || got.Data[0].Attempts != 1 {
		t.Errorf("after all that: %+v", got)
	}
}

// Whoever follows a stream, over connections that break, sees all that is
// accepted, and what was to be delivered later when it is due.
func TestStreamHasNoGap(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, ticking)
		s.impatient(t)
		key := s.newKey(t, "enterprise")
		var mu sync.Mutex
		posted, seen := map[string]bool{}, map[string]bool{}
		later := s.postTo(t, key, client.EventInput{DeliverAt: s.store.Now().Add(time.Hour)})
		const posters, each = 4, 40
		var posting, following sync.WaitGroup
		for range posters {
			posting.Go(func() {
				for range each {
					made, err := s.as(key).PostEvent(t.Context(), client.EventInput{Type: "t", Payload: json.RawMessage("[1,\r\n2,\n\r3]")})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					posted[made.ID] = true
					mu.Unlock()
				}
			})
		}
		all, stop := context.WithCancel(t.Context())
		defer stop()
		following.Go(func() {
			for last, n := "", 0; all.Err() == nil; n++ {
				one, cut := context.WithCancel(all)
				count := 0
				for e, err := range s.as(key).StreamInbox(one, last) {
					if err != nil {
						break // its context's
					}
					if got := string(e.Payload); got != "1" && strings.Join(strings.Fields(got), "") != "[1,2,3]" {
						t.Errorf("payload %q", got)
					}
					mu.Lock()
					seen[e.ID] = true
					mu.Unlock()
					last = e.ID
					if count++; count > 60*n {
						break
					}
				}
				cut()
			}
		})
		posting.Wait()
		sees := func(ids ...string) func() bool {
			return func() bool {
				mu.Lock()
				defer mu.Unlock()
				for _, id := range ids {
					if !seen[id] {
						return false
					}
				}
				return true
			}
		}
		for id := range posted {
			eventually(t, "the stream shows "+id, sees(id))
		}
		if sees(later)() {
			t.Error("an event was shown before it was due")
		}
		db.Clock.Advance(2 * time.Hour)
		eventually(t, "what has come due is shown", sees(later))
		last := s.postTo(t, key, client.EventInput{})
		eventually(t, "it goes on", sees(last))
		s.api.inboxes.close()
		stop()
		following.Wait()
	})
}

// follow opens a stream, and gives its lines.
func (s *server) follow(t *testing.T, key, query string, headers ...string) (lines *bufio.Scanner, header http.Header, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", s.URL+"/v1/inbox/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-api-key", key)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(res.Body), res.Header, func() {
		cancel()
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}

// nextID reads on to the next event, and gives its id.
func nextID(t *testing.T, lines *bufio.Scanner) string {
	t.Helper()
	for lines.Scan() {
		if id, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			return id
		}
	}
	t.Fatalf("the stream has ended: %v", lines.Err())
	return ""
}

// A stream goes on where its reader was: the header of one who comes back
// counts before the address, which is as old as the first connection.
func TestStreamResumes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, ticking)
		key := s.newKey(t, "free")
		var ids []string
		for range 4 {
			ids = append(ids, s.postTo(t, key, client.EventInput{}))
			db.Clock.Advance(time.Minute)
		}
		for _, c := range []struct {
			query, header string
			from          int
		}{
			{"", "", 0}, {"?last_event_id=" + ids[1], "", 1}, {"", ids[2], 2}, {"?last_event_id=" + ids[0], ids[3], 3},
		} {
			lines, header, leave := s.follow(t, key, c.query, "Last-Event-ID: "+c.header)
			if header.Get("Content-Type") != "text/event-stream" || header.Get("Cache-Control") != "no-store" {
				t.Errorf("header %v", header)
			}
			for _, want := range ids[c.from:] {
				if got := nextID(t, lines); got != want {
					t.Errorf("%s %s: %s, want %s", c.query, c.header, got, want)
				}
			}
			leave()
		}
	})
}

// A stream that has nothing to say gives signs of life, for longer than the
// server takes to read a request, and ends at a stop.
func TestStreamHeartbeat(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), ticking)
	s.impatient(t)
	lines, _, leave := s.follow(t, s.newKey(t, "free"), "")
	defer leave()
	for want := range strings.SplitSeq(": open\n\n: heartbeat\n", "\n") {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, %v; want %q", lines.Text(), lines.Err(), want)
		}
	}
	s.api.inboxes.close()
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the stop: %q, %v", lines.Text(), lines.Err())
	}
}

// A reader that does not read holds no more than a page in memory, and is let
// go.
func TestStreamOfSlowReader(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), ticking)
	key := s.newKey(t, "enterprise")
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for range 20 { // more than what the connection takes
		if _, err := s.api.Writer.Add(t.Context(), &trigger.Event{OrganizationID: s.keyOf(t, key).Organization.ID, Type: "t", Payload: large}); err != nil {
			t.Fatal(err)
		}
	}
	_, _, leave := s.follow(t, key, "")
	defer leave()
	eventually(t, "a page is held", func() bool {
		s.api.used.mu.Lock()
		defer s.api.used.mu.Unlock()
		if s.api.used.used > 3*streamBytes {
			t.Errorf("%d bytes are held", s.api.used.used)
		}
		return s.api.used.used > streamBytes
	})
	leave()
	eventually(t, "all is given back", func() bool {
		s.api.used.mu.Lock()
		defer s.api.used.mu.Unlock()
		return s.api.used.used == 0
	})
}
