package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A delivery that is refused has not arrived; it may come again.
func TestRefusing(t *testing.T) {
	t.Parallel()
	b := newBook()
	r := newReceiver(b)
	h := &hook{}
	r.hooks["/0"] = h
	n, sent := b.send(h)
	h.be(refusing)
	for _, want := range []int{http.StatusServiceUnavailable, http.StatusServiceUnavailable, http.StatusNoContent} {
		body := strings.NewReader(string(appendPayload(nil, n, sent, 100)))
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/0", body))
		if w.Code != want {
			t.Errorf("status %d, want %d", w.Code, want)
		}
		requests, twice, most := refusals(b.since(0, anyHook))
		switch {
		case requests == 2:
			h.be(prompt)
			if twice != 1 || most != 2 {
				t.Errorf("%d were refused more than once, %d times at most; want 1, 2 times", twice, most)
			}
		case want == http.StatusServiceUnavailable && (h.open.Load() != 1 || twice != 0):
			t.Errorf("%d are open, %d were refused more than once; want 1 and 0", h.open.Load(), twice)
		}
	}
	if requests, _, _ := refusals(b.since(0, anyHook)); h.open.Load() != 0 || requests != 2 || b.err() != nil {
		t.Errorf("%d are open, %d were refused, %v", h.open.Load(), requests, b.err())
	}
}

func TestFirstSuccesses(t *testing.T) {
	t.Parallel()
	one, two := &hook{id: 1}, &hook{id: 2}
	first, last := firstSuccesses([]record{{hook: one, got: 9}, {hook: two, got: 7}, {hook: one, got: 3}, {hook: two, got: 8}})
	if first != 3 || last != 7 {
		t.Errorf("the first at %d and %d, want 3 and 7", first, last)
	}
	if most := longestPause(2); most != 6*time.Minute {
		t.Errorf("after two attempts up to %v, want 6m", most)
	}
	if most := longestPause(0); most != 0 {
		t.Errorf("after no attempt up to %v, want 0", most)
	}
}
