package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"triggerd/client"
)

const (
	maxBatchSize = 6 << 20                // maximum size of the lines in one request, in bytes, except for a single line; the server accepts 8 MiB
	sendIdle     = 200 * time.Millisecond // after this time an incomplete request is sent
)

// batch collects events from lines, and posts them.
type batch struct {
	ctx     context.Context
	session *session
	link    *link
	json    bool

	lines   []line
	size    int // of the lines, in bytes
	first   int // index of the first line, over all batches
	unknown int // number of lines, from the first on, that may be stored, because the request had no answer
	tallied map[string]int
	named   int // number of events listed as not accepted
}

// stream posts the events of standard input, until its end.
func (c *sendCommand) stream(ctx context.Context, s *session) error {
	l, err := c.open(s)
	if err != nil {
		return err
	}
	defer l.close()
	l.Retries = client.DefaultRetries
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	b := &batch{ctx: ctx, session: s, link: l, json: c.JSON, tallied: map[string]int{}}
	err = b.postAll(c.Batch)
	return b.conclude(err)
}

// postAll posts the events: when there are enough for a request, and when no
// more arrive for a moment.
func (b *batch) postAll(most int) error {
	lines, ended := make(chan line), make(chan error, 1)
	go func() { ended <- readLines(b.ctx, b.session.in, lines) }()
	for {
		var idle <-chan time.Time
		if len(b.lines) > 0 {
			idle = time.After(sendIdle)
		}
		var err error
		select {
		case l := <-lines:
			if len(b.lines) > 0 && b.size+len(l.text) > maxBatchSize {
				err = b.post()
			}
			b.lines, b.size = append(b.lines, l), b.size+len(l.text)
			if err == nil && len(b.lines) >= most {
				err = b.post()
			}
		case <-idle:
			err = b.post()
		case err := <-ended:
			return errors.Join(b.post(), err)
		case <-b.ctx.Done():
			return &failure{"interrupted", b.ctx.Err()}
		}
		if err != nil {
			return err
		}
	}
}

// post posts the collected events, and reports their results. If the server
// finds a request too large, it is split into halves: after a 413 nothing of it
// is stored.
func (b *batch) post() error { return b.postFirst(len(b.lines)) }

// postFirst is post for the first lines.
func (b *batch) postFirst(count int) error {
	var texts [][]byte
	for _, line := range b.lines[:count] {
		if line.problem == nil {
			texts = append(texts, line.text)
		}
	}
	verdicts, err := b.link.PostEventLines(b.ctx, texts)
	if refusal, ok := errors.AsType[*client.Error](err); ok && refusal.Status == http.StatusRequestEntityTooLarge && client.IsRefused(err) {
		if len(texts) > 1 {
			half := count / 2
			if err := b.postFirst(half); err != nil {
				return err
			}
			return b.postFirst(count - half)
		}
		verdicts, err = []client.Verdict{{Status: client.PostRejected, Problem: refusal}}, nil
	}
	if err != nil {
		if !client.IsRefused(err) {
			b.unknown = count
		}
		return b.link.explain(err)
	}
	for i, line := range b.lines[:count] {
		verdict := client.Verdict{Status: client.PostRejected, Problem: line.problem}
		if line.problem == nil {
			verdict, verdicts = verdicts[0], verdicts[1:]
		}
		verdict.Index = b.first + i
		b.tell(verdict, line.number)
	}
	b.first += count
	for _, line := range b.lines[:count] {
		b.size -= len(line.text)
	}
	b.lines = slices.Delete(b.lines, 0, count)
	return nil
}

// tell reports the result of an event, with its line.
func (b *batch) tell(v client.Verdict, number int) {
	b.tallied[v.Status]++
	if b.json {
		writeJSON(b.session.out, v)
		return
	}
	name := fmt.Sprintf("event %d", v.Index+1)
	if number != v.Index+1 { // there are empty lines
		name += fmt.Sprintf(" (line %d)", number)
	}
	if v.Problem != nil {
		switch b.named++; {
		case b.named <= maxListed:
			fmt.Fprintf(b.session.errOut, "%s is %s: %s\n", name, v.Status, problemText(v.Problem))
		case b.named == maxListed+1:
			fmt.Fprintln(b.session.errOut, "and more; --json lists all")
		}
	}
	for _, warning := range v.Warnings {
		fmt.Fprintf(b.session.errOut, "%s: warning: %s\n", name, warningText(warning))
	}
}

// conclude reports the totals, and fails if an event was not accepted.
func (b *batch) conclude(err error) error {
	t, to := b.tallied, b.session.out
	if b.json {
		to = b.session.errOut
	}
	refused := t[client.PostRejected] + t[client.PostUnavailable]
	fmt.Fprintf(to, "%d accepted, %d duplicates, %d rejected, %d unavailable\n",
		t[client.PostAccepted], t[client.PostDuplicate], t[client.PostRejected], t[client.PostUnavailable])
	open := len(b.lines) - b.unknown
	if b.unknown > 0 {
		fmt.Fprintf(b.session.errOut, "%d events from event %d on may or may not be stored\n", b.unknown, b.first+1)
	}
	if open > 0 {
		fmt.Fprintf(b.session.errOut, "the %d events from event %d on are not stored\n", open, b.first+b.unknown+1)
	}
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d of %d events were not accepted", refused, b.first)
	}
	return err
}
