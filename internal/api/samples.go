package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tidwall/gjson"

	"triggerd/internal/store"
	"triggerd/internal/trigger"
)

const (
	defaultSamples = 3
	samplePages    = 10 // maximum number of pages read, each of maxPage events or one second
	examplePage    = 20 // event types that are read at a time
)

// listSamples shows the newest events in the form of webhooks or, without any,
// the examples of the event types.
func (a *API) listSamples(w http.ResponseWriter, r *request) error {
	q, err := parameters(r, "type", "limit", "examples")
	if err != nil {
		return err
	}
	limit, err := q.limitOr(defaultSamples)
	if err != nil {
		return err
	}
	examples, err := q.oneOf("examples", "true", "false")
	if err != nil {
		return err
	}
	var filter trigger.Filter
	if filter.Types, err = q.pattern("type"); err != nil {
		return err
	}
	out := &sampling{a: a, w: w, holder: a.holderOf(r), filter: filter, limit: limit, b: []byte{'['}}
	defer func() { a.used.giveFor(out.holder, out.held) }()
	if err := out.events(r.Context()); err != nil {
		return err
	}
	if out.count == 0 && examples != "false" {
		if err := out.examples(r.Context()); err != nil {
			return err
		}
	}
	answerJSON(w, http.StatusOK, append(out.b, ']'))
	return nil
}

// sampling is an answer in progress.
type sampling struct {
	holder
	a      *API
	w      http.ResponseWriter
	filter trigger.Filter
	limit  int

	count int
	b     []byte // not yet written
	held  int    // bytes counted for what is in memory
}

func (s *sampling) add(e *trigger.Event) {
	if s.count++; s.count > 1 {
		s.b = append(s.b, ',')
	}
	s.b = e.AppendBody(s.b, trigger.FormatStandard)
}

// events adds stored events, newest first. It reads at most samplePages pages,
// even if few of their events can be shown.
func (s *sampling) events(ctx context.Context) error {
	query := store.EventQuery{Types: s.filter.Types, Limit: maxPage}
	for range samplePages {
		page, next, err := s.a.Store.FindEvents(ctx, s.orgID, query)
		if err != nil {
			return err
		}
		for len(page) > 0 && s.count < s.limit {
			part := page[:min(s.a.inboxStep(), s.limit-s.count, len(page))]
			page = page[len(part):]
			if err := s.step(ctx, part); err != nil {
				return err
			}
		}
		if s.count == s.limit || next.IsZero() {
			break
		}
		query.After = next
	}
	return nil
}

// step adds some events, and writes the answer so far if that is large.
func (s *sampling) step(ctx context.Context, part []store.EventStatus) error {
	events, err := s.a.Store.Events(ctx, s.orgID, idsOf(part))
	if err != nil {
		return err
	}
	size, before := sizeOf(events), len(s.b)
	if err := s.a.used.takeFor(s.holder, size); err != nil {
		return err
	}
	s.held += size
	now := s.a.Store.Now()
	for _, e := range part {
		// It may have been deleted since it was listed.
		if event := events[e.ID]; event != nil && !event.DeliverAt.After(now) && (!event.IsNotice() || s.filter.Names(event.Type)) {
			s.add(event)
		}
	}
	if len(s.b) == before {
		s.a.used.giveFor(s.holder, size)
		s.held -= size
	}
	if len(s.b) > firstRead {
		s.w.Header().Set("Content-Type", "application/json")
		if _, err := s.w.Write(s.b); err != nil {
			return err
		}
		s.a.used.giveFor(s.holder, s.held)
		s.b, s.held = s.b[:0], 0
	}
	return nil
}

// examples adds the examples of the matching event types, as events from the
// time when the type was registered: the same at each call.
func (s *sampling) examples(ctx context.Context) error {
	var list []*trigger.Event
	for after := ""; ; {
		page, err := s.a.Store.ListEventTypes(ctx, s.orgID, after, examplePage)
		if err != nil {
			return err
		}
		for i := range page {
			if s.filter.Match(page[i].Name, nil) {
				list = append(list, examplesOf(s.orgID, &page[i], s.limit)...)
			}
		}
		slices.SortFunc(list, func(a, b *trigger.Event) int {
			return cmp.Or(bytes.Compare(b.ID[:], a.ID[:]), cmp.Compare(a.Type, b.Type))
		})
		list = slices.Clip(list[:min(len(list), s.limit)])
		if len(page) < examplePage {
			break
		}
		after = page[len(page)-1].Name
	}
	for _, e := range list {
		s.add(e)
	}
	return nil
}

// examplesOf returns events of a type's examples or, without any, of its example
// or default.
func examplesOf(orgID int64, t *trigger.EventType, limit int) (list []*trigger.Event) {
	schema := gjson.ParseBytes(t.Schema)
	var found []gjson.Result
	if examples := schema.Get("examples"); examples.IsArray() {
		found = examples.Array()
	}
	for _, name := range []string{"example", "default"} {
		if one := schema.Get(name); len(found) == 0 && one.Exists() {
			found = append(found, one)
		}
	}
	for i, example := range found[:min(len(found), limit)] {
		list = append(list, &trigger.Event{
			OrganizationID: orgID, ID: exampleID(orgID, t.Name, t.CreatedAt, i), Type: t.Name, Payload: []byte(example.Raw),
		})
	}
	return list
}

// exampleID returns a fixed id for an example of a type. The first example has
// the newest id.
func exampleID(orgID int64, name string, at time.Time, i int) trigger.ID {
	sum := sha256.Sum256([]byte(strconv.FormatInt(orgID, 10) + "/" + strconv.Itoa(i) + "/" + name))
	return trigger.NewID(at, ^uint16(i), binary.BigEndian.Uint64(sum[:]))
}
