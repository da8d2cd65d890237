package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"triggerd/client"
)

type listenCommand struct {
	asMember
	Forward string        `required:"" help:"Where to forward events to, as http://localhost:3000/hook." placeholder:"URL"`
	Type    string        `help:"Only events whose type matches this pattern, as 'user.*'."`
	Secret  string        `help:"What signs what is forwarded, whsec_… or whsk_…. Default: a new one, which is shown."`
	Inbox   bool          `help:"Take events from the inbox, and acknowledge those that the receiver takes."`
	Timeout time.Duration `help:"Time for one request to the receiver, up to 1h; long, to stop it in a debugger." default:"15s"`
}

// Help is what stands above the flags.
func (*listenCommand) Help() string {
	return "This is for developing a receiver where no webhook can reach it. Each new event is looked up and sent to the " +
		"receiver, as a webhook would: the same body, and the same headers, signed. Nothing is taken from anyone; what " +
		"comes before the start, or after the stop, is not forwarded. Where the receiver does not answer, or with 429 or " +
		"5xx, there are up to three more tries.\n\n" +
		"With --inbox, events are taken from the inbox: done if the receiver answers 2xx; otherwise they come again, " +
		"after pauses that grow.\n\n" +
		examples(
			"triggerd listen --forward http://localhost:3000/hook --type 'user.*'",
			"triggerd listen --forward http://localhost:3000/hook --inbox --secret $SECRET",
		)
}

// Run forwards events until it is stopped.
func (c *listenCommand) Run(ctx context.Context, s *session) error {
	l, err := c.listener(s)
	if err != nil {
		return err
	}
	defer l.close()
	from := "new events"
	if c.Inbox {
		from = "events of the inbox"
	}
	if c.Type != "" {
		from += " of type " + c.Type
	}
	fmt.Fprintf(s.out, "%s at %s go to %s; Ctrl-C ends it\n", from, c.server(), c.Forward)
	fmt.Fprintf(s.out, "the receiver verifies them by the secret %s\n\n", l.to.secret)
	if c.Inbox {
		err = l.work(ctx)
	} else {
		err = l.follow(ctx)
	}
	fmt.Fprintf(s.out, "\n%d forwarded, %d not taken by the receiver\n", l.taken, l.refused)
	return err
}

// listener judges the flags.
func (c *listenCommand) listener(s *session) (*listener, error) {
	target, err := url.Parse(c.Forward)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, fmt.Errorf("--forward must be like http://localhost:3000/hook, not %q", c.Forward)
	}
	if c.Inbox && c.Type != "" {
		return nil, errors.New("--type does not go with --inbox: who takes from the inbox takes all types")
	}
	if c.Timeout <= 0 || c.Timeout > time.Hour {
		return nil, errors.New("--timeout must be up to 1h")
	}
	if c.Secret == "" {
		c.Secret = newSecret()
	}
	if _, err := client.Sign(c.Secret, "id", time.Unix(0, 0), nil); err != nil {
		return nil, errors.New("--secret must be whsec_ or whsk_, and go on in base64")
	}
	from, err := c.open(s)
	if err != nil {
		return nil, err
	}
	settle, err := c.open(s)
	if err != nil {
		return nil, err
	}
	from.Retries, from.answers.errOut = -1, nil // we try again ourselves, and say so
	return &listener{
		session: s, from: from, settle: settle, to: newForwarder(c.Forward, c.Secret, c.Timeout, s.now), pattern: c.Type,
		every: time.Second, pause: 250 * time.Millisecond, lease: time.Minute,
	}, nil
}

// listener brings events from a server to a receiver, one after the other.
type listener struct {
	session *session
	from    *link // tries everything once
	settle  *link // to say what became of events of the inbox
	to      *forwarder
	pattern string        // of types; "": all
	every   time.Duration // from one look at the server to the next
	pause   time.Duration // before the first repeat; then it doubles
	lease   time.Duration // of what is taken from the inbox

	taken, refused int    // events
	trouble        string // with the server, as it was told last; "": none
}

func (l *listener) close() {
	l.from.close()
	l.settle.close()
	l.to.http.CloseIdleConnections()
}

// tell writes a line about an event.
func (l *listener) tell(event client.Event, result forwarded, more string) {
	fmt.Fprintf(l.session.out, "%s  %s  %-24s  %s  %s%s\n", l.session.now().Local().Format(time.RFC3339), event.ID,
		clean(event.Type), result, duration(result.took.Seconds()), more)
}

// count notes what became of an event in the end.
func (l *listener) count(result forwarded) {
	if result.ok() {
		l.taken++
	} else {
		l.refused++
	}
}

// bear tells what is wrong with the server, once, and waits for the next try.
// It gives an error if no other try can help, or ctx ends.
func (l *listener) bear(ctx context.Context, err error) error {
	if err == nil {
		if l.trouble != "" {
			fmt.Fprintln(l.session.errOut, "connected again")
		}
		l.trouble = ""
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	told := l.from.explain(err)
	problem, isProblem := errors.AsType[*client.Error](err)
	if isProblem && problem.Status < 500 && problem.Status != 429 {
		return told
	}
	if l.trouble != told.Error() {
		l.trouble = told.Error()
		fmt.Fprintf(l.session.errOut, "%s; trying again\n", l.trouble)
	}
	wait := l.every
	if isProblem {
		wait = max(wait, problem.RetryAfter)
	}
	return sleepUntil(ctx, time.Now().Add(wait))
}

// stopped is nil for an error that says that ctx has ended, as it is meant to.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
