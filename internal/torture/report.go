package torture

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"
)

// The promises, each with its count of breaches in every report.
const (
	lostEvents     = "acknowledged events that are not there"
	lostDeliveries = "deliveries of them that never came"
	twoEvents      = "dedup ids with two events"
	foreign        = "events of another organization seen"
	changed        = "payloads changed"
	badSignature   = "bad signatures"
	neverSent      = "events that were never sent"
	stillPending   = "events still pending, or in a wrong state"
	failedEvents   = "events failed, though their receiver came back"
	withoutFault   = "failed without a fault"
	wrongAnswer    = "answered wrongly"
	tooOften       = "deliveries twice, without a reason"
	endedItself    = "ended by itself"
	panics         = "panics"
	leaks          = "resources not given back"
	stoppedBadly   = "stopped badly"
	notHealed      = "not healed"
	inconsistent   = "inconsistent in the database"
	redirects      = "redirects followed"
	misPaged       = "skipped, repeated or disordered by pages"
	neverAcked     = "left in an inbox, because no consumer could acknowledge them"
	handedAgain    = "handed out after they were acknowledged"
	twoClaims      = "handed out to two at a time"
	ackedUnheld    = "acknowledged by a claim that had lost them"
	wrongInbox     = "in an inbox that they do not belong to"
	tooEarly       = "delivered or handed out before their time"
	cameDeleted    = "there, or delivered, after they were deleted"
	notFollowed    = "sent otherwise than the webhook was told"
	badReplay      = "sent again too little, or too much"
	outlived       = "attempts that outlived their deadline, or were not recorded"
	poisoned       = "good events delayed by ones that their receiver refuses"
	ackedAway      = "acknowledged, or ready, without the database's files"
	stoppedHook    = "webhooks gone or paused without a request"
)

// Promises returns all promises, in the order of the report.
func Promises() []string {
	return []string{
		lostEvents, lostDeliveries, twoEvents, foreign, changed, badSignature, neverSent, stillPending, failedEvents,
		withoutFault, wrongAnswer, tooOften, endedItself, panics, leaks, stoppedBadly, notHealed, inconsistent, redirects,
		misPaged, neverAcked, handedAgain, twoClaims, ackedUnheld, wrongInbox, tooEarly, cameDeleted, notFollowed, badReplay,
		stoppedHook, outlived, poisoned, ackedAway,
	}
}

// Report is the result of a run.
type Report struct {
	Seed     uint64         `json:"seed"`
	Database string         `json:"database"`
	Nodes    int            `json:"nodes"`
	Faults   map[string]int `json:"faults"`  // how often each was made
	Lacking  []string       `json:"lacking"` // faults that this machine does not allow, and why
	Took     time.Duration  `json:"took"`

	Tenants    int           `json:"tenants"`
	Webhooks   int           `json:"webhooks"`
	Events     int           `json:"events"`
	Counts     counts        `json:"counts"`
	Again      int           `json:"again"`       // deliveries answered with a 2xx more than once
	Unreasoned int           `json:"unreasoned"`  // of these, without a fault that explains it
	Restart    time.Duration `json:"restart"`     // the longest time from a start after SIGKILL to ready
	Stop       time.Duration `json:"stop"`        // the longest time from SIGTERM to the end
	Settled    time.Duration `json:"settled"`     // from the last fault until everything was delivered
	P50        time.Duration `json:"p50"`         // of acknowledged POSTs, including those during faults
	P99        time.Duration `json:"p99"`         // likewise
	Health     time.Duration `json:"health_p99"`  // of GET /livez while the nodes were up
	Sampled    int           `json:"asked_again"` // dedup ids posted once more at the end
	ReadBack   int           `json:"read_back"`   // events in the pages, newest first
	Pages      int           `json:"pages"`
	Replayed   int           `json:"replayed"`  // deliveries of the replay at the end
	ReadsCut   int           `json:"reads_cut"` // connections cut while PostgreSQL answered a read
	HeldUp     int           `json:"held_up"`   // connections held by endpoints

	mu       sync.Mutex
	Breaches map[string]*Breach `json:"breaches"` // by promise
}

// Breach is a broken promise.
type Breach struct {
	Count    int      `json:"count"`
	Examples []string `json:"examples"` // the first ones
}

// shown is how many examples of a breach are kept.
const shown = 5

func (r *Report) breach(promise, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Breaches == nil {
		r.Breaches = map[string]*Breach{}
	}
	b := r.Breaches[promise]
	if b == nil {
		b = &Breach{}
		r.Breaches[promise] = b
	}
	if b.Count++; len(b.Examples) < shown {
		b.Examples = append(b.Examples, fmt.Sprintf(format, args...))
	}
}

// made counts a fault.
func (r *Report) made(fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Faults[fault]++
}

// longest sets of to the longer of two times.
func (r *Report) longest(of *time.Duration, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*of = max(*of, took)
}

// Broken reports whether any promise was broken.
func (r *Report) Broken() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.Breaches) > 0
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(out io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Write writes the report for people.
func (r *Report) Write(out io.Writer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := 0
	for _, n := range r.Faults {
		total += n
	}
	fmt.Fprintf(out, "\nseed %d, %s, %d node(s), %.0f s, %d faults\n", r.Seed, r.Database, r.Nodes, r.Took.Seconds(), total)
	for _, name := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(out, "  %-12s %d\n", name, r.Faults[name])
	}
	for _, lack := range r.Lacking {
		fmt.Fprintf(out, "  NOT MADE: %s\n", lack)
	}
	fmt.Fprintf(out, "%d events of %d organizations with %d webhooks, %d POSTs: %d accepted, %d duplicates, %d refused, %d without an answer\n",
		r.Events, r.Tenants, r.Webhooks, r.Counts.Posts, r.Counts.Accepted, r.Counts.Duplicates, r.Counts.Refused, r.Counts.Unknown)
	fmt.Fprintf(out, "%d requests to webhooks, %d answered with a 2xx, %d of them once more than needed (%d without a fault at that time); %d dedup ids asked again\n",
		r.Counts.Arrivals, r.Counts.Answered, r.Again, r.Unreasoned, r.Sampled)
	n := &r.Counts
	fmt.Fprintf(out, "%d of the POSTs were batches; %d events for later, %d of them deleted before; %d events read back in %d pages, oldest first too\n",
		n.Batches, n.Scheduled, n.Deleted, r.ReadBack, r.Pages)
	fmt.Fprintf(out, "%d claims of inboxes were handed out %d events: %d acknowledged, %d given back, %d lost\n",
		n.Claims, n.HandedOut, n.Acknowledged, n.Released, n.Lost)
	fmt.Fprintf(out, "%d changes and %d pauses of webhooks; %d deliveries sent again one by one, %d by a replay; %d operational events\n",
		n.Changes, n.Pauses, n.Resends, r.Replayed, n.Notices)
	fmt.Fprintf(out, "%d reads were cut; %d connections were kept by endpoints\n", r.ReadsCut, r.HeldUp)
	fmt.Fprintf(out, "POST p50 %v, p99 %v; livez p99 %v; ready after SIGKILL within %v; ended after SIGTERM within %v; settled in %v\n\n",
		round(r.P50), round(r.P99), round(r.Health), round(r.Restart), round(r.Stop), round(r.Settled))
	for _, promise := range Promises() {
		count := 0
		if b := r.Breaches[promise]; b != nil {
			count = b.Count
		}
		fmt.Fprintf(out, "%6d  %s\n", count, promise)
		if count > 0 {
			for _, example := range r.Breaches[promise].Examples {
				fmt.Fprintf(out, "        BROKEN: %s\n", example)
			}
		}
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
