package api

import (
	"bytes"
	"net/http"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// Bounds of a stream.
const (
	maxStream    = time.Hour        // then it ends, and the client comes back
	heartbeat    = 15 * time.Second // while there is nothing to say
	streamWrite  = 30 * time.Second // for a client to take what is written
	streamPage   = 500              // events read at a time
	streamBytes  = 4 << 20          // of them
	streamBehind = 30 * time.Second // how far back a stream looks again: commits are not quite in the order of ids
	streamLook   = 10 * time.Second // then what has come due goes before what is new, so that no Last-Event-ID skips it
)

// stream is a request for what comes into an inbox, as it comes (Server-Sent
// Events). Each event that is open is sent at least once.
type stream struct {
	api   *API
	r     *request
	w     http.ResponseWriter
	conn  *http.ResponseController
	held  *holding // for the page that is being sent
	inbox *inboxWaiters

	top  trigger.ID               // the highest that was sent, or that the client has
	due  time.Time                // what came due until then was looked at
	full time.Time                // when it was last looked for what came before top
	sent map[trigger.ID]time.Time // what was sent of late, and when it was, where it had come due late
	kept int                      // how much of it the last look at it has left
}

// streamInbox sends events of the inbox as they come, until the client goes or
// its right ends. Then the stream just ends: a client that comes back is told.
func (a *API) streamInbox(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "last_event_id")
	if err != nil {
		return err
	}
	s := &stream{api: a, r: r, w: w, conn: http.NewResponseController(w), sent: map[trigger.ID]time.Time{}, held: a.holdingOf(r)}
	defer s.held.free()
	s.inbox = a.inboxes.join(r.orgID())
	defer s.inbox.leave()
	last := r.Header.Get("Last-Event-Id")
	if last == "" { // a browser that comes back has both, and the header is newer
		last = q.values.Get("last_event_id")
	}
	if last != "" || q.values.Has("last_event_id") {
		if s.top, err = trigger.ParseID(last); err != nil {
			return wrongParameter("last_event_id", "Last-Event-ID must be the id of an event")
		}
		if s.due = s.top.Time(); a.Store.IsAhead(s.top) {
			// The clock went back since: what came after that event cannot be told by
			// ids, so all that is open is sent, some of it twice.
			s.top, s.due = trigger.ID{}, time.Time{}
		}
	}
	_ = s.conn.SetReadDeadline(time.Time{}) // nothing more is read
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return nil
	}
	if _, err := s.look(); err != nil { // before the answer begins, so that it can still be an error
		return err
	}
	if s.write([]byte(": open\n\n")) != nil {
		return nil // nobody reads on
	}
	return s.run()
}

func (s *stream) run() error {
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		news, open := s.inbox.wait()
		for more := true; more; {
			var err error
			if more, err = s.look(); s.r.Context().Err() != nil {
				return nil // the client has gone, or the right to it
			} else if err != nil {
				return err
			}
		}
		if !open {
			return nil
		}
		select {
		case <-news:
		case <-again.C:
		case <-beat.C:
			if s.write([]byte(": heartbeat\n\n")) != nil {
				return nil
			}
		case <-s.r.Context().Done():
			return nil
		}
	}
}

// look sends what is new: events behind the highest one and, once a second, a
// while before it, and older ones that have come due since the last look, which
// were to be delivered later, or were claimed and not acknowledged. more says
// that it has taken so long that others may have come due.
func (s *stream) look() (more bool, err error) {
	begun := s.api.Store.Now()
	if begun.Before(s.full) { // the clock went back: what comes now is below top, and is found as what comes due
		s.due, s.full = begun, time.Time{}
	}
	low := s.top
	if begun.Sub(s.full) >= lookAgain/2 {
		if !s.top.IsZero() {
			low = trigger.MinID(s.top.Time().Add(-streamBehind))
			if err := s.lookDue(low, begun); err != nil {
				return false, err
			}
		}
		s.due, s.full = begun, begun
	}
	for !more {
		var page []store.InboxEvent
		var next trigger.ID
		err := s.inbox.inTurn(s.r.Context(), func() (err error) {
			page, next, err = s.api.Store.ListInbox(s.r.Context(), s.r.orgID(), low, s.page())
			return err
		})
		if err != nil {
			return false, err
		}
		if err := s.send(page, time.Time{}); err != nil || next.IsZero() {
			return false, err
		}
		low = next
		more = s.api.Store.Now().Sub(begun) > streamLook
	}
	return true, nil
}

// page is how much is read at a time, of what was not sent.
func (s *stream) page() store.InboxPage {
	return store.InboxPage{Limit: streamPage, Bytes: streamBytes, Take: s.held.takeEvent, Without: func(id trigger.ID) bool {
		_, was := s.sent[id]
		return was
	}}
}

// forget keeps of what was sent only what the next looks may find again: the
// latest events, and older ones that came due of late.
func (s *stream) forget(now time.Time) {
	if len(s.sent) < max(s.kept*2, 10*streamPage) {
		return
	}
	for id, due := range s.sent {
		if s.top.Time().Sub(id.Time()) > 2*streamBehind && now.Sub(due) > 2*streamBehind {
			delete(s.sent, id)
		}
	}
	s.kept = len(s.sent)
}

func (s *stream) lookDue(low trigger.ID, now time.Time) error {
	from := store.Due{At: s.due.Add(-streamBehind)}
	for {
		var page []store.InboxEvent
		var next store.Due
		err := s.inbox.inTurn(s.r.Context(), func() (err error) {
			page, next, err = s.api.Store.DueInbox(s.r.Context(), s.r.orgID(), low, from, now, s.page())
			return err
		})
		if err != nil {
			return err
		}
		if err := s.send(page, now); err != nil || next.ID.IsZero() {
			return err
		}
		from = next
	}
}

// send writes events, and gives their memory back; due is when, if they have come due late.
func (s *stream) send(page []store.InboxEvent, due time.Time) error {
	defer s.held.free()
	var b []byte
	for i := range page {
		e := &page[i]
		s.sent[e.ID] = due
		if bytes.Compare(e.ID[:], s.top[:]) > 0 {
			s.top = e.ID
		}
		b = append(b, "id: "+e.ID.String()+"\ndata: "...)
		// A payload may have line breaks between its values, which must not end the field.
		b = append(b, breaks(appendInbox(nil, e))...)
		b = append(b, "\n\n"...)
	}
	s.forget(s.api.Store.Now())
	if len(b) == 0 {
		return nil
	}
	return s.write(b)
}

// breaks begins a field of its own after each line break.
func breaks(b []byte) []byte {
	if bytes.IndexByte(b, '\n') < 0 && bytes.IndexByte(b, '\r') < 0 {
		return b
	}
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\r"), []byte("\n"))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\ndata: "))
}

func (s *stream) write(b []byte) error {
	_ = s.conn.SetWriteDeadline(s.api.Now().Add(streamWrite))
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.conn.Flush()
}
