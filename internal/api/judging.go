package api

import (
	"context"
	"runtime"
	"time"

	"triggerd/internal/fair"
	"triggerd/internal/trigger"
)

const (
	// judgeTime bounds the validation of the payloads of one request, including
	// the waits: as long as a commit is retried.
	judgeTime = 3 * time.Second
	// turnSteps is how many steps a turn takes before others may go first.
	turnSteps = fair.Millisecond
	// decodeBytes is how many bytes of a payload are decoded in the time of a
	// step.
	decodeBytes = 4
	// compileSteps is how many steps it takes to compile a byte of a schema.
	compileSteps = 100
	// largePayload is the size in bytes from which few payloads are validated at
	// a time, because their decoded form takes many times the memory.
	largePayload = 16 << 10
)

// judges divide the processors among the organizations whose events are
// validated: at most half of the processors, in turns.
type judges struct {
	turns    *fair.Turns
	large    *fair.Turns   // of large payloads, one per organization
	patience time.Duration // judgeTime
}

func newJudges(turns *fair.Turns) judges {
	return judges{turns, fair.NewTurns(2*runtime.GOMAXPROCS(0), 1), judgeTime}
}

// judging is the validation of the events of one request. It has a turn from its
// first event on, except while it waits. end must be called. A nil judging has
// no schemas.
type judging struct {
	types *typeCache
	org   *trigger.Organization
	ctx   context.Context // ends with the request, or judgeTime after the first event
	stop  context.CancelFunc
	turn  bool // it has a turn
	work  int  // steps in this turn
}

// judging starts the validation of a request's events.
func (c *typeCache) judging(ctx context.Context, org *trigger.Organization) *judging {
	if org.TypesVersion == 0 {
		return nil
	}
	return &judging{types: c, org: org, ctx: ctx}
}

// end ends the turn and the validation.
func (j *judging) end() {
	if j == nil {
		return
	}
	j.pause()
	if j.stop != nil {
		j.stop()
	}
}

// pause ends the turn for a while.
func (j *judging) pause() {
	if j.turn {
		j.types.judges.turns.Done(j.org.ID, j.work)
		j.turn, j.work = false, 0
	}
}

// goOn waits for a turn, unless it has one. It returns an error if the time is
// over.
func (j *judging) goOn() error {
	if j.turn {
		return j.ctx.Err()
	}
	if err := j.types.judges.turns.Take(j.ctx, j.org.ID); err != nil {
		return err
	}
	j.turn = true
	return nil
}

// count counts steps. From time to time it lets others go first, and returns an
// error if the time is over afterwards.
func (j *judging) count(steps int) error {
	if j.work += steps; j.work < turnSteps {
		return nil
	}
	yield := j.types.judges.turns.MustYield(j.org.ID, j.work)
	if j.work = 0; yield {
		j.pause()
	}
	runtime.Gosched() // other work of this process goes first
	return j.goOn()
}

// tryCompile returns why a schema of an organization cannot be used. It takes a
// turn, like validation; the error is Unavailable if it gets none in time.
func (c *typeCache) tryCompile(ctx context.Context, organizationID int64, schema []byte) error {
	ctx, cancel := context.WithTimeout(ctx, c.judges.patience)
	defer cancel()
	if err := c.judges.turns.Take(ctx, organizationID); err != nil {
		return trigger.NewUnavailable(err, typesUnavailable)
	}
	defer c.judges.turns.Done(organizationID, compileSteps*len(schema))
	_, err := compileSchema(schema)
	return err
}

// validate validates an event against the schema of its type, if any. In mode
// reject the error is Invalid, with pointers below #/payload; in mode warn it
// returns warnings. The error is Unavailable if the schema cannot be read or the
// time is over: no event skips validation. If validation itself fails, that is a
// warning in either mode, because it is better to accept an invalid event than
// to refuse a valid one.
func (j *judging) validate(e *trigger.Event) (warnings []trigger.Field, err error) {
	if j == nil {
		return nil, nil
	}
	types := j.types.known(j.org.ID, j.org.TypesVersion)
	if types == nil {
		j.pause()
		if types, err = j.types.find(j.ctx, j.org); err != nil {
			return nil, err
		}
	}
	t := types.types[e.Type]
	if t == nil {
		return nil, nil
	}
	if j.stop == nil {
		j.ctx, j.stop = context.WithTimeout(j.ctx, j.types.judges.patience)
	}
	fields, judged, err := j.judge(t, e.Payload)
	switch {
	case err != nil:
		late := trigger.NewUnavailable(err, typesUnavailable)
		late.Message = "The payload could not be validated in time against the schema of its type: send it again, with fewer events in a request"
		return nil, late
	case len(fields) == 0 || t.mode != trigger.ValidationReject || !judged:
		return fields, nil
	}
	return nil, &trigger.Error{Kind: trigger.Invalid, Message: "The payload does not match the schema of its type", Fields: fields}
}

// judge validates a payload. If validation fails by itself, judged is false and
// fields say so. An error means that the time is over.
func (j *judging) judge(t *judgedType, payload []byte) (fields []trigger.Field, judged bool, err error) {
	if len(payload) > largePayload {
		j.pause()
		if err := j.types.judges.large.Take(j.ctx, j.org.ID); err != nil {
			return nil, false, err
		}
		defer j.types.judges.large.Done(j.org.ID, len(payload))
	}
	if err := j.goOn(); err != nil {
		return nil, false, err
	}
	defer func() {
		if recover() != nil {
			fields, judged, err = []trigger.Field{{Detail: "the payload could not be validated against the schema of its type", Pointer: "#/payload"}}, false, nil
		}
	}()
	if j.types.ready(t) == nil {
		j.work += compileSteps * len(t.schema)
	}
	schema, err := j.types.compile(t)
	if err != nil {
		panic(err) // it compiled when it was stored
	}
	fields, err = schema.judge(payload, j.count)
	return fields, err == nil, err
}
