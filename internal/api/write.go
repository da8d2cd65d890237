package api

import (
	"encoding/json"
	"net/http"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

// writeEvents answers with a list of events: head, the events with their status,
// and tail, which gets their number. It reads and writes a few at a time, so
// that a page of large events is never in memory as a whole. It omits events
// that were deleted after the list was read.
func (a *API) writeEvents(w http.ResponseWriter, r *request, head string, page []store.EventStatus,
	render func(b []byte, e *trigger.Event, status trigger.Status) []byte, tail func(count int) []byte,
) error {
	orgID, h := r.orgID(), a.holderOf(r)
	count, held := 0, 0 // held: bytes counted for what is in memory and not yet written
	defer func() { a.used.giveFor(h, held) }()
	b := []byte(head)
	for step := a.inboxStep(); len(page) > 0; {
		part := page[:min(step, len(page))]
		page = page[len(part):]
		events, err := a.Store.Events(r.Context(), orgID, idsOf(part))
		if err != nil {
			return err
		}
		size := sizeOf(events)
		if err := a.used.takeFor(h, size); err != nil {
			return err
		}
		held += size
		for _, e := range part {
			if event := events[e.ID]; event != nil {
				if count++; count > 1 {
					b = append(b, ',')
				}
				b = render(b, event, e.Status)
			}
		}
		if len(page) > 0 && len(b) > firstRead {
			w.Header().Set("Content-Type", "application/json")
			if _, err := w.Write(b); err != nil {
				return err
			}
			a.used.giveFor(h, held)
			b, held = b[:0], 0
		}
	}
	answerJSON(w, http.StatusOK, append(b, tail(count)...))
	return nil
}

// inboxStep returns how many events are read and written at a time: 10, or fewer
// if bodies may be so large that 10 might not fit into memory.
func (a *API) inboxStep() int { return max(1, min(10, maxBodies/8/a.MaxBody)) }

func idsOf(part []store.EventStatus) []trigger.ID {
	ids := make([]trigger.ID, len(part))
	for i, e := range part {
		ids[i] = e.ID
	}
	return ids
}

// sizeOf returns the memory that the answer with these events needs.
func sizeOf(events map[trigger.ID]*trigger.Event) (size int) {
	for _, e := range events {
		size += 2 * e.Size() // twice: as read, and as written
	}
	return size
}

// marshal encodes a value that cannot fail to encode.
func marshal(v any) []byte {
	b, _ := json.Marshal(v)
	return b
}
