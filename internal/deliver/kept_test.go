package deliver

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"triggerd/internal/trigger"
)

// longAnswer is a transport whose answers are longer than what is kept.
type longAnswer struct{}

func (longAnswer) RoundTrip(req *http.Request) (*http.Response, error) {
	body := io.NopCloser(strings.NewReader(strings.Repeat("x", 2*keptAnswer)))
	return &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}, Body: body, Request: req}, nil
}

// Less is kept of the answers to late attempts: a delivery can have fifty.
func TestKeptAnswers(t *testing.T) {
	t.Parallel()
	e := New(Config{Store: &known{}, Timeout: time.Minute, Now: time.Now, Transport: longAnswer{}})
	w := &trigger.Webhook{URL: "https://example.com/", Secrets: trigger.OneSecret(trigger.NewSecret([32]byte{7}))}
	for attempts, want := range map[int]int{0: keptAnswer, fullAnswers - 1: keptAnswer, fullAnswers: keptLater, 50: keptLater} {
		a := e.send(t.Context(), &item{delivery: trigger.Delivery{Attempts: attempts}, event: &trigger.Event{Type: "a", Payload: []byte("1")}}, w)
		if len(a.Response) != want {
			t.Errorf("%d bytes are kept of an answer after %d attempts, want %d: %s", len(a.Response), attempts, want, a.Error)
		}
	}
}
