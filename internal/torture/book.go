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
	signups int      // of tenants, also of those that came to nothing
	lastDue time.Time
}

// counts are the answers to POSTs of events, and what else was done.
type counts struct {
	Posts, Batches, Accepted, Duplicates, Refused, Unknown int
	Arrivals, Answered                                     int // requests to webhooks, and those answered with a 2xx
	Scheduled, Deleted                                     int // events to be delivered later, and of these deleted before
	Claims, HandedOut, Acknowledged, Lost, Released        int // of inboxes: claims, and events of them
	Changes, Pauses, Resends, Notices                      int // of webhooks; and operational events
}

// tenant is an organization.
type tenant struct {
	n          int
	key        string
	size       int  // how many events it gets
	everything bool // the inbox is owed what webhooks get, too
	consumed   bool // the inbox has consumers
	doubtful   bool // a registration was never answered: it may have one more webhook
	hooks      []*hook
	events     []*event
}

// hook is a webhook of a tenant.
type hook struct {
	n        int   // of all hooks of the run
	id       int64 // as the server says
	tenant   *tenant
	filter   string
	verifier verifier
	poisoned mood     // how it answers poison; good if nothing is poison
	busy     bool     // somebody changes it
	headers  []change // what deliveries say, in the order of the changes
	pauses   []change // whether there are any
}

// event is one that clients post, some of them several times.
type event struct {
	n         int
	tenant    *tenant
	dedupID   string // "": none
	eventType string
	refused   bool // it is malformed: nobody may accept it
	poison    bool // its webhook refuses it whenever it comes
	deliverAt time.Time

	ids       []string // that answers have named, each once
	accepted  int      // answers that said so
	unknown   int      // POSTs without an answer
	leaving   bool     // it was to be deleted
	deletedAt time.Time
	came      map[int][]arrival
	resent    map[int][]resend
	handed    []*handed // out to consumers of the inbox
}

// arrival is one request to a webhook, for an event.
type arrival struct {
	at       time.Time
	id       string // of the event, as delivered
	header   string // that the webhook was told to say
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

// nextTenant numbers an organization that is about to sign up.
func (b *book) nextTenant() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.signups++
	return b.signups
}

// count counts something.
func (b *book) count(what func(*counts)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	what(&b.counts)
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
	e.n, e.came, e.resent = len(b.events), map[int][]arrival{}, map[int][]resend{}
	b.events = append(b.events, e)
	e.tenant.events = append(e.tenant.events, e)
}

// posted enters what was answered about an event.
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

// arrived enters a request to a webhook and returns its number among those for
// the same event.
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

// last is when the last of the events comes due that are delivered later.
func (b *book) last() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastDue
}

// acknowledged reports whether a client was told that the event is stored.
func (e *event) acknowledged() bool { return len(e.ids) > 0 }

// owedToInbox reports whether the inbox gets an event.
func (e *event) owedToInbox() bool { return e.tenant.everything || len(e.owedTo()) == 0 }

// owedTo lists the webhooks that an event matches.
func (e *event) owedTo() (hooks []*hook) {
	for _, h := range e.tenant.hooks {
		if matches(h.filter, e.eventType) {
			hooks = append(hooks, h)
		}
	}
	return hooks
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
