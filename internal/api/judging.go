package api

import (
	"context"
	"runtime"
	"time"

	"triggerd/internal/fair"
	"triggerd/internal/trigger"
)

const (
	// judgeTime is for how long the payloads of one request are judged, with the
	// time that they wait for it: as long as their commit would be tried.
	judgeTime = 3 * time.Second
	// turnSteps is how much is judged until it is somebody else's turn.
	turnSteps = fair.Millisecond
	// decodeBytes is how much of a payload is read in the time of a step.
	decodeBytes = 4
	// compileSteps is how many steps a byte of a schema takes to compile.
	compileSteps = 100
	// largePayload is from how many bytes on few payloads are judged at a time,
	// since what is made of them takes many times the memory.
	largePayload = 16 << 10
)

// judges divide the processors among those whose events are judged by schemas:
// at most half of the processors, in turn of the organizations.
type judges struct {
	turns    *fair.Turns
	large    *fair.Turns   // of large payloads, one of each organization
	patience time.Duration // judgeTime
}

func newJudges(turns *fair.Turns) judges {
	return judges{turns, fair.NewTurns(2*runtime.GOMAXPROCS(0), 1), judgeTime}
}

// judging is the work of one request on the schemas of its events. It has a turn
// from its first event on, unless it waits for something; end must be called. A
// nil one has nothing to judge by.
type judging struct {
	types *typeCache
	org   *trigger.Organization
	ctx   context.Context // ends with the request, or judgeTime after the first event
	stop  context.CancelFunc
	turn  bool // it has one
	work  int  // in it, in steps
}

// judging begins to judge events of a request.
func (c *typeCache) judging(ctx context.Context, org *trigger.Organization) *judging {
	if org.TypesVersion == 0 {
		return nil
	}
	return &judging{types: c, org: org, ctx: ctx}
}

// end gives up the turn.
func (j *judging) end() {
	if j == nil {
		return
	}
	j.pause()
	if j.stop != nil {
		j.stop()
	}
}

// pause gives up the turn for a while.
func (j *judging) pause() {
	if j.turn {
		j.types.judges.turns.Done(j.org.ID, j.work)
		j.turn, j.work = false, 0
	}
}

// goOn waits for a turn, if there is none. It fails if there is no time for more
// work.
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

// count counts work. Now and then it lets others have their turn, and fails if
// there is no time for more of it afterwards.
func (j *judging) count(steps int) error {
	if j.work += steps; j.work < turnSteps {
		return nil
	}
	yield := j.types.judges.turns.MustYield(j.org.ID, j.work)
	if j.work = 0; yield {
		j.pause()
	}
	runtime.Gosched() // whatever else this process does comes first
	return j.goOn()
}

// tryCompile returns why a schema of an organization cannot be used. That is work
// like judging, and takes its turn; Unavailable if there was none in time.
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

// validate judges an event by its type's schema, if there is one. Invalid, with pointers from #/payload on, where the
// mode is reject; warnings where it is warn. Unavailable where the schema cannot be read, or it is not the event's turn
// in time: no event goes unjudged. A fault of ours in judging is a warning in either mode: the event is then one too
// many, rather than one too few.
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

// judge judges a payload; judged is false, with a word of it, where that fails.
// The error is that there is no time for it.
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
		panic(err) // it was compiled when it was stored
	}
	fields, err = schema.judge(payload, j.count)
	return fields, err == nil, err
}
