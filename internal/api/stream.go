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
	maxStream    = time.Hour        // then the stream ends, and the client reconnects
	heartbeat    = 15 * time.Second // interval of heartbeats
	streamWrite  = 30 * time.Second // limit for a client to read what is written
	fullShare    = 25               // streams of an inbox, of which each reads old rows twice a second; with more, less often
	fullLeast    = 10 * time.Second // the longest time between two of these reads
	streamPage   = 500              // events read at a time
	streamBytes  = 4 << 20          // of these events
	streamBehind = 30 * time.Second // how far back a stream reads again, because commits are only roughly in the order of ids
	streamLook   = 10 * time.Second // after this, events that came due go before new ones, so that no Last-Event-ID skips them
)

// stream sends the events of an inbox as they come (Server-Sent Events). It
// sends each open event at least once.
type stream struct {
	api   *API
	r     *request
	w     http.ResponseWriter
	conn  *http.ResponseController
	held  *holding // for the page that is being sent
	inbox *inboxWaiters

	top  trigger.ID               // the highest id that was sent, or that the client has
	due  time.Time                // events that came due before this were sent
	full time.Time                // when events before top were last searched
	sent map[trigger.ID]time.Time // events sent lately; the time if they came due late, else zero
	kept int                      // the size of sent after the last forget
}

// streamInbox sends events of the inbox as they come, until the client leaves or
// its right ends. Then the stream just ends: a client that reconnects gets the
// error.
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
	if last == "" { // a browser that reconnects sends both, and the header is newer
		last = q.values.Get("last_event_id")
	}
	if last != "" || q.values.Has("last_event_id") {
		if s.top, err = trigger.ParseID(last); err != nil {
			return wrongParameter("last_event_id", "Last-Event-ID must be the id of an event")
		}
		if s.due = s.top.Time(); a.Store.IsAhead(s.top) {
			// The clock has gone back since then, so ids do not tell what came
			// after that event. All open events are sent, some of them again.
			s.top, s.due = trigger.ID{}, time.Time{}
		}
	}
	_ = s.conn.SetReadDeadline(time.Time{}) // no more of the request is read
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
		return nil // the client has left
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
				return nil // the client has left, or its right has ended
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

// look sends new events: those with ids above top. At intervals of at least
// lookAgain/2 it also sends those from up to streamBehind before top, and older
// ones that have come due since, because they were scheduled, or claimed and not
// acknowledged. more reports that look took so long that others may have come
// due.
func (s *stream) look() (more bool, err error) {
	begun := s.api.Store.Now()
	if begun.Before(s.full) { // the clock went back: new events are below top, and are found like events that come due
		s.due, s.full = begun, time.Time{}
	}
	low := s.top
	if begun.Sub(s.full) >= s.fullEvery() {
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
		err := s.inbox.streams.do(s.r.Context(), func() (err error) {
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

// fullEvery returns how often the stream reads events from before the highest one
// that was sent: the more requests wait for the inbox, the less often, because each
// stream reads the same rows again.
func (s *stream) fullEvery() time.Duration {
	return min(lookAgain/2*time.Duration(1+s.inbox.size()/fullShare), fullLeast)
}

// page returns the page to read next, without the events that were sent.
func (s *stream) page() store.InboxPage {
	return store.InboxPage{Limit: streamPage, Bytes: streamBytes, Take: s.held.takeEvent, Without: func(id trigger.ID) bool {
		_, was := s.sent[id]
		return was
	}}
}

// forget keeps only the sent events that later looks may find again: the latest
// ones, and older ones that came due lately.
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
		err := s.inbox.streams.do(s.r.Context(), func() (err error) {
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

// send writes events and frees their memory. due is the current time if they
// came due late, else zero.
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
		// A payload may have line breaks between its values, which must not end
		// the field.
		b = append(b, breaks(appendInbox(nil, e))...)
		b = append(b, "\n\n"...)
	}
	s.forget(s.api.Store.Now())
	if len(b) == 0 {
		return nil
	}
	return s.write(b)
}

// breaks starts a new data field after each line break.
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
