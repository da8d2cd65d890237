package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A dedup id is a word, a fixed number of digits, and a suffix of the load, so
// that all requests of a load have the same length. Successive ids are far
// apart in an index, like random ids, and lie between the ids of a stored
// database.
const (
	idWord   = "bench-"
	idDigits = 12
	idSpace  = 1_000_000_000_000 // all ids of that many digits
	idStep   = 618_033_989       // coprime to idSpace; 14 million multiples are exact in Lua
)

// load is a repeated request. It is the whole text except the ids in it, so
// that each driver sends the same bytes.
type load struct {
	address string
	head    string // up to the first id; all of it without ids
	between string // between two ids
	tail    string // after the last id
	ids     int    // in one request
	from    int64  // the first id
	of      int64  // how many ids there are; 0: no end

	adds    int    // events that each request stores
	repeats int    // events of each request that are duplicates
	verdict string // what each answer has once for each event; "": anything
}

// events returns the number of events of each request; 1 if it has none.
func (l *load) events() int { return max(l.adds+l.repeats, 1) }

// aim is the target of loads, and the organization that posts.
type aim struct {
	address string
	path    string // of events
	header  string // a line with the key; may be empty
}

// request returns a load of a request, without the properties of its events.
// Its body is head, then the ids with between in between, then tail.
func (a aim) request(line, contentType, head, between, tail string, ids int) load {
	length := len(head) + len(tail) + ids*idDigits + max(ids-1, 0)*len(between)
	text := line + " HTTP/1.1\r\nHost: " + a.address + "\r\nContent-Type: " + contentType + "\r\n"
	if a.header != "" {
		text += a.header + "\r\n"
	}
	text += "Content-Length: " + strconv.Itoa(length) + "\r\n\r\n" + head
	return load{address: a.address, head: text, between: between, tail: tail, ids: ids}
}

// event returns the text of an event before and after the digits of its dedup
// id, which ends in of. Without a dedup id all of it is before.
func (s *settings) event(of string, dedup bool) (before, behind string) {
	payload := string(appendPayload(nil, 0, 0, s.Payload))
	if !dedup {
		return `{"type":"bench.load","payload":` + payload + `}`, ""
	}
	return `{"type":"bench.load","dedup_id":"` + idWord, of + `","payload":` + payload + `}`
}

// numbers returns the number of ids of an event: 1 or 0.
func numbers(dedup bool) int {
	if dedup {
		return 1
	}
	return 0
}

// posts returns a load of single events.
func (a aim) posts(s *settings, of string) load {
	before, behind := s.event(of, s.Dedup)
	l := a.request("POST "+a.path, "application/json", before, "", behind, numbers(s.Dedup))
	l.adds = 1
	return l
}

// noop returns the load of posts on a path that does nothing with it.
func (a aim) noop(s *settings, path string) load {
	before, behind := s.event("-noop", s.Dedup)
	return a.request("GET "+path, "application/json", before, "", behind, numbers(s.Dedup))
}

// repeated is the number of ids in the load of duplicates.
const repeated = 1000

// duplicates returns a load of single events with ids in a cycle.
func (a aim) duplicates(s *settings, of string) load {
	before, behind := s.event(of, true)
	l := a.request("POST "+a.path, "application/json", before, "", behind, 1)
	l.of, l.repeats = repeated, 1
	return l
}

// batches returns a load of several events in each request, one in each line.
func (a aim) batches(s *settings, of string, size int) load {
	before, behind := s.event(of, s.Dedup)
	if s.Dedup {
		behind += "\n"
		l := a.request("POST "+a.path, "application/x-ndjson", before, behind+before, behind, size)
		l.adds = size
		return l
	}
	l := a.request("POST "+a.path, "application/x-ndjson", strings.Repeat(before+"\n", size), "", "", 0)
	l.adds = size
	return l
}

// text appends the n-th request.
func (l *load) text(to []byte, n int64) []byte {
	to = append(to, l.head...)
	for i := range l.ids {
		if i > 0 {
			to = append(to, l.between...)
		}
		id := l.from + n*int64(l.ids) + int64(i)
		if l.of > 0 {
			id %= l.of
		}
		to = fmt.Appendf(to, "%0*d", idDigits, id*idStep%idSpace)
	}
	return append(to, l.tail...)
}

// tally is the result of a load.
type tally struct {
	ok     int // 2xx answers
	others int // other answers
	broken int // requests without an answer, and failed connections
	took   time.Duration
	first  string // the first failure, if known

	p50, p99, p999 time.Duration
}

// err returns an error unless all answers were 2xx and there was at least one.
func (t *tally) err() error {
	if t.others > 0 || t.broken > 0 {
		return fmt.Errorf("%d answers were 2xx, %d were not, and %d requests or connections failed: %s", t.ok, t.others, t.broken, t.first)
	}
	if t.ok == 0 {
		return errors.New("there was no answer at all")
	}
	return nil
}

// loop is the built-in driver: each connection makes a request after the answer
// to the previous one, while more returns true.
func (l *load) loop(ctx context.Context, conns int, more func() bool) tally {
	var all sync.WaitGroup
	var next atomic.Int64
	workers := make([]worker, conns)
	begun := time.Now()
	for i := range workers {
		w := &workers[i]
		w.load = l
		all.Go(func() {
			if err := w.work(&next, func() bool { return more() && ctx.Err() == nil }); err != nil {
				w.fail(&w.broken, err)
			}
		})
	}
	all.Wait()
	sum := tally{took: time.Since(begun)}
	var latencies []time.Duration
	for i := range workers {
		w := &workers[i]
		sum.ok, sum.others, sum.broken = sum.ok+w.ok, sum.others+w.others, sum.broken+w.broken
		if sum.first == "" {
			sum.first = w.first
		}
		latencies = append(latencies, w.latencies...)
	}
	sum.p50, sum.p99, sum.p999 = percentile(latencies, 50), percentile(latencies, 99), percentile(latencies, 99.9)
	return sum
}

// worker is one connection of a loop.
type worker struct {
	load *load
	tally
	latencies []time.Duration
	out       []byte
	answer    bytes.Buffer
}

func (w *worker) fail(counter *int, err error) {
	*counter++
	if w.first == "" {
		w.first = err.Error()
	}
}

func (w *worker) work(next *atomic.Int64, more func() bool) error {
	to, err := dial(w.load.address)
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }()
	for more() {
		w.out = w.load.text(w.out[:0], next.Add(1)-1)
		begun := time.Now()
		resp, err := w.exchange(to)
		if err != nil {
			return err
		}
		w.latencies = append(w.latencies, time.Since(begun))
		w.judge(resp)
		if !resp.Close {
			continue
		}
		_ = to.Close() // the server closes it
		again, err := dial(w.load.address)
		if err != nil {
			return err
		}
		to = again
	}
	return nil
}

// exchange sends w.out and reads the answer.
func (w *worker) exchange(to *conn) (*http.Response, error) {
	if err := to.SetDeadline(time.Now().Add(answerPatience)); err != nil {
		return nil, err
	}
	if _, err := to.Write(w.out); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(to.in, nil)
	if err != nil {
		return nil, err
	}
	w.answer.Reset()
	_, err = w.answer.ReadFrom(resp.Body)
	return resp, err
}

// judge counts an answer.
func (w *worker) judge(resp *http.Response) {
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		w.fail(&w.others, fmt.Errorf("status %d: %.200q", resp.StatusCode, w.answer.Bytes()))
	case w.load.verdict != "" && bytes.Count(w.answer.Bytes(), []byte(w.load.verdict)) != w.load.events():
		w.fail(&w.others, fmt.Errorf("not %d times %s: %.200q", w.load.events(), w.load.verdict, w.answer.Bytes()))
	default:
		w.ok++
	}
}

// within returns a function that is true for a time.
func within(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().Before(end) }
}

// times returns a function that is true for n calls.
func times(n int64) func() bool {
	var calls atomic.Int64
	return func() bool { return calls.Add(1) <= n }
}
