package deliver_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"triggerd/internal/trigger"
)

// conduct is how a receiver behaves for a while.
type conduct int

const (
	up      conduct = iota // a quick 2xx
	slow                   // a 2xx after some seconds, perhaps too late
	down                   // a quick answer that is no 2xx
	refuses                // no connection, or one that breaks
	hangs                  // a connection, and nothing else
	limits                 // 429 or 503 with Retry-After
	tears                  // answers of which the body breaks off, or never ends
	mixes                  // any of these
	conducts
	leaves   // 410
	disables // webhook-delivery: disable
	aborts   // webhook-delivery: abort-message
	denies   // a quick answer that says nothing of strain
	prompt   // a 2xx after a few milliseconds, always the same
	crashes  // a quick 500, or another answer that blames the server
	busy     // a quick 503, or another answer that asks for less
	breaks   // a connection that is closed without an answer
)

// promptly is how long a prompt receiver takes.
const promptly = 10*time.Millisecond + 7

// plan is how a receiver behaves over time: phases, the last one for ever.
type plan []phase

type phase struct {
	from time.Duration // since the simulation began
	conduct
}

// quick says that the receiver is always up.
func (p plan) quick() bool { return len(p) == 1 && p[0].conduct == up }

// at is how the receiver behaves at a time.
func (p plan) at(since time.Duration) (c conduct) {
	for _, ph := range p {
		if ph.from <= since {
			c = ph.conduct
		}
	}
	return c
}

// newPlan makes a plan for a simulation of the given length.
func newPlan(dice *rand.Rand, span time.Duration) plan {
	p := plan{{0, conduct(dice.IntN(int(conducts)))}}
	for at := time.Duration(0); dice.IntN(5) > 0; {
		at += time.Duration(dice.Float64() * float64(span) / 3)
		p = append(p, phase{at, conduct(dice.IntN(int(conducts)))})
	}
	switch at := time.Duration(dice.Float64() * float64(span)); dice.IntN(10) {
	case 0, 1:
		p = append(p, phase{at, leaves})
	case 2:
		p = append(p, phase{at, disables}, phase{at + time.Minute, up})
	}
	return p
}

// answer is what a receiver does with one request.
type answer struct {
	after      time.Duration // < 0: never
	err        error         // instead of an answer
	status     int
	header     string // Retry-After
	retryAfter time.Duration
	directive  trigger.Directive
	size       int  // of the body
	torn       bool // the body breaks off
	endless    bool // the body never ends
	panics     bool
}

// answerTo throws the dice for an answer.
func (c conduct) answerTo(dice *rand.Rand, now time.Time) answer {
	quick := time.Duration(1+dice.IntN(200))*time.Millisecond + 7
	pick := func(of ...int) int { return of[dice.IntN(len(of))] }
	switch c {
	case up:
		return answer{after: quick, status: pick(200, 201, 202, 204, 299), size: pick(0, 2, 5, 100<<10)}
	case slow:
		return answer{after: time.Second + time.Duration(dice.IntN(20_000))*time.Millisecond + 7, status: 200}
	case down:
		return answer{after: quick, status: pick(500, 502, 404, 400, 301, 302, 408, 600), size: pick(0, 10, 20<<10)}
	case refuses:
		errs := []error{
			&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)},
			&net.DNSError{Err: "no such host"}, io.EOF, errors.New("malformed HTTP response"),
		}
		return answer{after: quick * time.Duration(pick(0, 1, 10)), err: errs[dice.IntN(len(errs))]}
	case hangs:
		return answer{after: -1}
	case limits:
		a := answer{after: quick, status: pick(429, 503)}
		a.header, a.retryAfter = retryAfter(dice, now)
		return a
	case tears:
		a := answer{after: quick, status: pick(200, 204, 410, 500), size: pick(0, 3, 1000), torn: true}
		a.endless = dice.IntN(3) == 0
		return a
	case prompt:
		return answer{after: promptly, status: 200}
	case leaves:
		return answer{after: quick, status: 410}
	case disables:
		return answer{after: quick, status: pick(200, 400, 503), directive: trigger.Disable}
	case aborts:
		return answer{after: quick, status: pick(400, 409, 500), directive: trigger.AbortMessage}
	case crashes:
		return answer{after: quick, status: pick(500, 501, 505, 599)}
	case busy:
		return answer{after: quick, status: pick(502, 503, 504)}
	case breaks:
		return answer{after: quick, err: io.EOF}
	case denies:
		return answer{after: quick, status: pick(404, 400, 301, 302)}
	}
	switch dice.IntN(40) {
	case 0, 1:
		return answer{after: quick, panics: true}
	case 2, 3:
		return aborts.answerTo(dice, now)
	}
	return conduct(dice.IntN(int(mixes))).answerTo(dice, now)
}

// retryAfter makes a Retry-After header, and says what it asks for.
func retryAfter(dice *rand.Rand, now time.Time) (header string, d time.Duration) {
	switch seconds := dice.IntN(2 * 3600); dice.IntN(6) {
	case 0:
		return strconv.Itoa(seconds), min(time.Duration(seconds)*time.Second, time.Hour)
	case 1:
		return "1", time.Second
	case 2:
		return [...]string{"3601", "99999999999", "99999999999999999999999"}[dice.IntN(3)], time.Hour
	case 3:
		i := dice.IntN(5)
		return [...]string{"", "soon", "-5", "1.5", "0"}[i], [...]time.Duration{3: 2 * time.Second, 4: 0}[i]
	case 4:
		at := now.Add(time.Duration(seconds) * time.Second).Truncate(time.Second)
		return at.UTC().Format(http.TimeFormat), min(max(at.Sub(now), 0), time.Hour)
	default:
		return now.Add(-time.Hour).UTC().Format(http.TimeFormat), 0
	}
}

// sending is one request of a server.
type sending struct {
	*debt
	server  *server
	url     string
	claim   *claim
	nth     uint64        // of its delivery
	start   time.Time     // when the server sent it
	arrived time.Time     // when the receiver saw it; later if the server was held up in between
	end     time.Time     // when the receiver was done with it; zero: not yet
	back    time.Time     // when the server was
	ahead   time.Duration // the database's clock, as the server had it then
	answer
	got   bool // the server had the head of the answer, which decides
	whole bool // and all of its body that it reads
	cut   bool // the server's stop ended it
}

// truth is what the request came to.
func (snd *sending) truth() trigger.Outcome {
	switch {
	case !snd.got:
		return trigger.Transient
	case snd.status >= 200 && snd.status <= 299:
		return trigger.Success
	case snd.status == http.StatusGone:
		return trigger.ReceiverGone
	case snd.directive == trigger.AbortMessage:
		return trigger.Permanent
	}
	return trigger.Transient
}

// wish says that the answer wants no more requests.
func (snd *sending) wish() bool {
	return snd.got && (snd.truth() == trigger.ReceiverGone || snd.directive == trigger.Disable)
}

// RoundTrip is the network of a server. Now and then the server is held up
// with a request in its hands, after it has judged its lease.
func (s *server) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	snd := s.begin(req)
	if !s.gate() || snd == nil {
		return nil, errOver
	}
	s.arrive(snd)
	connected(ctx, snd.err)
	dice := s.w.dice(snd.number, snd.nth, 77)
	wait := snd.after
	if wait < 0 {
		wait = 1000 * time.Hour
	} else if ctx.Err() != nil && !snd.endless && dice.IntN(2) == 0 {
		ctx = context.WithoutCancel(ctx) // it was held up, and the answer is quicker than its timer
	}
	answered := s.sleep(ctx, wait)
	if !answered || !snd.endless {
		s.done(snd)
	}
	if !s.gate() {
		return nil, errOver
	}
	s.over(snd)
	switch {
	case !answered, ctx.Err() != nil && dice.IntN(2) == 0:
		s.w.mu.Lock()
		snd.cut = errors.Is(ctx.Err(), context.Canceled)
		s.w.mu.Unlock()
		return nil, req.Context().Err()
	case snd.panics:
		panic("a bug in the transport")
	case snd.err != nil:
		return nil, snd.err
	}
	s.w.mu.Lock()
	snd.got = true
	if snd.url == snd.hook.URL && (snd.status == http.StatusTooManyRequests || snd.status == http.StatusServiceUnavailable) {
		snd.hook.asks = max(snd.hook.asks, snd.retryAfter)
	}
	s.w.mu.Unlock()
	resp := &http.Response{StatusCode: snd.status, Request: req, Header: http.Header{}}
	resp.Body = &body{Reader: strings.NewReader(strings.Repeat("x", snd.size)), ctx: ctx, sending: snd}
	if snd.header != "" {
		resp.Header.Set("Retry-After", snd.header)
	}
	if snd.directive != "" {
		resp.Header.Set("Webhook-Delivery", string(snd.directive))
	}
	return resp, nil
}

// connected tells the server that it has a connection, unless that is what
// failed.
func connected(ctx context.Context, err error) {
	dial, _ := errors.AsType[*net.OpError](err)
	dns, _ := errors.AsType[*net.DNSError](err)
	if trace := httptrace.ContextClientTrace(ctx); trace != nil && dial == nil && dns == nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
}

// body is the body of an answer.
type body struct {
	io.Reader
	ctx context.Context
	*sending
	read int
}

// Read reads the body up to where it breaks off.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	b.read += n
	if err == io.EOF && b.torn {
		err = io.ErrUnexpectedEOF
	}
	if err != nil && b.endless {
		b.server.sleep(b.ctx, 1000*time.Hour)
		b.server.done(b.sending)
		if err = b.ctx.Err(); !b.server.gate() {
			err = errOver
		}
	}
	if err == io.EOF || b.read >= 64<<10 {
		b.server.w.mu.Lock()
		b.whole = true
		b.server.w.mu.Unlock()
	}
	if err != nil || b.whole {
		b.server.over(b.sending)
	}
	return n, err
}

// Close does nothing.
func (b *body) Close() error { return nil }
