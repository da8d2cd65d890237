package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"

	"triggerd/internal/trigger"
)

// budget bounds the bytes that are in memory for bodies of requests.
type budget struct {
	max  int64
	used atomic.Int64
}

// take asks for n more bytes.
func (b *budget) take(n int) error {
	if b.used.Add(int64(n)) > b.max {
		b.used.Add(int64(-n))
		return trigger.NewUnavailable(errors.New("too many bodies in memory"), busyRetry)
	}
	return nil
}

func (b *budget) give(n int) { b.used.Add(int64(-n)) }

// firstRead is how much memory a body gets before more of it has come, in
// bytes: a large Content-Length alone costs nothing.
const firstRead = 64 << 10

// readJSON reads the body of a request. UnsupportedMedia if it says that it is
// not JSON, TooLarge if it is over the limit, which is judged as early as can
// be. free must be called when the body is no longer needed by the request.
func (a *API) readJSON(w http.ResponseWriter, r *request) (body []byte, free func(), err error) {
	if !isJSON(r.Header) {
		return nil, nil, trigger.Errorf(trigger.UnsupportedMedia, "Content-Type must be JSON, without a Content-Encoding")
	}
	if r.ContentLength > int64(a.MaxBody) {
		w.Header().Set("Connection", "close") // nobody reads the rest
		return nil, nil, a.tooLarge()
	}
	size := 512 // where the length is not known
	if r.ContentLength >= 0 {
		size = int(min(r.ContentLength+1, firstRead)) // one more, to see the end
	}
	taken := 0
	free = func() { a.used.give(taken) }
	in := http.MaxBytesReader(w, r.Body, int64(a.MaxBody))
	for {
		if err := a.used.take(size - taken); err != nil {
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
	if err == io.EOF {
		return body, free, nil
	}
	free()
	w.Header().Set("Connection", "close") // else net/http waits for the rest before it answers
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, nil, a.tooLarge()
	}
	return nil, nil, &trigger.Error{Kind: trigger.Invalid, Message: "The body ended early", Cause: err}
}

func (a *API) tooLarge() error {
	return trigger.Errorf(trigger.TooLarge, "The body is over %d bytes", a.MaxBody)
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
