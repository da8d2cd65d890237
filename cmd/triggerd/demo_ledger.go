package main

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"
)

// posting is one POST of an event, with its answer.
type posting struct {
	dedupID string
	example example
	sent    time.Time // just before the request was sent
	status  string    // accepted or duplicate
	eventID string
}

// arrival is one request to the webhook.
type arrival struct {
	eventID   string
	eventType string
	data      []byte    // as in the body
	size      int       // of the whole body, in bytes
	at        time.Time // when the whole body was received
	trouble   string    // error that is visible without the posting
}

// The possible errors of an event or an answer.
const (
	missing         = "missing"          // accepted, but never arrived
	changed         = "changed"          // differs from the posted event
	badlySigned     = "badly signed"     // or at the wrong time
	unknown         = "unknown"          // arrived, but was never accepted
	wronglyAnswered = "wrongly answered" // neither the accepted one of its dedup id nor a duplicate of it
)

// ledger compares arrivals with accepted events. Both are recorded in any
// order.
type ledger struct {
	show     func(p posting, a arrival, trouble string) // called one at a time
	complete chan struct{}                              // closed when everything has arrived

	mu       sync.Mutex
	postings []posting
	fates    map[string]*fate // by event id
	open     int              // accepted events that have not arrived
	posted   bool
}

// fate is the result of one event id.
type fate struct {
	post    *posting  // the accepted one; nil: not known yet
	early   []arrival // arrived before post was known
	arrived int
	took    time.Duration // from the POST to the first arrival
	trouble string
}

func newLedger(show func(posting, arrival, string)) *ledger {
	return &ledger{show: show, complete: make(chan struct{}), fates: map[string]*fate{}}
}

// answered records a POST and its answer.
func (l *ledger) answered(p posting) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fate(p.eventID)
	if p.status == "accepted" && f.post == nil {
		f.post = &p
		l.open++
		for _, a := range f.early {
			l.judge(f, a)
		}
		f.early = nil
	}
	l.postings = append(l.postings, p)
}

// arrived records a delivery.
func (l *ledger) arrived(a arrival) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fate(a.eventID)
	if f.post == nil {
		f.early = append(f.early, a)
		return
	}
	l.judge(f, a)
}

// allPosted records that all POSTs are answered.
func (l *ledger) allPosted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posted = true
	l.signal()
}

func (l *ledger) signal() {
	if l.posted && l.open == 0 {
		l.posted = false // so that a later arrival does not close it again
		close(l.complete)
	}
}

func (l *ledger) fate(eventID string) *fate {
	f := l.fates[eventID]
	if f == nil {
		f = &fate{}
		l.fates[eventID] = f
	}
	return f
}

// judge compares an arrival with its posting.
func (l *ledger) judge(f *fate, a arrival) {
	trouble := a.trouble
	if trouble == "" && (a.eventType != f.post.example.Type || !bytes.Equal(a.data, f.post.example.Payload)) {
		trouble = changed
	}
	f.trouble = cmp.Or(f.trouble, trouble)
	if f.arrived++; f.arrived == 1 {
		f.took = a.at.Sub(f.post.sent)
		l.open--
		l.signal()
	}
	l.show(*f.post, a, trouble)
}

// tally is the summary of a ledger.
type tally struct {
	Accepted   int
	Duplicates int
	Delivered  int // events that arrived unchanged
	Again      int // repeated arrivals of them, which at-least-once allows
	Findings   []finding
	P50, P99   time.Duration // from the POST to the first arrival
}

// finding is one error.
type finding struct{ What, Type, EventID string }

// tally returns the current summary.
func (l *ledger) tally() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	var t tally
	var took []time.Duration
	for id, f := range l.fates {
		switch {
		case f.post == nil:
			for _, a := range f.early {
				t.Findings = append(t.Findings, finding{cmp.Or(a.trouble, unknown), a.eventType, id})
			}
		case f.arrived == 0:
			t.Findings = append(t.Findings, finding{missing, f.post.example.Type, id})
		case f.trouble != "":
			t.Findings = append(t.Findings, finding{f.trouble, f.post.example.Type, id})
		default:
			t.Delivered++
			t.Again += f.arrived - 1
			took = append(took, f.took)
		}
	}
	l.tallyAnswers(&t)
	slices.SortFunc(t.Findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.EventID, b.EventID), cmp.Compare(a.Type, b.Type))
	})
	slices.Sort(took)
	t.P50, t.P99 = percentile(took, 50), percentile(took, 99)
	return t
}

// tallyAnswers checks the answers: of the POSTs of one dedup id one is
// accepted, as an event of its own, and the others are duplicates of it.
func (l *ledger) tallyAnswers(t *tally) {
	accepted := make(map[string]string) // event id by dedup id
	for _, p := range l.postings {
		if p.status != "accepted" {
			continue
		}
		t.Accepted++
		if accepted[p.dedupID] != "" || l.fates[p.eventID].post.dedupID != p.dedupID {
			t.Findings = append(t.Findings, finding{wronglyAnswered, p.example.Type, p.eventID})
			continue
		}
		accepted[p.dedupID] = p.eventID
	}
	for _, p := range l.postings {
		switch {
		case p.status == "accepted":
		case p.status != "duplicate" || p.eventID != accepted[p.dedupID]:
			t.Findings = append(t.Findings, finding{wronglyAnswered, p.example.Type, p.eventID})
		default:
			t.Duplicates++
		}
	}
}

// percentile returns a percentile of sorted times by the nearest rank.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*percent+99)/100-1]
}
