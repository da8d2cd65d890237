package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// partOf is a request whose body has a length, of which only some bytes come.
func partOf(key, from string, length, sent int) string {
	return fmt.Sprintf("POST /v1/events HTTP/1.1\r\nHost: a\r\nX-Api-Key: %s\r\nX-Forwarded-For: %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\n\r\n%s", key, from, length, strings.Repeat(" ", sent))
}

// behindProxy believes what a test says of its address.
func behindProxy(a *API) {
	a.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

// A body gets memory as it comes: its length alone costs next to nothing, and
// what it holds is in proportion to what has come.
func TestBodiesGetMemoryAsTheyCome(t *testing.T) {
	t.Parallel()
	for length, want := range map[int64][]int{ // for each of the lengths, what is held as it comes
		10:      {11},
		4095:    {4096},
		4096:    {4096, 4097},
		20_000:  {4 << 10, 16 << 10, 20_001},
		300_000: {4 << 10, 16 << 10, 64 << 10, 128 << 10, 256 << 10, 300_001},
		-1:      {512, 2 << 10, 8 << 10, 32 << 10, 128 << 10, 256 << 10, 512 << 10},
	} {
		a := API{used: newBudget(maxBodies), Now: newClock().Now}
		u := &upload{}
		var held []int
		rest := int(length)
		if length < 0 {
			rest = 300_000
		}
		all := rest
		body, err := a.readUpload(u, readerFunc(func(b []byte) (int, error) {
			if n := a.used.inUse(); len(held) == 0 || held[len(held)-1] != n {
				held = append(held, n)
			}
			n := min(1+len(b)/2, rest)
			if rest -= n; n == 0 {
				return 0, io.EOF
			}
			return n, nil
		}), length)
		if err != io.EOF || len(body) != all || !slices.Equal(held, want) {
			t.Errorf("of %d bytes came %d, which held %v, want %v; %v", length, len(body), held, want, err)
		}
		if err := a.used.end(u); err != nil || a.used.inUse() < len(body) {
			t.Errorf("%d bytes hold %d: %v", len(body), a.used.inUse(), err)
		}
		if a.used.free(u); a.used.inUse() != 0 || len(a.used.uploads) != 0 {
			t.Errorf("%d bytes are still held, by %d bodies", a.used.inUse(), len(a.used.uploads))
		}
	}
}

// readerFunc is a body that comes in pieces.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// The greedy organization takes what it can with bodies that do not come on,
// from an address of its own. The honest one still posts each time.
func TestGreedyBodies(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator, behindProxy)
	_, greedy := s.found(t)
	_, honest := s.found(t)
	const most = 64 * idleRead
	s.api.used.setMax(most)
	for i := range 32 {
		s.begin(t, "idle", partOf(greedy, "192.0.2.1", 1<<20, 0))
		eventually(t, "its body is waited for", func() bool { return s.api.used.inUse() == (i+1)*idleRead })
	}
	for i, sent := range []int{0, 1, idleRead} {
		l := s.begin(t, "one more", partOf(greedy, "192.0.2.1", 1<<20, sent))
		if status, header, body := l.end(t); status != 503 || header.Get("Retry-After") != "1" || !l.isClosed() {
			t.Errorf("the greedy organization got %d %s, %v", status, body, header)
		}
		large := `{"type":"t","payload":"` + strings.Repeat("x", 10*idleRead) + `"}`
		for range 10 {
			s.do(t, "POST", "/v1/events", honest, large, "Content-Type: application/json", "X-Forwarded-For: 192.0.2.2").wants(t, i, 201, "")
		}
	}
	if n := s.api.used.inUse(); n != most/2 {
		t.Errorf("%d bytes are in use, want %d", n, most/2)
	}
}

// Many organizations of one address leave a quarter to the other addresses.
func TestGreedyAddress(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator, behindProxy)
	const most = 64 * idleRead
	s.api.used.setMax(most)
	_, honest := s.found(t)
	keys := make([]string, 64) // first, since an idle body does not last long
	for i := range keys {
		_, keys[i] = s.found(t)
	}
	for n, refused := 0, 0; refused < 3; n++ {
		before := s.api.used.inUse()
		l := s.begin(t, "idle", partOf(keys[n], "2001:db8::"+fmt.Sprint(refused), 1<<20, 0))
		answered := make(chan int, 1)
		go func() {
			if res, err := http.ReadResponse(l.in, nil); err == nil {
				_ = res.Body.Close()
				answered <- res.StatusCode
			}
		}()
		eventually(t, "a body is waited for, or refused", func() bool { return s.api.used.inUse() > before || len(answered) > 0 })
		if len(answered) > 0 {
			refused++
			if status := <-answered; status != 503 {
				t.Fatalf("the greedy address got %d", status)
			}
		}
	}
	if n := s.api.used.inUse(); n < most/2 || n > most*3/4 {
		t.Errorf("one address holds %d bytes, want %d", n, most*3/4)
	}
	event := `{"type":"t","payload":"` + strings.Repeat("x", idleRead) + `"}`
	s.do(t, "POST", "/v1/events", honest, event, "Content-Type: application/json", "X-Forwarded-For: 2001:db8:0:1::").wants(t, "another address", 201, "")
}

// A body that does not come at the least rate ends with 408, whatever it holds,
// and others go on.
func TestSlowBodyIsCut(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "free")
	const whole = `{"type":"t","payload":1}`
	slow := s.begin(t, "slow", partOf(key, "", 1<<20, 100))
	original := s.begin(t, "slow", strings.Replace(partOf(key, "", 1<<20, 100), "/v1/", "/api/", 1))
	eventually(t, "two bodies have begun", func() bool { return s.lagging(0, 2) })
	s.clock.Advance(bodyGrace - time.Second)
	s.api.used.cutSlow(s.clock.Now())
	quick := s.begin(t, "quick", partOf(key, "", 100+len(whole), 100))
	eventually(t, "the third has begun", func() bool { return s.lagging(0, 3) })
	s.clock.Advance(2 * time.Second)
	s.api.used.cutSlow(s.clock.Now())
	for l, want := range map[*lasting]string{slow: `"code":"request_timeout"`, original: `{"error":"The body did not arrive in time: got 100 bytes`} {
		status, _, body := l.end(t)
		if status != 408 || !l.isClosed() || !strings.Contains(body, want) {
			t.Errorf("the slow body got %d %s", status, body)
		}
	}
	if _, err := io.WriteString(quick.conn, whole); err != nil {
		t.Fatal(err)
	}
	if status, _, body := quick.end(t); status != 201 {
		t.Errorf("the other one got %d %s", status, body)
	}
	if n := s.api.used.inUse(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// isClosed reports whether the server closes the connection after the answer.
func (l *lasting) isClosed() bool {
	_, err := l.in.ReadByte()
	timeout, ok := err.(net.Error)
	return err != nil && !(ok && timeout.Timeout())
}

// lagging reports whether n bodies are watched of which something has come.
func (s *server) lagging(least time.Duration, n int) bool {
	s.api.used.mu.Lock()
	defer s.api.used.mu.Unlock()
	for u := range s.api.used.uploads {
		if lag := u.lag(s.clock.Now()); lag >= least && lag != 0 || lag < 0 {
			n--
		}
	}
	return n == 0
}

// The same holds of a stream of HTTP/2, which has no connection of its own.
func TestSlowBodyOfHTTP2IsCut(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key := s.newKey(t, "free")
	secure := httptest.NewUnstartedServer(s.Config.Handler)
	secure.Config.ErrorLog, secure.EnableHTTP2 = s.Config.ErrorLog, true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	body, more := io.Pipe()
	defer more.Close()
	req, err := http.NewRequestWithContext(t.Context(), "POST", secure.URL+"/v1/events", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", key)
	answered := make(chan *http.Response, 1)
	go func() {
		res, err := secure.Client().Do(req)
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	eventually(t, "the body has begun", func() bool { return s.api.used.inUse() > 0 })
	s.clock.Advance(bodyGrace + 2*time.Second)
	s.api.used.cutSlow(s.clock.Now())
	res := <-answered
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if res.StatusCode != 408 || res.ProtoMajor != 2 || !strings.Contains(string(text), `"code":"request_timeout"`) {
		t.Errorf("%s %d %s, %v", res.Proto, res.StatusCode, text, err)
	}
}

// TestPace holds the least rate: how long a body may take that comes in steps of
// a second.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		begins int // bytes that come at once
		rate   int // bytes a second after it
		want   int // seconds until it is cut; 20: not before the server's ReadTimeout
	}{
		{"nothing", 0, 0, 11},
		{"a byte a second", 1, 1, 11},
		{"half of the rate", 0, leastRate / 2, 20},
		{"a third of the rate", 0, leastRate / 3, 15},
		{"the rate", 0, leastRate, 20},
		{"all at first, then nothing", 1 << 20, 0, 12},
		{"all at first, then a byte a second", 1 << 20, 1, 12},
	} {
		b, now := newBudget(maxBodies), newClock().Now()
		u := &upload{stop: func() {}}
		if err := b.grow(u, 100, now); err != nil {
			t.Fatal(err)
		}
		b.advance(u, c.begins, now)
		got := 20
		for i := 1; i < 20; i++ {
			now = now.Add(time.Second)
			if b.cutSlow(now); u.err != nil {
				got = i
				break
			}
			b.advance(u, c.rate, now)
		}
		if got != c.want {
			t.Errorf("%s: cut after %d s, want %d", c.name, got, c.want)
		}
	}
}

// If memory is short, bodies that lag give way: those of the one that holds
// most first, then the latest. One that comes does not.
func TestLaggingBodiesGiveWay(t *testing.T) {
	t.Parallel()
	b, now := newBudget(1600), newClock().Now()
	var cut []string
	begin := func(name string, orgID int64, from string, size int, lag time.Duration) *upload {
		u := &upload{holder: holder{orgID, netip.MustParsePrefix(from + "/32")}, stop: func() { cut = append(cut, name) }}
		if err := b.grow(u, size, now.Add(-lag)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return u
	}
	begin("heavy", 1, "192.0.2.1", 300, 2*time.Second)
	begin("heavy and later", 1, "192.0.2.1", 250, 3*time.Second)
	comes := begin("heavy, and comes", 1, "192.0.2.1", 200, 0)
	begin("light and latest", 2, "192.0.2.2", 100, 9*time.Second)
	begin("light", 3, "192.0.2.3", 80, cutLag)
	begin("light, and in time", 4, "192.0.2.4", 80, cutLag-1)
	newcomer := func(size int, want ...string) {
		t.Helper()
		cut, b.nextCut = nil, time.Time{}
		u := begin("newcomer", 5, "192.0.2.5", size, 0)
		if !slices.Equal(cut, want) {
			t.Errorf("for %d bytes were cut %q, want %q", size, cut, want)
		}
		b.end(u)
		b.free(u)
	}
	if b.used != 1010 {
		t.Fatalf("%d bytes are used", b.used)
	}
	fill := func(sizes ...int) {
		t.Helper()
		for i, n := range sizes {
			if err := b.take(int64(-1000*n-i), n); err != nil {
				t.Fatal(err)
			}
		}
	}
	newcomer(250)
	fill(195, 195)
	newcomer(100) // which leaves 100: a sixteenth
	newcomer(101, "heavy and later")
	fill(150, 120)
	newcomer(120, "heavy")
	fill(60, 61, 62, 57, 100)
	newcomer(150, "light and latest", "light")
	begin("late", 11, "192.0.2.11", 10, 5*time.Second)
	fill(130)
	cut, b.nextCut = nil, now.Add(1)
	begin("too early", 10, "192.0.2.10", 80, 0)
	if err := b.end(comes); err != nil || cut != nil {
		t.Errorf("%q were cut: %v", cut, err)
	}
	newcomer(1, "late")
}

// A body that has given way is answered with 503 at once, and the newcomer that
// has its memory is accepted.
func TestBodyThatGaveWay(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	key, honest := s.newKey(t, "free"), s.newKey(t, "free")
	s.api.used.setMax(64 * idleRead)
	slow := s.begin(t, "slow", partOf(key, "", 1<<20, 100))
	eventually(t, "a body has begun", func() bool { return s.lagging(0, 1) })
	for i := range int64(20) { // what others hold, and are not slow with
		for s.api.used.take(-10-i, 512) == nil && s.api.used.inUse() < 60*idleRead {
		}
	}
	s.clock.Advance(5 * time.Second)
	s.accept(t, honest, `{"type":"t","payload":1}`)
	status, header, body := slow.end(t)
	if status != 503 || header.Get("Retry-After") != "1" || !slow.isClosed() || !strings.Contains(body, `"code":"unavailable"`) {
		t.Errorf("the slow body got %d %s, %v", status, body, header)
	}
}

// A large list that is not read counts in the memory of its organization; a
// small answer does not, and neither does one to a change.
func TestListsCount(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator)
	_, key := s.found(t)
	for i := range 20 {
		hook := fmt.Sprintf(`{"url":"https://example.com/%d","types":["%s"]}`, i, strings.Repeat("x", 200))
		s.do(t, "POST", "/v1/webhooks", key, hook, "Content-Type: application/json").wants(t, i, 201, "")
	}
	org := s.keyOf(t, key).Organization.ID
	s.do(t, "GET", "/v1/webhooks", key, "").wants(t, "the list", 200, "")
	if err := s.api.used.take(org, maxBodies/2-smallAnswer); err != nil {
		t.Fatal(err)
	}
	s.do(t, "GET", "/v1/webhooks", key, "").wants(t, "the list, without memory", 503, `"code":"unavailable"`)
	s.do(t, "GET", "/v1/webhooks?limit=1", key, "").wants(t, "a small list", 200, "")
	s.api.used.give(org, maxBodies/2-smallAnswer)
	if n := s.api.used.inUse(); n != 0 {
		t.Errorf("%d bytes are still held", n)
	}
}

// unread is a client that does not read its answer until it is released.
type unread struct {
	httptest.ResponseRecorder
	begun   chan []byte
	release chan struct{}
}

func newUnread(release chan struct{}) *unread {
	return &unread{*httptest.NewRecorder(), make(chan []byte, 1), release}
}

func (w *unread) Write(b []byte) (int, error) {
	w.begun <- b
	<-w.release
	return 0, errors.New("the client has gone")
}

// Files are in memory once, however many answers with them are not read, and
// these are bounded; for one address, too.
func TestUnreadFiles(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	request := func(from, path, tag string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), "GET", path, nil)
		r.RemoteAddr = from + ":1000"
		if file, ok := strings.CutPrefix(path, "/docs/assets/"); ok {
			r.SetPathValue("file", file) // as the router does
		}
		r.Header.Set("If-None-Match", tag)
		return r
	}
	get := func(from, path, tag string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(w, request(from, path, tag))
		return w
	}
	release := make(chan struct{})
	for _, path := range []string{"/docs/assets/swagger-ui-bundle.js", "/openapi.yaml", "/docs"} {
		handler := s.api.serve(s.routeOf(t, path))
		var first []byte
		for i := range maxFiles * 3 / 4 {
			w := newUnread(release)
			go handler.ServeHTTP(w, request("192.0.2.1", path, ""))
			b := <-w.begun
			if first == nil {
				first = b
			}
			if len(b) < 100 || &b[0] != &first[0] {
				t.Fatalf("answer %d with %s is a copy of its own", i, path)
			}
		}
		w := get("192.0.2.1", path, "")
		if w.Code != 503 || w.Header().Get("Retry-After") != "1" || w.Header().Get("ETag") != "" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("one more got %d %v", w.Code, w.Header())
		}
		other := get("192.0.2.2", path, "")
		if other.Code != 200 || other.Body.Len() != len(first) {
			t.Errorf("another address got %d and %d bytes, want %d", other.Code, other.Body.Len(), len(first))
		}
		if w := get("192.0.2.1", path, other.Header().Get("ETag")); w.Code != 304 {
			t.Errorf("who has the file already got %d", w.Code)
		}
		close(release)
		release = make(chan struct{})
		eventually(t, "no answer is under way", func() bool { return s.api.answering.inUse() == 0 })
	}
}

// routeOf finds the route of a public path.
func (s *server) routeOf(t *testing.T, target string) route {
	t.Helper()
	for _, rt := range s.api.routes() {
		if rt.path == target || rt.path == "/docs/assets/{file}" && strings.HasPrefix(target, "/docs/assets/") {
			return rt
		}
	}
	t.Fatalf("there is no route for %s", target)
	return route{}
}

// A page of the inbox ends where the memory of its organization does, and what
// a claim has no memory for can be claimed by the next.
func TestInboxWithoutMemory(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "enterprise")
		c, org := s.as(key), s.keyOf(t, key).Organization.ID
		const payload = 10_000
		for range 20 {
			s.accept(t, key, `{"type":"t","payload":"`+strings.Repeat("x", payload)+`"}`)
		}
		s.api.used.setMax(50 * payload) // each event is counted twice
		if page := sure(c.InboxPage(t.Context(), 20, ""))(t); len(page.Data) != 12 || page.NextCursor == "" {
			t.Errorf("a page of %d, and then %q", len(page.Data), page.NextCursor)
		}
		if err := s.api.used.take(org, 24*payload); err != nil {
			t.Fatal(err)
		}
		s.do(t, "GET", "/v1/inbox", key, "").wants(t, "the inbox", 503, `"code":"unavailable"`)
		s.do(t, "POST", "/v1/inbox/claim", key, "{}", "Content-Type: application/json").wants(t, "a claim", 503, `"code":"unavailable"`)
		s.do(t, "GET", "/v1/inbox/stream", key, "").wants(t, "the stream", 503, `"code":"unavailable"`)
		s.api.used.give(org, 24*payload)
		claimed := 0
		for _, want := range []int{12, 8, 0} {
			got := sure(c.ClaimInbox(t.Context(), client.ClaimInput{Limit: 20}))(t)
			if claimed += len(got.Data); len(got.Data) != want {
				t.Errorf("claimed %d, want %d", len(got.Data), want)
			}
			for _, e := range got.Data {
				if e.Attempts != 1 {
					t.Errorf("attempt %d", e.Attempts)
				}
			}
		}
		if n := s.api.used.inUse(); n != 0 || claimed != 20 {
			t.Errorf("%d bytes are still held, %d events were claimed", n, claimed)
		}
	})
}
