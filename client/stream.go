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

// silence is the maximum time without data on a stream; servers send a
// heartbeat every 15 s.
const silence = 45 * time.Second

var (
	errStopped   = errors.New("triggerd: the loop has ended")
	errMalformed = errors.New("triggerd: malformed stream")
	errSilent    = errors.New("triggerd: nothing came on the stream for 45 s")
)

// StreamInbox yields the open events of the inbox, and then new ones as they
// arrive. It claims nothing. It begins 30 s before the event with the given id,
// or with the oldest open one if the id is empty.
//
// Each event is yielded at least once: detect repeats by the id. If the
// connection is cut, or has been silent for 45 s, without even a heartbeat,
// StreamInbox reconnects and continues. Only until the first connection
// succeeds, the number of tries is limited as for any call. So the stream ends
// with the loop, or with an error, which comes last: the context's, or one that
// a retry cannot help, for example CodeUnauthorized within 5 s of the key's
// end.
func (c *Client) StreamInbox(ctx context.Context, lastEventID string) iter.Seq2[InboxEvent, error] {
	return func(yield func(InboxEvent, error) bool) {
		s := stream{client: c, last: lastEventID}
		if err := s.run(ctx, yield); !errors.Is(err, errStopped) {
			yield(InboxEvent{}, err)
		}
	}
}

// stream is a stream that continues over several connections.
type stream struct {
	client    *Client
	last      string        // the id of the last event
	connected bool          // at least once
	heard     bool          // on this connection
	retry     time.Duration // the pause that the server requests, if any
}

// run uses one connection after the other, and returns the error that ended the
// stream.
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
		timer.Stop() // the loop body may take any time
		if err := s.take(message, yield); err != nil {
			return err
		}
		timer.Reset(silence)
	}
}

// take yields a message to the loop.
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
	s.last = m.id // the loop has handled it
	return nil
}

// watched reads from a connection that must not stay silent.
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
