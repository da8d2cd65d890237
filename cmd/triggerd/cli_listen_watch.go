package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"triggerd/client"
	"triggerd/internal/trigger"
)

const (
	// late is the longest time after which a new event becomes visible.
	late = 30 * time.Second
	// looksPerSweep is the number of polls of only the newest events between
	// two polls of all events that are not older than late.
	looksPerSweep = 10
	// watchRetries is the number of retries for an event.
	watchRetries = 3
)

// watch finds new events by polling, without claiming them. It uses the
// server's clock: events of its first poll are old.
type watch struct {
	from    *client.Client
	pattern string
	since   time.Time            // older events are ignored
	seen    map[string]time.Time // events since then, with their time of creation; nil: no poll yet
	looks   int                  // since the last sweep
}

// look returns the new events since the last poll, the oldest first. A failed
// poll changes nothing.
func (w *watch) look(ctx context.Context) ([]client.Event, error) {
	sweep := w.seen == nil || w.looks >= looksPerSweep
	since := w.since
	if sweep {
		newest, err := w.newest(ctx)
		if err != nil {
			return nil, err
		}
		if since = newest.Add(-late); newest.IsZero() {
			since = w.since
		}
		if w.seen == nil {
			w.since = since
		}
	}
	fresh, err := w.fresh(ctx, sweep)
	if err != nil {
		return nil, err
	}
	first := w.seen == nil
	if first {
		w.seen = map[string]time.Time{}
	}
	for _, event := range fresh {
		w.seen[event.ID] = event.CreatedAt
	}
	w.looks++
	if sweep {
		w.since, w.looks = since, 0
		for id, created := range w.seen {
			if created.Before(since) {
				delete(w.seen, id)
			}
		}
	}
	if first {
		return nil, nil
	}
	slices.SortFunc(fresh, func(a, b client.Event) int { return strings.Compare(a.ID, b.ID) })
	return fresh, nil
}

// newest returns the time of creation of the newest event; zero if there is
// none.
func (w *watch) newest(ctx context.Context) (time.Time, error) {
	page, err := w.from.EventsPage(ctx, client.EventQuery{Limit: 1}, "")
	if err != nil || len(page.Data) == 0 {
		return time.Time{}, err
	}
	return page.Data[0].CreatedAt, nil
}

// fresh returns the events that have not been seen. If sweep is false, it ends
// at a page without new events.
func (w *watch) fresh(ctx context.Context, sweep bool) (fresh []client.Event, err error) {
	q := client.EventQuery{Type: w.pattern, Since: w.since, Limit: maxPage}
	for cursor := ""; ; {
		page, err := w.from.EventsPage(ctx, q, cursor)
		if err != nil {
			return nil, err
		}
		before := len(fresh)
		for _, event := range page.Data {
			if _, seen := w.seen[event.ID]; !seen {
				fresh = append(fresh, event)
			}
		}
		cursor = page.NextCursor
		if cursor == "" || !sweep && len(page.Data) > 0 && len(fresh) == before {
			return fresh, nil
		}
	}
}

// follow forwards each new event, until ctx ends or a retry cannot help.
func (l *listener) follow(ctx context.Context) error {
	w := &watch{from: l.from.Client, pattern: l.pattern}
	var scheduled []client.Event
	for ready := false; ; {
		events, err := w.look(ctx)
		if err := l.bear(ctx, err); err != nil {
			return stopped(ctx, err)
		}
		if !ready && w.seen != nil {
			ready = true
			fmt.Fprintln(l.session.out, "ready")
		}
		waiting := scheduled
		scheduled = nil
		for _, event := range append(waiting, events...) {
			switch {
			case !wanted(l.pattern, event):
			case event.DeliverAt.After(l.session.now()):
				if !slices.ContainsFunc(waiting, func(e client.Event) bool { return e.ID == event.ID }) {
					fmt.Fprintf(l.session.out, "%s is scheduled for %s\n", event.ID, localTime(event.DeliverAt))
				}
				scheduled = append(scheduled, event)
			default:
				l.bring(ctx, event)
			}
		}
		if sleepUntil(ctx, time.Now().Add(l.every)) != nil {
			return nil
		}
	}
}

// wanted reports whether a webhook with that pattern would get the event:
// operational events match only patterns that name them.
func wanted(pattern string, event client.Event) bool {
	notice := (&trigger.Event{Type: event.Type, DedupID: event.DedupID}).IsNotice()
	filter := trigger.Filter{Types: []trigger.Pattern{trigger.StoredPattern(pattern)}}
	return !notice || pattern != "" && filter.Names(event.Type)
}

// bring forwards an event, with retries if they may help.
func (l *listener) bring(ctx context.Context, event client.Event) {
	for try := 0; ; try++ {
		result := l.to.forward(ctx, event)
		if ctx.Err() != nil && !result.ok() {
			return
		}
		if result.ok() || !result.again() || try == watchRetries {
			l.tell(event, result, "")
			l.count(result)
			return
		}
		pause := l.pause << try
		l.tell(event, result, fmt.Sprintf("  retry in %v", pause))
		if sleepUntil(ctx, time.Now().Add(pause)) != nil {
			return
		}
	}
}
