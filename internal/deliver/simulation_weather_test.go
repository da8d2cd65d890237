package deliver_test

import (
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// weather is what happens to the database and to the servers' clocks over
// time. All of it follows from the seed.
type weather struct {
	w      *world
	spells []spell
	until  time.Time // fair from then on
}

// spell is a time of one kind of trouble, for one server or for all.
type spell struct {
	from, to time.Time
	kind     trouble
	server   uint64 // of every three; 3: all
	chance   float64
}

type trouble int

const (
	rain   trouble = iota // calls fail by chance, before or after they have happened
	away                  // all of them fail
	mud                   // calls are slow
	clouds                // the clock is not trusted
	troubles
)

// newWeather makes trouble for a simulation of the given length, half of it
// while there is traffic.
func newWeather(w *world, dice *rand.Rand, span, traffic time.Duration) weather {
	f := weather{w: w, until: w.begun.Add(span)}
	if w.calm {
		return f
	}
	for i := range 4 + dice.IntN(16) {
		from := w.begun.Add(time.Duration(dice.Float64() * float64([...]time.Duration{span, traffic}[i%2])))
		length := time.Duration(dice.ExpFloat64() * float64(time.Minute))
		f.spells = append(f.spells, spell{
			from, from.Add(length), trouble(dice.IntN(int(troubles))), uint64(dice.IntN(4)), dice.Float64(),
		})
	}
	return f
}

// stormy says whether there may be trouble now.
func (w *world) stormy() bool { return !w.calm && time.Now().Before(w.weather.until) }

// over is the trouble that a server has now.
func (f *weather) over(s *server, now time.Time) (found []spell) {
	for _, sp := range f.spells {
		if !now.Before(sp.from) && now.Before(sp.to) && now.Before(f.until) && (sp.server == 3 || sp.server == s.number%3) {
			found = append(found, sp)
		}
	}
	return found
}

// cloudy says that a server's clock is not trusted, and has not been for a
// while.
func (f *weather) cloudy(s *server, since time.Duration) bool {
	now := time.Now()
	return slices.ContainsFunc(f.over(s, now), func(sp spell) bool { return sp.kind == clouds && now.Sub(sp.from) >= since })
}

// fault is what happens to one call of the database.
type fault struct {
	before, after time.Duration
	err           error
	done          bool // it has happened, though err says nothing of it
}

// writing are the calls that change something, and may fail at any time.
func writing() []string {
	return []string{"Claim", "Finish", "AddEvents", "Release", "SetBreaker", "Probe", "StopWebhook", "Advance", "FeedReplay", "PullBack"}
}

// fault decides what happens to a call. The world's mutex is held.
func (f *weather) fault(s *server, name string) (got fault) {
	now := time.Now()
	writes := slices.Contains(writing(), name)
	spells := f.over(s, now)
	if !writes && spells == nil {
		return fault{}
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(name))
	dice := f.w.dice(s.number, hash.Sum64(), s.calls[name])
	if writes {
		got.before = time.Duration(dice.IntN(2_000_000))
	}
	if writes && !f.w.calm && now.Before(f.until) && dice.IntN(300) == 0 {
		return failing(dice)
	}
	for _, sp := range spells {
		switch {
		case sp.kind == away:
			got = failing(dice)
		case sp.kind == rain && dice.Float64() < sp.chance:
			got = failing(dice)
		case sp.kind == mud && dice.Float64() < sp.chance:
			got.before = time.Duration(dice.ExpFloat64() * float64(3*time.Second))
			got.after = time.Duration(dice.ExpFloat64() * float64(time.Second))
		}
	}
	return got
}

// failing is a call that fails in one of all the ways.
func failing(dice *rand.Rand) (f fault) {
	if dice.IntN(3) == 0 {
		f.before = time.Duration(dice.ExpFloat64() * float64(time.Second))
	}
	switch dice.IntN(8) {
	case 0, 1, 2: // rolled back, and may go through now
		f.err = &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "40001"}
	case 3: // rolled back, and always would be
		f.err = &pgconn.PgError{SeverityUnlocalized: "ERROR", Code: refused}
	case 4: // nobody knows; it has not happened
		f.err = errUnknown
	default: // nobody knows; it has happened
		f.err, f.done = errUnknown, true
	}
	return f
}

// refused is the code of what the database never takes.
const refused = "22P05"

func isRefused(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.Code == refused
}

var errUnknown = errors.New("the connection broke")

// strike now and then holds a server up when it is about to send a request.
func (f *weather) strike(s *server, snd *sending) {
	dice := f.w.dice(snd.number, snd.nth, 99)
	if f.w.stormy() && dice.IntN(150) == 0 {
		s.hold(time.Duration(dice.ExpFloat64()*float64(s.Lease())), dice.IntN(2) == 0)
	}
}
