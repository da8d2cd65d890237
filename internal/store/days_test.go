package store_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// lockCounter runs each statement in a transaction, and counts the partitions
// that the statement has locked there. It does not see the statements of batches.
type lockCounter struct {
	t     *testing.T
	clock *storetest.Clock
	step  time.Duration // by which each statement moves the clock

	mu    sync.Mutex
	conns map[*pgx.Conn]*counted
	texts map[string]int // the most partitions of a statement
}

// counted is the statement of a connection.
type counted struct {
	text   string
	ours   bool // the transaction
	before int  // partitions that it had locked
}

const sqlLocked = `SELECT count(DISTINCT c.oid) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
	WHERE l.pid = pg_backend_pid() AND c.relname ~ '^(events|attempts)_[0-9]{8}$'`

func (c *lockCounter) exec(ctx context.Context, conn *pgx.Conn, text string) string {
	results, err := conn.PgConn().Exec(context.WithoutCancel(ctx), text).ReadAll()
	if err != nil {
		c.t.Errorf("%s: %v", text, err)
		return ""
	}
	if rows := results[len(results)-1].Rows; len(rows) > 0 {
		return string(rows[0][0])
	}
	return ""
}

func (c *lockCounter) locked(ctx context.Context, conn *pgx.Conn) int {
	n, err := strconv.Atoi(c.exec(ctx, conn, sqlLocked))
	if err != nil {
		c.t.Error(err)
	}
	return n
}

// outside are statements that cannot run in a transaction, or are one.
var outside = regexp.MustCompile(`(?i)^\s*(begin|commit|rollback|alter|show)`)

func (c *lockCounter) TraceQueryStart(ctx context.Context, conn *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if outside.MatchString(data.SQL) || conn.PgConn().TxStatus() == 'E' {
		return ctx
	}
	s := &counted{text: data.SQL, ours: conn.PgConn().TxStatus() == 'I'}
	if s.ours {
		c.exec(ctx, conn, "BEGIN")
	}
	s.before = c.locked(ctx, conn)
	c.mu.Lock()
	c.conns[conn] = s
	c.mu.Unlock()
	return ctx
}

func (c *lockCounter) TraceQueryEnd(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	c.mu.Lock()
	s := c.conns[conn]
	delete(c.conns, conn)
	c.mu.Unlock()
	if s == nil || conn.IsClosed() {
		return
	}
	if conn.PgConn().TxStatus() == 'T' {
		n := c.locked(ctx, conn) - s.before
		c.mu.Lock()
		c.texts[s.text] = max(c.texts[s.text], n)
		c.mu.Unlock()
	}
	if s.ours {
		c.exec(ctx, conn, "COMMIT")
	}
	c.clock.Advance(c.step)
}

// openCounted opens a store with a lockCounter, which is for PostgreSQL.
func openCounted(t *testing.T, db *storetest.DB) (*store.Store, *lockCounter) {
	c := &lockCounter{t: t, clock: db.Clock, conns: map[*pgx.Conn]*counted{}, texts: map[string]int{}}
	counted := *db
	counted.Options = db.Options.WithTracer(c)
	return counted.Open(t), c
}

// history is an organization with events on few of many days.
type history struct {
	org, hook int64
	ids       []trigger.ID // the oldest first
}

// maxPartitions is how many partitions a statement may lock.
const maxPartitions = 32

// keptDays is how many days of events there are in the tests.
const keptDays = 420

// sparseAges are the ages of the days of a history, from both sides of what
// one statement reads to the first day. They are more than maxPartitions.
func sparseAges() (ages []int) {
	ages = []int{keptDays, keptDays - 1, 400, 333, 332, 250, 249, 234, 233, 232, 50, 33, 32, 31, 18, 17, 16, 15, 14, 2, 1}
	for age := 60; age < 230; age += 8 {
		ages = append(ages, age)
	}
	return ages
}

// newHistory stores events, at the bounds of days, too. Each was owed to the
// inbox and to a webhook: the inbox has had those of each second day.
func newHistory(t *testing.T, s *store.Store) *history {
	t.Helper()
	h := &history{org: storetest.NewOrganization(t, s)}
	h.hook = newWebhook(t, s, h.org, "")
	today := s.Now().UTC().Truncate(24 * time.Hour)
	var list []*trigger.Event
	for i, age := range sparseAges() {
		d := today.Add(-time.Duration(age) * 24 * time.Hour)
		at := []time.Time{d, d.Add(7 * time.Hour), d.Add(24*time.Hour - time.Microsecond)}
		for _, at := range at[:1+i%3] {
			e := eventAt(at, h.org, "")
			if at.Equal(d) { // the first id of a partition, where a page may end
				e.ID = trigger.MinID(d)
			}
			if i%2 == 0 {
				e.Type = "even"
			}
			list = append(list, e)
		}
	}
	for batch := range slices.Chunk(list, 16) { // those of a server are of one moment
		add(t, s, batch, trigger.InboxID, h.hook)
	}
	for _, e := range list {
		h.ids = append(h.ids, e.ID)
	}
	slices.SortFunc(h.ids, func(a, b trigger.ID) int { return strings.Compare(a.String(), b.String()) })
	claim := s.NewClaim()
	var even []trigger.ID
	claimed, _, err := s.ClaimInbox(t.Context(), h.org, store.InboxPage{Limit: len(list), Bytes: 1 << 30}, claim, time.Minute)
	if err != nil || len(claimed) != len(list) {
		t.Fatalf("claimed %d of %d: %v", len(claimed), len(list), err)
	}
	for _, e := range claimed {
		if e.Type == "even" {
			even = append(even, e.ID)
		}
	}
	if done, err := s.AckInbox(t.Context(), h.org, claim, even); err != nil || len(done) != len(even) {
		t.Fatalf("acknowledged %d of %d: %v", len(done), len(even), err)
	}
	var results []store.Result
	for i, d := range claimAll(t, s, h.org, h.hook, time.Minute) {
		outcome := trigger.Success
		if i%3 == 0 {
			outcome = trigger.Permanent
		}
		results = append(results, result(s, d, outcome))
	}
	if err := s.Finish(t.Context(), results); err != nil || len(results) != len(list) {
		t.Fatalf("recorded %d of %d: %v", len(results), len(list), err)
	}
	return h
}

func evenTypes(t *testing.T) []trigger.Pattern {
	t.Helper()
	p, err := trigger.ParsePattern("even")
	if err != nil {
		t.Fatal(err)
	}
	return []trigger.Pattern{p}
}

// reads are the ways to read what spans days.
func (h *history) reads(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	even := evenTypes(t)
	for _, q := range []store.EventQuery{
		{},
		{Oldest: true},
		{Types: even},
		{OfWebhook: true, WebhookID: h.hook},
		{OfWebhook: true, WebhookID: h.hook, Oldest: true},
		{Status: trigger.Pending},
		{Status: trigger.Failed},
		{Status: trigger.Delivered},
		{Since: s.Now().Add(-3000 * time.Hour)},
	} {
		for _, limit := range []int{10, 1000} {
			q.Limit = limit
			_, _, err := s.FindEvents(ctx, h.org, q)
			check("find events", err)
		}
	}
	for _, status := range []trigger.Status{"", trigger.Pending, trigger.Failed, trigger.Delivered} {
		_, err := s.ListEvents(ctx, h.org, status, 1000)
		check("list events", err)
	}
	_, err := s.Events(ctx, h.org, h.ids)
	check("events", err)
	_, _, err = s.Event(ctx, h.org, h.ids[0])
	check("event", err)
	_, err = s.Why(ctx, h.org, h.ids[0])
	check("why", err)
	_, _, err = s.InboxVerdict(ctx, h.org, h.ids[0])
	check("inbox verdict", err)
	_, _, err = s.ListAttempts(ctx, h.org, store.AttemptFilter{}, trigger.ID{}, 1000)
	check("list attempts", err)
	_, err = s.ListDeliveries(ctx, h.org, store.DeliveryQuery{AnyState: true, Limit: 1000})
	check("list deliveries", err)
	_, _, err = s.ListInbox(ctx, h.org, trigger.ID{}, store.InboxPage{Limit: 1000, Bytes: 1 << 30})
	check("list the inbox", err)
	_, err = s.LookBack(ctx, h.org, store.Span{Until: s.Now(), Payloads: true, Limit: 1000}, func(*trigger.Event) {})
	check("look back", err)
	for _, status := range []trigger.Status{"", trigger.Failed, trigger.Delivered} {
		_, err = s.PreviewReplay(ctx, h.org, trigger.Replay{WebhookID: h.hook, Status: status, Since: h.ids[0].Time().Add(-time.Hour)}, 3)
		check("preview a replay", err)
	}
	_, err = s.Check(ctx, false)
	check("check", err)
}

// readClaimed reads the events as the engine does.
func (h *history) readClaimed(t *testing.T, s *store.Store) {
	t.Helper()
	var ds []trigger.Delivery
	for _, id := range h.ids {
		ds = append(ds, trigger.Delivery{DeliveryKey: trigger.DeliveryKey{OrganizationID: h.org, EventID: id}})
	}
	found, _, err := s.EventsOf(t.Context(), ds, 1<<30)
	if err != nil || len(found) != len(ds) {
		t.Errorf("read %d of %d claimed events: %v", len(found), len(ds), err)
	}
}

// No statement opens or locks the partitions of more days than it may, however
// many are kept: not as a list, nor by ids, nor in the background.
func TestFewPartitions(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		s, counter := openCounted(t, db)
		keepDays(t, db, s, keptDays)
		h := newHistory(t, s)
		h.reads(t, s)
		for range 7 { // after five executions PostgreSQL may change to a generic plan
			if _, _, err := s.FindEvents(t.Context(), h.org, store.EventQuery{Limit: 10}); err != nil {
				t.Fatal(err)
			}
			h.readClaimed(t, s)
			again := eventAt(s.Now(), h.org, "")
			add(t, s, []*trigger.Event{again}, trigger.InboxID)
			add(t, s, []*trigger.Event{again}, trigger.InboxID) // found
			if err := s.DeleteEvent(t.Context(), h.org, again.ID); err != nil {
				t.Fatal(err)
			}
		}
		for _, status := range []trigger.Status{"", trigger.Delivered} {
			job := h.replay(t, s, status)
			if r, err := s.Replay(t.Context(), h.org, job); err != nil || r.Queued == 0 {
				t.Errorf("the replay of %q has queued %d: %v", status, r.Queued, err)
			}
		}
		if _, err := s.Expire(t.Context(), s.Now()); err != nil {
			t.Error(err)
		}
		if err := s.DeleteOrganization(t.Context(), h.org); err != nil {
			t.Fatal(err)
		}
		settle(t, db, s)
		db.Clock.Advance(time.Minute)
		if err := s.Erase(t.Context()); err != nil {
			t.Error(err)
		}
		seen := 0
		for text, n := range counter.texts {
			if n > maxPartitions {
				t.Errorf("%d partitions are locked by %s", n, text)
			}
			if n > 1 {
				seen++
			}
		}
		if seen < 10 {
			t.Errorf("only %d statements read several partitions", seen)
		}
	})
}

// replay replays all of a history until all is queued, without a delivery.
func (h *history) replay(t *testing.T, s *store.Store, status trigger.Status) (job int64) {
	t.Helper()
	job, err := s.AddReplay(t.Context(), h.org, trigger.Replay{WebhookID: h.hook, Status: status, Since: h.ids[0].Time().Add(-time.Hour)}, store.Once{})
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		r, err := s.Replay(t.Context(), h.org, job)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.FeedReplay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		after, err := s.Replay(t.Context(), h.org, job)
		if err != nil {
			t.Fatal(err)
		}
		if after.Cursor.Time().Year() > 9999 {
			break
		}
	}
	return job
}

// Pages over days with few events have each of them once, in both orders: also
// pages that end in the middle of empty days, because their time is over.
func TestSparsePages(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s, counter := openCounted(t, db)
		keepDays(t, db, s, keptDays)
		h := newHistory(t, s)
		settle(t, db, s)
		for _, step := range []time.Duration{0, 400 * time.Millisecond} {
			counter.step = step
			empty := 0
			for _, limit := range []int{1, 3, 1000} {
				for _, oldest := range []bool{false, true} {
					for _, of := range []store.EventQuery{{}, {Types: evenTypes(t)}, {OfWebhook: true, WebhookID: h.hook}} {
						of.Limit, of.Oldest = limit, oldest
						empty += h.walk(t, s, of)
					}
				}
				h.walkAttempts(t, s, limit)
			}
			if late := step > 0 && db.IsPostgres(); late != (empty > 0) {
				t.Errorf("with %v for each statement %d pages were empty", step, empty)
			}
		}
		job := h.replay(t, s, "")
		if r, err := s.Replay(t.Context(), h.org, job); err != nil || r.Queued != len(h.ids) {
			t.Errorf("the replay has queued %d of %d: %v", r.Queued, len(h.ids), err)
		}
	})
}

// walk walks all pages of a query, and returns how many of them, but for the
// last, were empty.
func (h *history) walk(t *testing.T, s *store.Store, q store.EventQuery) (empty int) {
	t.Helper()
	events, err := s.Events(t.Context(), h.org, h.ids)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, id := range h.ids {
		if len(q.Types) == 0 || events[id].Type == "even" {
			want = append(want, id.String())
		}
	}
	if !q.Oldest {
		slices.Reverse(want)
	}
	for range 1000 {
		page, next, err := s.FindEvents(t.Context(), h.org, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page {
			got = append(got, e.ID.String())
		}
		if next.IsZero() {
			break
		}
		if len(page) == 0 {
			empty++
		}
		q.After = next
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("%+v (-want +got):\n%s", q, diff)
	}
	return empty
}

func (h *history) walkAttempts(t *testing.T, s *store.Store, limit int) {
	t.Helper()
	var got, want []string
	for _, id := range slices.Backward(h.ids) {
		list, err := s.Attempts(t.Context(), h.org, id)
		if err != nil {
			t.Fatal(err)
		}
		for range list {
			want = append(want, id.String())
		}
	}
	var before trigger.ID
	for range 1000 {
		page, next, err := s.ListAttempts(t.Context(), h.org, store.AttemptFilter{}, before, limit)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page {
			got = append(got, a.EventID.String())
		}
		if before = next; next.IsZero() {
			break
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("attempts, %d (-want +got):\n%s", limit, diff)
	}
}

// Groups keep all there is, and have few days each.
func TestGroupsOfDays(t *testing.T) {
	t.Parallel()
	begin := time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC)
	var ids []trigger.ID
	var results []store.Result
	for i := range 100 {
		id := trigger.NewID(begin.Add(time.Duration(i*i%101)*24*time.Hour), uint16(i), uint64(i))
		ids = append(ids, id)
		results = append(results, store.Result{Attempt: trigger.Attempt{DeliveryKey: trigger.DeliveryKey{EventID: id}}})
	}
	days := func(ids []trigger.ID) int {
		set := map[string]bool{}
		for _, id := range ids {
			set[id.Time().Format(time.DateOnly)] = true
		}
		return len(set)
	}
	seen := map[trigger.ID]int{}
	for _, group := range store.GroupByDays(ids) {
		if n := days(group); n == 0 || n > store.DaysPerStatement {
			t.Errorf("a group has %d days", n)
		}
		for _, id := range group {
			seen[id]++
		}
	}
	var order []trigger.ID
	for _, group := range store.ResultsByDays(results) {
		var of []trigger.ID
		for _, r := range group {
			of = append(of, r.Attempt.EventID)
		}
		if n := days(of); n == 0 || n > store.DaysPerStatement {
			t.Errorf("a group of results has %d days", n)
		}
		order = append(order, of...)
	}
	if len(seen) != len(ids) || !slices.Equal(order, ids) {
		t.Errorf("%d of %d ids are in groups; results in their order: %v", len(seen), len(ids), slices.Equal(order, ids))
	}
}
