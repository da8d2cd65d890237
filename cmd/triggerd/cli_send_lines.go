package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"triggerd/client"
)

const (
	maxLine      = 64 << 20               // of events that are read, in bytes
	maxBatchSize = 6 << 20                // of the lines in one request, in bytes; the server takes 8 MiB
	sendIdle     = 200 * time.Millisecond // after which a request is not waited to be full
)

// batch gathers events that come as lines, and posts them.
type batch struct {
	ctx     context.Context
	session *session
	link    *link
	json    bool

	lines   []line
	size    int // of the lines, in bytes
	first   int // index of the first line, over all batches
	tallied map[string]int
	named   int // of those that were not accepted
}

// line is one event; or the problem, if it is none.
type line struct {
	event   client.EventInput
	problem *client.Error
}

// stream posts what comes on standard input, until its end.
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

// postAll posts what comes: when there is enough for a request, and when
// nothing more comes for a moment.
func (b *batch) postAll(most int) error {
	lines, ended := make(chan []byte), make(chan error, 1)
	go func() { ended <- readLines(b.ctx, b.session.in, lines) }()
	for {
		var idle <-chan time.Time
		if len(b.lines) > 0 {
			idle = time.After(sendIdle)
		}
		var err error
		select {
		case text := <-lines:
			if len(b.lines) > 0 && b.size+len(text) > maxBatchSize {
				err = b.post()
			}
			b.lines, b.size = append(b.lines, readLine(text)), b.size+len(text)
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

// readLines hands over what is not empty, line by line.
func readLines(ctx context.Context, from io.Reader, lines chan<- []byte) error {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(make([]byte, 64<<10), maxLine)
	for scanner.Scan() {
		text := bytes.TrimSpace(scanner.Bytes())
		if len(text) == 0 {
			continue
		}
		select {
		case lines <- bytes.Clone(text):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return scanner.Err()
}

// readLine takes a line apart. What is no event is refused here, as the server
// would.
func readLine(text []byte) line {
	var in struct {
		Type        string          `json:"type"`
		Payload     json.RawMessage `json:"payload"`
		DedupID     string          `json:"dedup_id"`
		DeliverAt   time.Time       `json:"deliver_at"`
		Traceparent string          `json:"traceparent"`
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == nil && d.InputOffset() < int64(len(text)) {
		err = errors.New("there is something behind the event")
	}
	if err != nil {
		return line{problem: &client.Error{Title: "No event", Status: 400, Code: client.CodeInvalidJSON, Detail: err.Error()}}
	}
	return line{event: client.EventInput{
		Type: in.Type, Payload: in.Payload, DedupID: in.DedupID, DeliverAt: in.DeliverAt, Traceparent: in.Traceparent,
	}}
}

// post posts what has gathered, and tells what became of it.
func (b *batch) post() error {
	var events []client.EventInput
	for _, line := range b.lines {
		if line.problem == nil {
			events = append(events, line.event)
		}
	}
	verdicts, err := b.link.PostEvents(b.ctx, events)
	if err != nil {
		return b.link.explain(err)
	}
	for i, line := range b.lines {
		verdict := client.Verdict{Status: client.PostRejected, Problem: line.problem}
		if line.problem == nil {
			verdict, verdicts = verdicts[0], verdicts[1:]
		}
		verdict.Index = b.first + i
		b.tell(verdict)
	}
	b.first += len(b.lines)
	b.lines, b.size = nil, 0
	return nil
}

func (b *batch) tell(v client.Verdict) {
	b.tallied[v.Status]++
	if b.json {
		writeJSON(b.session.out, v)
		return
	}
	if v.Problem != nil {
		switch b.named++; {
		case b.named <= maxListed:
			fmt.Fprintf(b.session.errOut, "event %d is %s: %s\n", v.Index+1, v.Status, problemText(v.Problem))
		case b.named == maxListed+1:
			fmt.Fprintln(b.session.errOut, "and more; --json names all")
		}
	}
	for _, warning := range v.Warnings {
		fmt.Fprintf(b.session.errOut, "event %d: warning: %s\n", v.Index+1, warningText(warning))
	}
}

// conclude tells the sums, and fails if an event was not accepted.
func (b *batch) conclude(err error) error {
	t, to := b.tallied, b.session.out
	if b.json {
		to = b.session.errOut
	}
	refused := t[client.PostRejected] + t[client.PostUnavailable]
	fmt.Fprintf(to, "%d accepted, %d duplicates, %d rejected, %d unavailable\n",
		t[client.PostAccepted], t[client.PostDuplicate], t[client.PostRejected], t[client.PostUnavailable])
	if open := len(b.lines); open > 0 {
		fmt.Fprintf(b.session.errOut, "of %d events from event %d on it is not known; they may be stored\n", open, b.first+1)
	}
	if err == nil && refused > 0 {
		err = fmt.Errorf("%d of %d events were not accepted", refused, b.first)
	}
	return err
}
