package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"

	"triggerd/internal/trigger"
)

// budget bounds the bytes that are in memory for bodies of requests. One
// organization gets at most half of them: whoever is slow on purpose leaves
// room for the others.
type budget struct {
	max int

	mu   sync.Mutex
	used int
	of   map[int64]int // by organization; 0: who has none yet
}

func newBudget(most int) *budget { return &budget{max: most, of: map[int64]int{}} }

// take asks for n more bytes for an organization.
func (b *budget) take(orgID int64, n int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.max || b.of[orgID]+n > b.max/2 {
		return trigger.NewUnavailable(errors.New("too many bodies in memory"), busyRetry)
	}
	b.used += n
	b.of[orgID] += n
	return nil
}

func (b *budget) give(orgID int64, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.of[orgID] -= n; b.of[orgID] == 0 {
		delete(b.of, orgID) // else they would pile up
	}
}

// firstRead is how much memory a body gets before more of it has come, in
// bytes: a large Content-Length alone costs nothing.
const firstRead = 64 << 10

// readJSON reads the body of a request. UnsupportedMedia if it says that it is
// not JSON, TooLarge if it is over the limit, which is judged as early as can
// be, TimedOut if it does not arrive before the deadline of the connection. free
// must be called when the body is no longer needed by the request.
func (a *API) readJSON(w http.ResponseWriter, r *request) (body []byte, free func(), err error) {
	if !isJSON(r.Header) {
		return nil, nil, trigger.Errorf(trigger.UnsupportedMedia, "Content-Type must be JSON, without a Content-Encoding")
	}
	return a.readAll(w, r, a.MaxBody)
}

// readAll is readJSON for a body of any type, up to a limit in bytes.
func (a *API) readAll(w http.ResponseWriter, r *request, limit int) (body []byte, free func(), err error) {
	if r.ContentLength > int64(limit) {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, nil, tooLarge(limit)
	}
	size := 512 // where the length is not known
	if r.ContentLength >= 0 {
		size = int(min(r.ContentLength+1, firstRead)) // one more, to see the end
	}
	orgID, taken := r.key.Organization.ID, 0
	free = func() { a.used.give(orgID, taken) }
	in := http.MaxBytesReader(w, r.Body, int64(limit))
	r.right.readBody()
	for {
		if err := a.used.take(orgID, size-taken); err != nil {
			free()
			return nil, nil, err
		}
		taken = size
		body = append(make([]byte, 0, size), body...)
		for len(body) < size && err == nil {
			var n int
			n, err = in.Read(body[len(body):size])
			body = body[:len(body)+n]
		}
		if err != nil {
			break
		}
		size *= 2
	}
	ended := r.right.hasBody()
	if err == io.EOF && ended == nil {
		return body, free, nil
	}
	free()
	w.Header().Set("Connection", "close") // else net/http waits for the rest before it answers
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, nil, tooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // the server's ReadTimeout
		return nil, nil, &trigger.Error{
			Kind: trigger.TimedOut, Message: fmt.Sprintf("The body did not arrive in time: got %d bytes; send the request again", len(body)), Cause: err,
		}
	}
	return nil, nil, &trigger.Error{Kind: trigger.Malformed, Message: "The body ended early", Cause: err}
}

func tooLarge(limit int) error {
	return trigger.Errorf(trigger.TooLarge, "The body is over %d bytes", limit)
}

// isJSON judges the Content-Type: none, application/json, or a +json type.
func isJSON(h http.Header) bool {
	if encoding := h.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return false
	}
	given := h.Get("Content-Type")
	if given == "" || given == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(given)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}
