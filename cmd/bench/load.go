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

// A dedup id is a word, as many digits for all, so that all requests of a load
// have one length, and what is the load's alone. Those that follow each other
// lie far apart in an index, as random ids do, and between those that a stored
// database has.
const (
	idWord   = "bench-"
	idDigits = 12
	idSpace  = 1_000_000_000_000 // ids with as many digits
	idStep   = 618_033_989       // has no divisor in common with it; 14 million of them are exact in Lua
)

// load is a request that is made over and over. It is the whole text, but for
// the ids in it, so that each driver sends the very same bytes.
type load struct {
	address string
	head    string // up to the first id; all of it, if there is none
	between string // two ids
	tail    string // behind the last
	ids     int    // in one request
	from    int64  // the first id
	of      int64  // how many ids there are; 0: no end

	adds    int    // events that each request stores
	repeats int    // events of each request that were stored before
	verdict string // what each answer has once for each event; "": whatever it likes
}

// events is how many each request has; 1, where it has none.
func (l *load) events() int { return max(l.adds+l.repeats, 1) }

// aim is where loads go to, and who posts.
type aim struct {
	address string
	path    string // of events
	header  string // a line with the key; "": none
}

// request makes a load of a request, without what is told of its events. Its
// body is head, and for each id but the last the id and between, and then
// the last id and tail.
func (a aim) request(line, contentType, head, between, tail string, ids int) load {
	length := len(head) + len(tail) + ids*idDigits + max(ids-1, 0)*len(between)
	text := line + " HTTP/1.1\r\nHost: " + a.address + "\r\nContent-Type: " + contentType + "\r\n"
	if a.header != "" {
		text += a.header + "\r\n"
	}
	text += "Content-Length: " + strconv.Itoa(length) + "\r\n\r\n" + head
	return load{address: a.address, head: text, between: between, tail: tail, ids: ids}
}

// event is the text of one before and behind the digits of its dedup id, which
// ends in a word of the load's; all of it is before, if it has none.
func (s *settings) event(of string, dedup bool) (before, behind string) {
	payload := string(appendPayload(nil, 0, 0, s.Payload))
	if !dedup {
		return `{"type":"bench.load","payload":` + payload + `}`, ""
	}
	return `{"type":"bench.load","dedup_id":"` + idWord, of + `","payload":` + payload + `}`
}

// numbers counts the ids of an event: one or none.
func numbers(dedup bool) int {
	if dedup {
		return 1
	}
	return 0
}

// posts is a load of single events.
func (a aim) posts(s *settings, of string) load {
	before, behind := s.event(of, s.Dedup)
	l := a.request("POST "+a.path, "application/json", before, "", behind, numbers(s.Dedup))
	l.adds = 1
	return l
}

// noop is the load of posts on a path where nothing is done with it.
func (a aim) noop(s *settings, path string) load {
	before, behind := s.event("-noop", s.Dedup)
	return a.request("GET "+path, "application/json", before, "", behind, numbers(s.Dedup))
}

// repeated is how many ids there are in the load of duplicates.
const repeated = 1000

// duplicates is a load of single events, which go round.
func (a aim) duplicates(s *settings, of string) load {
	before, behind := s.event(of, true)
	l := a.request("POST "+a.path, "application/json", before, "", behind, 1)
	l.of, l.repeats = repeated, 1
	return l
}

// batches is a load of several events in each request, one in each line.
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

// text appends the request of a number.
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

// tally is what a load was answered.
type tally struct {
	ok     int // answers that were 2xx
	others int // answers that were not
	broken int // requests without an answer, and connections that failed
	took   time.Duration
	first  string // of what went wrong, where it is known

	p50, p99, p999 time.Duration
}

// err is not nil if not all is well.
func (t *tally) err() error {
	if t.others > 0 || t.broken > 0 {
		return fmt.Errorf("%d answers were 2xx, %d were not, and %d requests or connections failed: %s", t.ok, t.others, t.broken, t.first)
	}
	if t.ok == 0 {
		return errors.New("there was no answer at all")
	}
	return nil
}

// loop is the driver of our own: each of some connections makes a request
// when the one before was answered, as long as more says so.
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
		_ = to.Close() // the server wants it
		again, err := dial(w.load.address)
		if err != nil {
			return err
		}
		to = again
	}
	return nil
}

// exchange sends what is to go out, and reads the answer.
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

// within is true for a time.
func within(d time.Duration) func() bool {
	end := time.Now().Add(d)
	return func() bool { return time.Now().Before(end) }
}

// times is true for a number of calls.
func times(n int64) func() bool {
	var calls atomic.Int64
	return func() bool { return calls.Add(1) <= n }
}
