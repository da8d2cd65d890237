package api

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// A body of exactly the limit passes and one byte more does not, whether the
// length is said before or not.
func TestBodyLimit(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		key := s.newKey(t, "free")
		for path, body := range map[string]string{
			"/api/events":           `{"type":"t","payload":"%s"}`,
			"/api/keys/generate":    `{"organization_name":"O","x":"%s"}`,
			"/api/webhook/register": `{"url":"https://example.com/","x":"%s"}`,
		} {
			fill := func(n int) string { return fmt.Sprintf(body, strings.Repeat("x", n-len(body)+2)) }
			for _, chunked := range []bool{false, true} {
				for n, status := range map[int]int{s.api.MaxBody - 1: 200, s.api.MaxBody: 200, s.api.MaxBody + 1: 413} {
					s.upload(t, path, key, fill(n), chunked).wants(t, fmt.Sprint(path, n, chunked), status, "")
				}
			}
		}
		if page := s.inbox(t, key, "?limit=1"); len(page.Events[0].Payload) < s.api.MaxBody-len(`{"type":"t","payload":}`)-1 {
			t.Errorf("a payload of %d bytes", len(page.Events[0].Payload))
		}
		if left := s.api.used.inUse(); left != 0 {
			t.Errorf("%d bytes of bodies are still counted", left)
		}
	})
}

func (s *server) upload(t *testing.T, path, key, body string, chunked bool) reply {
	t.Helper()
	var in io.Reader = strings.NewReader(body)
	if chunked {
		in = io.MultiReader(in) // of unknown length
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+path, in)
	if err != nil {
		t.Fatal(err)
	}
	return s.send(t, req, key)
}

// What is too large is refused before the rest of it is read: here it never
// comes, and the client does not say that it will not.
func TestTooLargeIsSaidEarly(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), func(a *API) { a.MaxBody = 5000 })
	key := s.newKey(t, "free")
	for path := range map[string]string{"/api/events": "", "/api/keys/generate": "", "/api/webhook/register": ""} {
		head := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: " + key + "\r\n"
		for name, rest := range map[string]string{
			"no body":         "Content-Length: 5001\r\n\r\n",
			"huge, no body":   "Content-Length: 9000000000000000000\r\n\r\n",
			"some of it":      "Content-Length: 1000000\r\n\r\n" + strings.Repeat("x", 4000),
			"waits":           "Content-Length: 5001\r\nExpect: 100-continue\r\n\r\n",
			"a chunk":         "Transfer-Encoding: chunked\r\n\r\n1389\r\n" + strings.Repeat("x", 5001),
			"part of a chunk": "Transfer-Encoding: chunked\r\n\r\nffffff\r\n" + strings.Repeat("x", 5001),
			"many chunks":     "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 5001),
		} {
			r := s.raw(t, path+" "+name, head+rest, false)
			r.judge(t, path+" "+name)
			r.wants(t, path+" "+name, 413, "5000 bytes")
			if r.header.Get("Connection") != "close" {
				t.Errorf("%s %s: the connection goes on", path, name)
			}
		}
		r := s.raw(t, path, strings.Replace(head, path, path+"?"+strings.Repeat("a", maxURL), 1)+"Content-Length: 1000\r\n\r\n", false)
		r.judge(t, path)
		r.wants(t, path, 414, "8192 bytes")
	}
}

// inUse is how many bytes are counted.
func (b *budget) inUse() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

func (b *budget) setMax(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.max = n
}

// What is free is shared: an organization may hold as much as it leaves, and an
// address three times as much.
func TestBudget(t *testing.T) {
	t.Parallel()
	b := newBudget(100)
	near, far := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/64")
	take := func(orgID int64, from netip.Prefix, n int, want bool) {
		t.Helper()
		if err := b.takeFor(holder{orgID, from}, n); (err == nil) != want || err != nil && trigger.KindOf(err) != trigger.Unavailable {
			t.Errorf("take %d for %d from %s: %v", n, orgID, from, err)
		}
	}
	none := netip.Prefix{}
	take(1, none, 51, false) // 49 would be free
	take(1, none, 30, true)
	take(1, none, 21, false)
	take(1, none, 20, true)
	take(1, none, 1, false)
	take(2, none, 26, false)
	take(2, near, 25, true)
	take(3, near, 12, true)
	take(4, near, 1, false) // its 38 would be more than three times 12
	take(noOrganization, near, 1, false)
	take(4, far, 7, false) // 6 would be free
	take(4, far, 6, true)
	take(noOrganization, far, 1, true)
	b.giveFor(holder{noOrganization, far}, 1)
	b.give(1, 50)
	b.giveFor(holder{2, near}, 25)
	b.giveFor(holder{3, near}, 12)
	b.giveFor(holder{4, far}, 6)
	if b.inUse() != 0 || len(b.of) != 0 || len(b.from) != 0 {
		t.Errorf("%d in use, by %v and %v", b.inUse(), b.of, b.from)
	}
}

// If many take all they can, in turn, the next organization still gets its
// part; so does the next address. Before any of it is given back, those that come
// first have more than those that come later.
func TestBudgetLeavesRoom(t *testing.T) {
	t.Parallel()
	const most, bite = 1 << 20, 64
	next := holder{-5, netip.MustParsePrefix("198.51.100.1/32")}
	leaves := func(b *budget, who string, k, want int) {
		t.Helper()
		if free := most - b.inUse(); free < want-(k+1)*bite || free > want+(k+1)*bite {
			t.Errorf("%d %s leave %d bytes, want %d", k, who, free, want)
		}
		if err := b.takeFor(next, want/2-(k+1)*bite); err != nil {
			t.Errorf("%d %s leave nothing for the next: %v", k, who, err)
		}
	}
	for k := 1; k <= 10; k++ {
		b := newBudget(most)
		for more := true; more; {
			more = false
			for i := range k {
				more = b.take(int64(i), bite) == nil || more
			}
		}
		leaves(b, "organizations in turn", k, most/(k+1))
		b = newBudget(most)
		for i := range k {
			for b.take(int64(i), bite) == nil {
			}
		}
		leaves(b, "organizations, one after the other,", k, most>>k)
		b = newBudget(most)
		for more := true; more; {
			more = false
			for i := range 100 * k { // 100 organizations of each address
				from := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % k)}), 32)
				more = b.takeFor(holder{int64(i), from}, bite) == nil || more
			}
		}
		leaves(b, "addresses in turn", k, most/(addressShare*k+1))
	}
}

func TestNoMemoryForBodies(t *testing.T) {
	t.Parallel()
	for _, length := range []int64{1000, -1} {
		a := API{MaxBody: 10_000, used: newBudget(1400), Now: newClock().Now}
		req, err := http.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(strings.Repeat("x", 1000)))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		_, _, err = a.readJSON(httptest.NewRecorder(), &request{Request: req})
		if trigger.KindOf(err) != trigger.Unavailable || a.used.inUse() != 0 {
			t.Errorf("length %d: %v, %d bytes in use", length, err, a.used.inUse())
		}
	}
}
