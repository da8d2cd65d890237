package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"triggerd/internal/ingest"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// register is what is known of one dedup id: the id of the first event that
// has it. An event whose request had no answer may have set it to an id that
// nobody was told.
type register struct {
	set, told bool
	id        trigger.ID
}

// posted is the answer to a request; without one the event may be stored or
// not.
type posted struct {
	answered bool
	ingest.Result
}

// oneRegisterEach is the promise about dedup ids: each is a register that is
// set once, by the request that is told that its event is accepted.
func oneRegisterEach() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byID := map[any][]porcupine.Operation{}
			for _, op := range history {
				byID[op.Input] = append(byID[op.Input], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range byID {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() []any { return []any{register{}} },
		Step: func(state, _, output any) []any {
			r, p := state.(register), output.(posted)
			switch {
			case !p.answered && !r.set:
				return []any{r, register{set: true}}
			case !p.answered:
				return []any{r}
			case !p.Duplicate && !r.set, p.Duplicate && r.set && (!r.told || r.id == p.EventID):
				return []any{register{set: true, told: true, id: p.EventID}}
			}
			return nil
		},
	}
	return model.ToModel()
}

// breaker is a proxy before PostgreSQL that cuts a connection before a
// statement with a marker arrives. The [cutter], behind it, does so after the
// commit.
type breaker struct {
	*cutter
	breaks atomic.Int64 // how many more to make
}

func newBreaker(t *testing.T, db *storetest.DB, marker string) *breaker {
	t.Helper()
	behind := newCutter(t, db, marker, 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	db.Options.PostgresURL = strings.Replace(db.Options.PostgresURL, behind.Addr().String(), l.Addr().String(), 1)
	b := &breaker{cutter: behind}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", behind.Addr().String())
			if err != nil {
				client.Close()
				continue
			}
			go copyUntil(server, client, func(sent []byte) bool { return bytes.Contains(sent, []byte(marker)) && b.breaks.Add(-1) >= 0 })
			go copyUntil(client, server, func([]byte) bool { return false })
		}
	}()
	return b
}

// history notes operations as they begin and end.
type history struct {
	clock atomic.Int64
	mu    sync.Mutex
	ops   []porcupine.Operation
}

// post posts an event with a dedup id. Without an answer the operation never
// ends.
func (h *history) post(ctx context.Context, client int, f *fixture, dedupID, payload string) {
	e := f.event("user.created", dedupID)
	e.Payload = []byte(payload)
	op := porcupine.Operation{ClientId: client, Input: dedupID, Call: h.clock.Add(1)}
	result, err := f.Add(ctx, e)
	op.Output = posted{answered: err == nil, Result: result}
	op.Return = h.clock.Add(1)
	if err != nil {
		op.Return = 1 << 60
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// Whatever happens between a request and its answer, cut connections, a
// database that is away, clients that give up, two nodes: the answers about
// each dedup id are those of one register, at some moment between request and
// answer each.
func TestDedupIsLinearizable(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		const marker = "cut-here"
		cut, lose := func(int64) {}, func(int64) {} // some connections: before a commit, and between it and its answer
		if db.IsPostgres() {
			b := newBreaker(t, db, marker)
			cut, lose = b.breaks.Store, b.cuts.Store
		}
		nodes := []*fixture{start(t, db, db.Open(t), 1000)}
		if db.IsPostgres() {
			nodes = append(nodes, start(t, db, db.Open(t), 1000))
			nodes[1].org = nodes[0].org
		}
		const clients, rounds, each, ids = 8, 12, 15, 6
		const away = rounds / 2 // the round in which the database is away for so long that requests get 503
		var h history
		for round := range rounds {
			var wg sync.WaitGroup
			if round == away && db.IsPostgres() {
				cut(1 << 40)
				wg.Go(func() {
					e := nodes[0].event("user.created", "")
					e.Payload = []byte(`"` + marker + `"`)
					if _, err := nodes[0].Add(t.Context(), e); trigger.KindOf(err) != trigger.Unavailable {
						t.Errorf("%v, want Unavailable", err)
					}
					cut(0)
				})
			}
			for client := range clients {
				wg.Go(func() {
					for range each {
						dice := rand.IntN(100)
						ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
						if dice < 10 { // its client gives up
							cancel()
							ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.IntN(4000))*time.Microsecond)
						}
						if dice%10 == 5 && round != away {
							[]func(int64){cut, lose}[rand.IntN(2)](rand.Int64N(4))
						}
						h.post(ctx, client, nodes[rand.IntN(len(nodes))], fmt.Sprint(round, "-", rand.IntN(ids)), `"`+marker+`"`)
						cancel()
					}
				})
			}
			wg.Wait()
		}
		cut(0)
		lose(0)
		for _, node := range nodes { // what the database has, past all caches
			node.stop()
		}
		fresh := start(t, db, nodes[0].store, 1000)
		fresh.org = nodes[0].org
		for round := range rounds {
			for id := range ids {
				h.post(t.Context(), clients, fresh, fmt.Sprint(round, "-", id), "1")
			}
		}
		h.judge(t)
		if db.IsPostgres() && !slices.ContainsFunc(h.ops, func(op porcupine.Operation) bool { return !op.Output.(posted).answered }) {
			t.Error("no request was left without an answer")
		}
	})
}

// judge looks for moments at which each register could have answered so.
func (h *history) judge(t *testing.T) {
	t.Helper()
	accepted, duplicates, open := 0, 0, 0
	for _, op := range h.ops {
		switch p := op.Output.(posted); {
		case !p.answered:
			open++
		case p.Duplicate:
			duplicates++
		default:
			accepted++
		}
	}
	t.Logf("%d accepted, %d duplicates, %d without an answer", accepted, duplicates, open)
	if got := porcupine.CheckOperationsTimeout(oneRegisterEach(), h.ops, time.Minute); got != porcupine.Ok {
		t.Errorf("the answers are not those of one register for each dedup id: %s", got)
	}
}

// The judge of the test above finds what it is for.
func TestRegisterJudge(t *testing.T) {
	t.Parallel()
	one, two := trigger.ID{1}, trigger.ID{2}
	accepted := func(id trigger.ID) posted { return posted{true, ingest.Result{EventID: id}} }
	duplicate := func(id trigger.ID) posted { return posted{true, ingest.Result{EventID: id, Duplicate: true}} }
	var none posted
	type op struct {
		call, end int64
		posted
	}
	tests := []struct {
		name string
		ok   bool
		ops  []op
	}{
		{"one after the other", true, []op{{1, 2, accepted(one)}, {3, 4, duplicate(one)}}},
		{"told before the first has its answer", true, []op{{1, 4, accepted(one)}, {2, 3, duplicate(one)}}},
		{"told before the first was asked", false, []op{{1, 2, duplicate(one)}, {3, 4, accepted(one)}}},
		{"accepted twice", false, []op{{1, 2, accepted(one)}, {1, 2, accepted(two)}}},
		{"another event's id", false, []op{{1, 2, accepted(one)}, {3, 4, duplicate(two)}}},
		{"two ids", false, []op{{1, 9, none}, {2, 3, duplicate(one)}, {4, 5, duplicate(two)}}},
		{"stored without an answer", true, []op{{1, 99, none}, {2, 3, duplicate(one)}, {4, 5, duplicate(one)}}},
		{"not stored", true, []op{{1, 99, none}, {2, 3, accepted(one)}}},
		{"stored long after", true, []op{{1, 99, none}, {4, 5, duplicate(one)}}},
		{"stored by nobody", false, []op{{1, 2, duplicate(one)}}},
		{"lost after an answer", false, []op{{1, 2, accepted(one)}, {3, 99, none}, {4, 5, accepted(two)}}},
	}
	for _, test := range tests {
		var ops []porcupine.Operation
		for i, o := range test.ops {
			ops = append(ops, porcupine.Operation{ClientId: i, Input: "d", Call: o.call, Output: o.posted, Return: o.end})
		}
		if got := porcupine.CheckOperations(oneRegisterEach(), ops); got != test.ok {
			t.Errorf("%s: %v, want %v", test.name, got, test.ok)
		}
	}
}
