package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"time"
)

// silence is how long a stream may say nothing; a server's heartbeats come
// every 15 s.
const silence = 45 * time.Second

var (
	errStopped   = errors.New("triggerd: the loop has ended")
	errMalformed = errors.New("triggerd: malformed stream")
	errSilent    = errors.New("triggerd: nothing came on the stream for 45 s")
)

// StreamInbox gives what is open in the inbox, and then what comes into it, as
// it comes. It claims nothing. It begins 30 s before the event with the given
// id, or with the oldest open one if that is empty.
//
// Each event comes at least once: tell repeats by the id. When the connection
// is cut, or nothing was heard on it for 45 s, not even a heartbeat, another one
// begins where it was; only as long as there never was a connection, this is
// tried as often as any call. So the stream ends with the loop, or with an error,
// which comes last: the context's, or one that another try does not help against,
// for example CodeUnauthorized within 5 s of the key's end.
func (c *Client) StreamInbox(ctx context.Context, lastEventID string) iter.Seq2[InboxEvent, error] {
	return func(yield func(InboxEvent, error) bool) {
		s := stream{client: c, last: lastEventID}
		if err := s.run(ctx, yield); !errors.Is(err, errStopped) {
			yield(InboxEvent{}, err)
		}
	}
}

// stream is one that goes on over several connections.
type stream struct {
	client    *Client
	last      string        // the id of the last event
	connected bool          // ever
	heard     bool          // on this connection
	retry     time.Duration // the pause that the server asks for, if it does
}

// run follows one connection after the other, and gives the error of the end.
func (s *stream) run(ctx context.Context, yield func(InboxEvent, error) bool) error {
	req := request{method: http.MethodGet}
	for try := 0; ; try++ {
		err := s.follow(ctx, yield)
		switch {
		case errors.Is(err, errStopped):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errMalformed) || !req.again(err):
			return err
		case !s.connected && try >= s.client.retries():
			return err
		}
		if s.heard {
			try = 0
		}
		if err := sleep(ctx, max(pause(try, afterOf(err)), s.retry)); err != nil {
			return err
		}
	}
}

// follow reads one connection to its end.
func (s *stream) follow(ctx context.Context, yield func(InboxEvent, error) bool) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s.heard = false
	req := request{method: http.MethodGet, path: inboxPath + "/stream"}
	req.set("Accept", "text/event-stream")
	if s.last != "" {
		req.set("Last-Event-ID", s.last)
	}
	res, err := s.client.send(ctx, req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "text/event-stream" {
		return fmt.Errorf("%w: its Content-Type is %q", errMalformed, kind)
	}
	s.connected = true
	timer := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer timer.Stop()
	messages := newMessages(&watched{res.Body, s, timer})
	for {
		message, err := messages.next()
		if err != nil && context.Cause(ctx) != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		timer.Stop() // the loop may take its time
		if err := s.take(message, yield); err != nil {
			return err
		}
		timer.Reset(silence)
	}
}

// take hands a message to the loop.
func (s *stream) take(m message, yield func(InboxEvent, error) bool) error {
	s.retry = min(m.retry, maxPause)
	if m.event != "" && m.event != "message" {
		return nil
	}
	var event InboxEvent
	if err := json.Unmarshal(m.data, &event); err != nil {
		return fmt.Errorf("%w: %s", errMalformed, unreadable(err))
	}
	if name := event.missing(); name != "" {
		return fmt.Errorf("%w: an event has no %s", errMalformed, name)
	}
	if !yield(event, nil) {
		return errStopped
	}
	s.last = m.id // it was taken
	return nil
}

// watched is what comes on a connection, which must not fall silent.
type watched struct {
	body  io.Reader
	s     *stream
	timer *time.Timer
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.body.Read(b)
	if n > 0 {
		w.s.heard = true
		w.timer.Reset(silence)
	}
	return n, err
}
