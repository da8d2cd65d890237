package torture

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"
)

// book is what is known of each event: what the clients were answered, and
// what the receiver got. The answers are written to a ledger on disk, too, so
// that a broken run can be read line by line.
type book struct {
	seed uint64
	now  func() time.Time

	mu      sync.Mutex
	ledger  *bufio.Writer
	tenants []*tenant
	events  []*event         // by their number
	hooks   map[string]*hook // by the path of their URL
	counts  counts
	strays  []string // what came and cannot be laid to any event
}

// counts are the answers to POSTs of events.
type counts struct {
	Posts, Accepted, Duplicates, Refused, Unknown int
	Arrivals, Answered                            int // requests to webhooks, and those answered with a 2xx
}

// tenant is an organization. It has so few events that one page of its inbox
// shows them all.
type tenant struct {
	n        int
	key      string
	doubtful bool // a registration was never answered: it may have one more webhook
	hooks    []*hook
	events   []*event
}

// perTenant is how many events a tenant gets; an inbox shows 100 at most.
const perTenant = 85

// hook is a webhook of a tenant.
type hook struct {
	n        int // of all hooks of the run
	tenant   *tenant
	filter   string
	verifier verifier
}

// event is one that clients post, some of them several times.
type event struct {
	n         int
	tenant    *tenant
	dedupID   string // "": none
	eventType string
	refused   bool // it is malformed: nobody may accept it

	ids      []string // that answers have named, each once
	accepted int      // answers that said so
	unknown  int      // POSTs without an answer
	came     map[int][]arrival
}

// arrival is one request to a webhook, for an event.
type arrival struct {
	at       time.Time
	id       string // of the event, as delivered
	answered bool   // with a 2xx
}

func newBook(seed uint64, ledger io.Writer, now func() time.Time) *book {
	return &book{seed: seed, now: now, ledger: bufio.NewWriter(ledger), hooks: map[string]*hook{}}
}

// entry is a line of the ledger.
type entry struct {
	At      time.Time `json:"at"`
	What    string    `json:"what"`
	N       int       `json:"n"`
	Hook    int       `json:"hook,omitempty"`
	EventID string    `json:"event_id,omitempty"`
	Note    string    `json:"note,omitempty"`
}

// write adds a line to the ledger. The caller holds mu.
func (b *book) write(e entry) {
	e.At = b.now()
	line, _ := json.Marshal(e) // cannot fail for these
	_, _ = b.ledger.Write(append(line, '\n'))
}

// note adds a line about anything.
func (b *book) note(what, note string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(entry{What: what, Note: note})
	_ = b.ledger.Flush() // what is about to happen may end badly
}

// addTenant enters an organization with its webhooks.
func (b *book) addTenant(t *tenant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tenants = append(b.tenants, t)
}

// addHook enters a webhook before it is registered, since its first event may
// come before the answer to that.
func (b *book) addHook(path string, h *hook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.n = len(b.hooks) + 1
	b.hooks[path] = h
}

// setSecret completes a webhook that is registered.
func (b *book) setSecret(h *hook, v verifier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.verifier = v
	h.tenant.hooks = append(h.tenant.hooks, h)
}

// hook finds a webhook; its verifier is nil while it is not registered.
func (b *book) hook(path string) (*hook, verifier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.hooks[path]; h != nil {
		return h, h.verifier
	}
	return nil, nil
}

// addEvent numbers a new event.
func (b *book) addEvent(e *event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.n, e.came = len(b.events), map[int][]arrival{}
	b.events = append(b.events, e)
	e.tenant.events = append(e.tenant.events, e)
}

// posted enters the answer to a POST.
func (b *book) posted(e *event, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Posts++
	switch {
	case a.kind == unanswered:
		b.counts.Unknown++
		e.unknown++
	case a.kind == refusal:
		b.counts.Refused++
	case a.status == "accepted":
		b.counts.Accepted++
		e.accepted++
	default:
		b.counts.Duplicates++
	}
	if a.eventID != "" && !slices.Contains(e.ids, a.eventID) {
		e.ids = append(e.ids, a.eventID)
	}
	b.write(entry{What: a.kind.String() + " " + a.status, N: e.n, EventID: a.eventID, Note: a.note})
}

// arrived enters a request to a webhook and returns its number among those for
// the same event.
func (b *book) arrived(h *hook, n int, id string) (number int, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Arrivals++
	if n < 0 || n >= len(b.events) {
		return 0, false
	}
	e := b.events[n]
	e.came[h.n] = append(e.came[h.n], arrival{at: b.now(), id: id})
	b.write(entry{What: "arrived", N: n, Hook: h.n, EventID: id})
	return len(e.came[h.n]) - 1, true
}

// answered enters that an arrival was answered with a 2xx.
func (b *book) answered(h *hook, n, number int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Answered++
	b.events[n].came[h.n][number].answered = true
	b.write(entry{What: "answered", N: n, Hook: h.n})
}

// stray enters what can be laid to no event.
func (b *book) stray(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.strays = append(b.strays, what)
	b.write(entry{What: "stray", Note: what})
}

// acknowledged reports whether a client was told that the event is stored.
func (e *event) acknowledged() bool { return len(e.ids) > 0 }

// owedTo lists the webhooks that an event matches.
func (e *event) owedTo() (hooks []*hook) {
	for _, h := range e.tenant.hooks {
		if matches(h.filter, e.eventType) {
			hooks = append(hooks, h)
		}
	}
	return hooks
}

// missing counts the deliveries of acknowledged events that no receiver has
// answered with a 2xx.
func (b *book) missing() (n int, one string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.events {
		if !e.acknowledged() {
			continue
		}
		for _, h := range e.owedTo() {
			if !slices.ContainsFunc(e.came[h.n], func(a arrival) bool { return a.answered }) {
				n++
				one = e.String() + " to " + h.filter
			}
		}
	}
	return n, one
}

// String names an event for people.
func (e *event) String() string {
	line, _ := json.Marshal(struct {
		N       int
		Tenant  int
		DedupID string
		Type    string
		IDs     []string
	}{e.n, e.tenant.n, e.dedupID, e.eventType, e.ids})
	return string(line)
}
