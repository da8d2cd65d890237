package torture

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Settling waits for what the server itself says is due later, and no longer:
// a breaker that is held is no lost delivery.
func TestAwait(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name       string
		held, next time.Duration // ahead of the beginning; 0: none, -1: always a second
		comes      time.Duration // when the last of it comes; 0: never
		done       bool
		from, to   time.Duration // how long it waits
	}{
		{"nothing is due", 0, 0, 0, false, quietPatience, quietPatience + 5*time.Second},
		{"it comes", 0, 0, 10 * time.Second, true, 10 * time.Second, 12 * time.Second},
		{"a breaker is held", time.Minute, 0, 65 * time.Second, true, time.Minute, 70 * time.Second},
		{"a delivery is due", 0, 50 * time.Second, 0, false, 50*time.Second + quietPatience, 60*time.Second + quietPatience},
		{"always due soon", 0, -1, 0, false, quietPatience, 2*quietPatience + 5*time.Second},
		{"due in an hour", time.Hour, time.Hour, 0, false, quietPatience, quietPatience + 5*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			begun := at(0)
			passed := time.Duration(0) // a second with each look
			shown := func(d time.Duration) string {
				switch d {
				case 0:
					return "null"
				case -1: // a second later, whenever one asks
					d = passed + time.Second
				}
				return `"` + begun.Add(d).UTC().Format(time.RFC3339Nano) + `"`
			}
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				if strings.HasPrefix(req.URL.Path, "/v1/webhooks") {
					fmt.Fprintf(w, `{"data":[{"id":1,"state":"active","health":null},{"id":2,"state":"active","health":{"held_until":%s}}]}`, shown(tt.held))
					return
				}
				fmt.Fprintf(w, `{"data":[{"next_attempt_at":%s},{"next_attempt_at":null}]}`, shown(tt.next))
			}))
			t.Cleanup(server.Close)
			r := &run{report: &Report{}, windows: &windows{now: time.Now}}
			r.Now, r.Out = func() time.Time { return begun.Add(passed) }, io.Discard
			r.nodes = []*node{{run: r, address: server.Listener.Addr().String()}}
			r.client = newClient(r)
			t.Cleanup(r.client.http.CloseIdleConnections)
			got := r.await(t.Context(), func(context.Context) (int, []*tenant) {
				if passed += time.Second; tt.comes != 0 && passed >= tt.comes {
					return 0, nil
				}
				return 1, []*tenant{{}}
			})
			if got != tt.done || passed < tt.from || passed > tt.to {
				t.Errorf("done %v after %v, want %v after %v to %v", got, passed, tt.done, tt.from, tt.to)
			}
		})
	}
}
