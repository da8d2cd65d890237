package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// The promise is 5 s on all nodes.
func TestRightEndsInTime(t *testing.T) {
	t.Parallel()
	if sum := keyTTL + rightAgain + rightGrace; sum >= 5*time.Second {
		t.Errorf("a right that ends elsewhere ends here after up to %s, want less than 5 s", sum)
	}
}

// shifted is the real time and what a test adds to it: deadlines work, and
// caches can be made old.
type shifted struct{ by atomic.Int64 }

func (c *shifted) Now() time.Time { return time.Now().Add(time.Duration(c.by.Load())) }

// hanging is an engine whose attempts last until they are cut.
type hanging struct {
	engine
	entered chan struct{}
}

func (e *hanging) Try(ctx context.Context, _ *trigger.Webhook, _ *trigger.Event) trigger.Attempt {
	e.entered <- struct{}{}
	<-ctx.Done()
	return trigger.Attempt{Outcome: trigger.Outcome("transient"), Error: "cut"}
}

// lasting is a request that is under way. end returns what it was answered: a
// status and the answer's body, whole.
type lasting struct {
	name string
	conn net.Conn
	in   *bufio.Reader
}

func (s *server) begin(t *testing.T, name, request string) *lasting {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	return &lasting{name, conn, bufio.NewReader(conn)}
}

// end reads the answer to its end.
func (l *lasting) end(t *testing.T) (int, http.Header, string) {
	t.Helper()
	res, err := http.ReadResponse(l.in, nil)
	if err != nil {
		t.Fatalf("%s: no answer: %v", l.name, err)
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		t.Errorf("%s: the answer is cut: %v", l.name, err)
	}
	return res.StatusCode, res.Header, string(body)
}

// goesOn waits until the server reads the body of a request that has asked
// whether it may send it.
func (l *lasting) goesOn(t *testing.T) {
	t.Helper()
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = l.in.ReadString('\n'); err != nil {
			t.Fatalf("%s: %v", l.name, err)
		}
	}
}

// endings are the ways for a right to end. Each returns the problem that
// follows.
func endings(s *server, key client.Key, admin string) map[string]func(t *testing.T) (int, string) {
	set := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	return map[string]func(t *testing.T) (int, string){
		"revoked": func(t *testing.T) (int, string) {
			set(t, s.as(admin).DeleteKey(t.Context(), key.ID))
			return 401, "unauthorized"
		},
		"expired": func(*testing.T) (int, string) {
			s.db.Clock.Advance(2 * time.Hour)
			return 401, "unauthorized"
		},
		"suspended": func(t *testing.T) (int, string) {
			_, err := s.as(operator).UpdateOrganization(t.Context(), s.keyOf(t, key.Key).Organization.ID,
				client.OrganizationPatch{Suspended: client.Set(true)})
			set(t, err)
			return 403, "organization_suspended"
		},
		"deleted": func(t *testing.T) (int, string) {
			set(t, s.as(operator).DeleteOrganization(t.Context(), s.keyOf(t, key.Key).Organization.ID))
			return 401, "unauthorized"
		},
	}
}

// Whatever a request waits for, it ends when its right does: on the node where
// that was changed, and on another one.
func TestRightEndsWhatLasts(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		st := db.Open(t)
		for _, name := range []string{"revoked", "expired", "suspended", "deleted"} {
			s := serveStore(t, db, st, withOperator)
			times, hung := &shifted{}, &hanging{entered: make(chan struct{}, 1)}
			other := serveStore(t, db, st, withOperator, func(a *API) { a.Now, a.Engine = times.Now, hung })
			_, admin := s.found(t)
			key := s.make(t, admin, client.KeyInput{ExpiresAt: s.store.Now().Add(time.Hour)})
			hook := sure(s.as(admin).CreateWebhook(t.Context(), client.WebhookInput{URL: "https://example.com/", Types: []string{"none"}}))(t)
			waiting := other.lastingRequests(t, key.Key, hook.ID, hung)
			status, code := endings(s, key, admin)[name](t)
			times.by.Add(int64(keyTTL))
			for _, l := range waiting {
				got, header, body := l.end(t)
				switch l.name {
				case "stream":
					if got != 200 || !strings.HasPrefix(body, ": open\n\n") {
						t.Errorf("%s, %s: %d %q", name, l.name, got, body)
					}
					continue
				case "an original body":
					if got != status || !strings.HasPrefix(body, `{"error":`) {
						t.Errorf("%s, %s: %d %s, want %d", name, l.name, got, body, status)
					}
				default:
					if got != status || !strings.Contains(body, `"code":"`+code+`"`) {
						t.Errorf("%s, %s: %d %s, want %d %s", name, l.name, got, body, status, code)
					}
				}
				if (header.Get("WWW-Authenticate") != "") != (status == 401) || header.Get("RateLimit") != "" && status == 401 {
					t.Errorf("%s, %s: %v", name, l.name, header)
				}
			}
		}
	})
}

// lastingRequests begins one request of each kind that lasts, with one key, and
// returns when all of them are under way.
func (s *server) lastingRequests(t *testing.T, key string, hook int64, hung *hanging) []*lasting {
	t.Helper()
	head := func(method, path string, more ...string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + key + "\r\nContent-Type: application/json\r\n" + strings.Join(more, "") + "\r\n"
	}
	const wait = `{"wait_seconds":30}`
	claim := s.begin(t, "claim", head("POST", "/v1/inbox/claim", "Content-Length: "+strconv.Itoa(len(wait))+"\r\n")+wait)
	eventually(t, "the claim waits", s.isWaited)
	test := s.begin(t, "test", head("POST", "/v1/webhooks/"+strconv.FormatInt(hook, 10)+"/test", "Content-Length: 2\r\n")+"{}")
	<-hung.entered
	stream := s.begin(t, "stream", head("GET", "/v1/inbox/stream"))
	if _, err := stream.in.Peek(1); err != nil { // the answer begins after the first look
		t.Fatal(err)
	}
	all := []*lasting{claim, test, stream}
	for name, target := range map[string]string{
		"a body": "POST /v1/events", "an original body": "POST /api/events", "a change": "PATCH /v1/webhooks/" + strconv.FormatInt(hook, 10),
	} {
		method, path, _ := strings.Cut(target, " ")
		l := s.begin(t, name, head(method, path, "Content-Length: 100\r\nExpect: 100-continue\r\n"))
		l.goesOn(t)
		all = append(all, l)
	}
	return all
}

// A client that does not read is let go, too, where it has begun to get a page
// or a stream.
func TestRightEndsForSlowReaders(t *testing.T) {
	t.Parallel()
	times := &shifted{}
	s := newServer(t, storetest.SQLite(t), withOperator, func(a *API) { a.Now = times.Now })
	_, admin := s.found(t)
	large := []byte(`"` + strings.Repeat("x", 1<<20) + `"`)
	for range 20 { // more than what the connections take
		if _, err := s.api.Writer.Add(t.Context(), &trigger.Event{OrganizationID: s.keyOf(t, admin).Organization.ID, Type: "t", Payload: large}); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/v1/inbox/stream", "/v1/inbox?limit=100", "/v1/events?limit=100", "/api/inbox?limit=100"} {
		key := s.make(t, admin, client.KeyInput{})
		l := s.begin(t, path, "GET "+path+" HTTP/1.1\r\nHost: a\r\nX-Api-Key: "+key.Key+"\r\n\r\n")
		if _, err := l.in.Peek(1); err != nil {
			t.Fatal(err)
		}
		if err := s.as(admin).DeleteKey(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		line := `"method":"GET","route":"` + strings.TrimSuffix(path, "?limit=100") + `"`
		eventually(t, path+" is given up", func() bool { return strings.Contains(s.log.String(), line) })
	}
	eventually(t, "all memory is given back", func() bool { return s.api.used.inUse() == 0 })
}

// watched is the right to a request, as it is watched.
func (s *server) watched(t *testing.T, method, path, key string) *right {
	t.Helper()
	for _, rt := range s.api.routes() {
		if rt.method != method || rt.path != path {
			continue
		}
		r := &request{Request: httptest.NewRequestWithContext(t.Context(), method, path, nil)}
		r.Header.Set("X-Api-Key", key)
		if err := s.api.authorize(&rt, r); err != nil {
			t.Fatal(err)
		}
		g := s.api.watch(&rt, &recorder{ResponseWriter: httptest.NewRecorder()}, r)
		t.Cleanup(g.release)
		return g
	}
	t.Fatalf("there is no %s %s", method, path)
	return nil
}

// A database that does not answer takes no right away.
func TestRightOutlivesTheDatabase(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, key := s.found(t)
		g := s.watched(t, "GET", "/v1/inbox/stream", key)
		if err := s.store.Close(); err != nil {
			t.Fatal(err)
		}
		s.clock.Advance(keyTTL) // it is no longer cached
		if err := s.api.stillMay(g.route, g.r); trigger.KindOf(err) != trigger.Unavailable {
			t.Fatalf("the key is found: %v", err)
		}
		g.check()
		if err := g.ended(); err != nil || g.r.Context().Err() != nil {
			t.Errorf("without a database: %v, %v", err, g.r.Context().Err())
		}
	})
}

// What a request has begun to change is not cut when its right ends: it may be
// the change that ended it.
func TestRightCutsNoChange(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator)
	_, admin := s.found(t)
	for _, c := range []struct {
		method, path string
		cut          bool
	}{
		{"POST", "/v1/keys/{key_id}/rotate", false},
		{"POST", "/v1/events", false},
		{"GET", "/v1/events", true},
		{"POST", "/v1/inbox/claim", true},
	} {
		key := s.make(t, admin, client.KeyInput{})
		g := s.watched(t, c.method, c.path, key.Key)
		g.readBody()
		if err := g.hasBody(); err != nil {
			t.Errorf("%s %s: %v", c.method, c.path, err)
		}
		if err := s.as(admin).DeleteKey(t.Context(), key.ID); err != nil {
			t.Fatal(err)
		}
		g.check()
		if ended, cut := g.ended() != nil, g.r.Context().Err() != nil; ended != c.cut || cut != c.cut {
			t.Errorf("%s %s has ended: %v, is cut: %v, want %v", c.method, c.path, ended, cut, c.cut)
		}
		if cause := context.Cause(g.r.Context()); c.cut && !errors.Is(cause, g.ended()) {
			t.Errorf("%s %s: the cause is %v, want %v", c.method, c.path, cause, g.ended())
		}
	}
}

// deadlines is an answer that notes its write deadline.
type deadlines struct {
	http.ResponseWriter
	write time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.write = at
	return nil
}

// A handler that sets its next deadline as the right ends does not outlive it.
func TestNoDeadlineAfterTheRight(t *testing.T) {
	t.Parallel()
	d := &deadlines{ResponseWriter: httptest.NewRecorder()}
	out := &recorder{ResponseWriter: d}
	last := time.Unix(1000, 0)
	for i, c := range []struct{ set, want time.Time }{
		{last.Add(time.Hour), last.Add(time.Hour)},
		{last.Add(time.Hour), last},
		{time.Time{}, last},
		{last.Add(-time.Hour), last.Add(-time.Hour)},
	} {
		if i == 1 {
			out.endBy(last)
		}
		if err := http.NewResponseController(out).SetWriteDeadline(c.set); err != nil || !d.write.Equal(c.want) {
			t.Errorf("%d: %s, %v; want %s", i, d.write, err, c.want)
		}
	}
}
