package api

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"triggerd/internal/trigger"
)

// Memory for a body grows as it arrives, so that a large Content-Length alone
// costs almost nothing.
const (
	unknownRead = 512      // first bytes, if the length is unknown
	idleRead    = 4 << 10  // maximum before some bytes have arrived
	firstRead   = 64 << 10 // from here memory doubles; before, it grows fourfold
)

// readJSON reads the body of a request. The error is UnsupportedMedia if its
// type is not JSON. It is TooLarge if the body is over the limit, as early as
// possible, and TimedOut if it does not arrive before the deadline of the
// connection. The caller must call free when the request no longer needs the
// body.
func (a *API) readJSON(w http.ResponseWriter, r *request) (body []byte, free func(), err error) {
	if !isJSON(r.Header) {
		return nil, nil, unsupportedMedia(r.Header, "JSON")
	}
	return a.readAll(w, r, a.MaxBody)
}

// readAll is readJSON for a body of any type, up to limit bytes.
func (a *API) readAll(w http.ResponseWriter, r *request, limit int) (body []byte, free func(), err error) {
	if r.ContentLength > int64(limit) {
		w.Header().Set("Connection", "close") // the rest is not read
		return nil, nil, tooLarge(limit)
	}
	u := &upload{holder: a.holderOf(r), stop: func() {
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // in the past
	}}
	r.right.readBody()
	body, err = a.readUpload(u, http.MaxBytesReader(w, r.Body, int64(limit)), r.ContentLength)
	ended, cut := r.right.hasBody(), a.used.end(u)
	if err == io.EOF && ended == nil && cut == nil {
		return body, func() { a.used.free(u) }, nil
	}
	a.used.free(u)
	w.Header().Set("Connection", "close") // else net/http waits for the rest before it answers
	if cut != nil {
		err = cut
	}
	return nil, nil, bodyError(err, len(body), limit)
}

// readUpload reads a body to its end and returns the bytes that arrived. The
// error is io.EOF if they are complete.
func (a *API) readUpload(u *upload, in io.Reader, length int64) (body []byte, err error) {
	size := unknownRead
	if length >= 0 {
		size = int(min(length+1, idleRead)) // one more, to see the end
	}
	for {
		if err := a.used.grow(u, size, a.Now()); err != nil {
			return body, err
		}
		body = append(make([]byte, 0, size), body...)
		for len(body) < size {
			n, err := in.Read(body[len(body):size])
			body = body[:len(body)+n]
			if err != nil {
				return body, err
			}
			a.used.advance(u, n, a.Now())
		}
		if size < firstRead {
			size *= 2
		}
		if size *= 2; length >= 0 {
			size = int(min(int64(size), length+1))
		}
	}
}

// bodyError returns the error for a body that was not read to its end.
func bodyError(err error, got, limit int) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return tooLarge(limit)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, errSlowBody) { // the server's ReadTimeout, or cutSlow
		return &trigger.Error{
			Kind: trigger.TimedOut, Message: fmt.Sprintf("The body did not arrive in time: got %d bytes; send the request again", got), Cause: err,
		}
	}
	if _, ok := errors.AsType[*trigger.Error](err); ok {
		return err
	}
	return &trigger.Error{Kind: trigger.Malformed, Message: fmt.Sprintf("The body ended early: got %d bytes; send the request again", got), Cause: err}
}

// unsupportedMedia returns an error that names the supported types.
func unsupportedMedia(h http.Header, want string) error {
	if encoding := h.Get("Content-Encoding"); !isIdentity(encoding) {
		return trigger.Errorf(trigger.UnsupportedMedia, "Content-Type must be %s, without a Content-Encoding; got the Content-Encoding %.60q", want, encoding)
	}
	return trigger.Errorf(trigger.UnsupportedMedia, "Content-Type must be %s, without a Content-Encoding; got %.60q", want, h.Get("Content-Type"))
}

// isIdentity reports whether a Content-Encoding changes nothing.
func isIdentity(encoding string) bool {
	return encoding == "" || strings.EqualFold(encoding, "identity")
}

func tooLarge(limit int) error {
	return trigger.Errorf(trigger.TooLarge, "The body is over %d bytes", limit)
}

// isJSON reports whether the headers announce JSON without an encoding: the type
// is application/json, a +json type, or absent.
func isJSON(h http.Header) bool {
	if !isIdentity(h.Get("Content-Encoding")) {
		return false
	}
	given := h.Get("Content-Type")
	if given == "" || given == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(given)
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}
