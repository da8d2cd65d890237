package torture

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"
)

// book records each event: the answers to clients and the requests to the
// receiver. It also writes them to a ledger on disk, so that a broken run can
// be read line by line.
type book struct {
	seed uint64
	now  func() time.Time

	mu      sync.Mutex
	ledger  *bufio.Writer
	tenants []*tenant
	events  []*event         // by number
	hooks   map[string]*hook // by the path of the URL
	counts  counts
	strays  []string // requests that belong to no event
	signups int      // of tenants, including failed ones
	lastDue time.Time
}

// counts counts the answers to POSTs of events, and other actions.
type counts struct {
	Posts, Batches, Accepted, Duplicates, Refused, Unknown int
	Arrivals, Answered                                     int // requests to webhooks, and those with a 2xx answer
	Scheduled, Deleted                                     int // scheduled events, and the deleted ones among them
	Claims, HandedOut, Acknowledged, Lost, Released        int // of inboxes: claims, and events of them
	Changes, Pauses, Resends, Notices                      int // of webhooks; and operational events
}

// tenant is an organization.
type tenant struct {
	n          int
	key        string
	size       int  // how many events it gets
	everything bool // the inbox also gets the events of webhooks
	consumed   bool // the inbox has consumers
	doubtful   bool // a registration had no answer: it may have one more webhook
	hooks      []*hook
	events     []*event
}

// hook is a webhook of a tenant.
type hook struct {
	n        int   // number among all hooks of the run
	id       int64 // from the server
	tenant   *tenant
	filter   string
	verifier verifier
	poisoned mood     // its answers to poison; good if it has no poison
	busy     bool     // a change of it is under way
	headers  []change // header values, in the order of the changes
	pauses   []change // whether it was paused, likewise
}

// event is an event that clients post, sometimes repeatedly.
type event struct {
	n         int
	tenant    *tenant
	dedupID   string // may be empty
	eventType string
	refused   bool // it is malformed and must not be accepted
	poison    bool // its webhook always refuses it
	deliverAt time.Time

	ids       []string // from answers, each once
	accepted  int      // number of answers with "accepted"
	unknown   int      // POSTs without an answer
	leaving   bool     // its deletion was requested
	deletedAt time.Time
	came      map[int][]arrival
	resent    map[int][]resend
	handed    []*handed // to consumers of the inbox
}

// arrival is one request to a webhook for an event.
type arrival struct {
	at       time.Time
	id       string // of the event, as delivered
	header   string // value of the webhook's own header
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

// write adds a line to the ledger. The caller must hold mu.
func (b *book) write(e entry) {
	e.At = b.now()
	line, _ := json.Marshal(e) // cannot fail for these
	_, _ = b.ledger.Write(append(line, '\n'))
}

// note adds a line with a note.
func (b *book) note(what, note string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.write(entry{What: what, Note: note})
	_ = b.ledger.Flush() // because the next step may fail
}

// nextTenant returns the number of a new organization.
func (b *book) nextTenant() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signups++
	return b.signups
}

// count updates the counts under the lock.
func (b *book) count(what func(*counts)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	what(&b.counts)
}

// addTenant records an organization with its webhooks.
func (b *book) addTenant(t *tenant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tenants = append(b.tenants, t)
}

// addHook records a webhook before it is registered, because its first event
// may come before the answer to the registration.
func (b *book) addHook(path string, h *hook) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.n = len(b.hooks) + 1
	b.hooks[path] = h
}

// setSecret completes a registered webhook.
func (b *book) setSecret(h *hook, v verifier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	h.verifier = v
	h.tenant.hooks = append(h.tenant.hooks, h)
}

// hook returns a webhook; its verifier is nil until it is registered.
func (b *book) hook(path string) (*hook, verifier) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h := b.hooks[path]; h != nil {
		return h, h.verifier
	}
	return nil, nil
}

// addEvent records a new event and sets its number.
func (b *book) addEvent(e *event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.n, e.came, e.resent = len(b.events), map[int][]arrival{}, map[int][]resend{}
	b.events = append(b.events, e)
	e.tenant.events = append(e.tenant.events, e)
}

// posted records the answer to a POST of an event.
func (b *book) posted(e *event, a answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
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
	if !e.deliverAt.IsZero() && a.status == "accepted" {
		b.counts.Scheduled++
	}
	if e.deliverAt.After(b.lastDue) {
		b.lastDue = e.deliverAt
	}
	b.write(entry{What: a.kind.String() + " " + a.status, N: e.n, EventID: a.eventID, Note: a.note})
}

// arrived records a request to a webhook and returns its number among the
// requests for the same event.
func (b *book) arrived(h *hook, n int, id, header string) (number int, known bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Arrivals++
	if n < 0 || n >= len(b.events) {
		return 0, false
	}
	e := b.events[n]
	e.came[h.n] = append(e.came[h.n], arrival{at: b.now(), id: id, header: header})
	b.write(entry{What: "arrived", N: n, Hook: h.n, EventID: id})
	return len(e.came[h.n]) - 1, true
}

// answered records that an arrival was answered with a 2xx.
func (b *book) answered(h *hook, n, number int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counts.Answered++
	b.events[n].came[h.n][number].answered = true
	b.write(entry{What: "answered", N: n, Hook: h.n})
}

// stray records a request that belongs to no event.
func (b *book) stray(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.strays = append(b.strays, what)
	b.write(entry{What: "stray", Note: what})
}

// last returns when the last scheduled event is due.
func (b *book) last() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastDue
}

// acknowledged reports whether a client was told that the event is stored.
func (e *event) acknowledged() bool { return len(e.ids) > 0 }

// owedToInbox reports whether the inbox must get an event.
func (e *event) owedToInbox() bool { return e.tenant.everything || len(e.owedTo()) == 0 }

// owedTo returns the webhooks whose filters match an event.
func (e *event) owedTo() (hooks []*hook) {
	for _, h := range e.tenant.hooks {
		if matches(h.filter, e.eventType) {
			hooks = append(hooks, h)
		}
	}
	return hooks
}

// String describes an event for people.
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
