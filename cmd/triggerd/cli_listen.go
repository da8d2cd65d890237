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
	Forward string        `required:"" help:"URL to forward events to, for example http://localhost:3000/hook." placeholder:"URL"`
	Type    string        `help:"Only events whose type matches this pattern, for example 'user.*'."`
	Secret  string        `help:"Secret that signs the requests, whsec_… or whsk_…. Default: a new one, which is shown."`
	Inbox   bool          `help:"Claim events from the inbox, and acknowledge those that the receiver accepts."`
	Timeout time.Duration `help:"Time for one request to the receiver, up to 1h; a long time allows stopping it in a debugger." default:"15s"`
}

// Help returns the text above the flags.
func (*listenCommand) Help() string {
	return "Use this to develop a receiver that no webhook can reach. Listen polls the server and sends each new event to the " +
		"receiver, as a webhook would: the same body and headers, signed. Other consumers still get every event; events " +
		"before the start or after the stop are not forwarded. If the receiver does not answer, or answers 429 or " +
		"5xx, there are up to three retries.\n\n" +
		"With --inbox, events are claimed from the inbox: acknowledged if the receiver answers 2xx; otherwise redelivered, " +
		"after increasing pauses.\n\n" +
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
	fmt.Fprintf(s.out, "forwarding %s from %s to %s; press Ctrl-C to stop\n", from, withoutPassword(c.server()), withoutPassword(c.Forward))
	fmt.Fprintf(s.out, "secret for the receiver, which verifies the signatures: %s\n\n", l.to.secret)
	if c.Inbox {
		err = l.work(ctx)
	} else {
		err = l.follow(ctx)
	}
	fmt.Fprintf(s.out, "\n%d forwarded, %d refused by the receiver\n", l.taken, l.refused)
	return err
}

// listener checks the flags.
func (c *listenCommand) listener(s *session) (*listener, error) {
	target, err := url.Parse(c.Forward)
	if err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Host == "" {
		return nil, errors.New("--forward must be an http or https URL, for example http://localhost:3000/hook")
	}
	if c.Inbox && c.Type != "" {
		return nil, errors.New("--type cannot be used with --inbox, which claims events of all types")
	}
	if c.Timeout <= 0 || c.Timeout > time.Hour {
		return nil, fmt.Errorf("--timeout must be above 0 and up to 1h; got %v", c.Timeout)
	}
	if c.Secret == "" {
		c.Secret = newSecret()
	}
	if _, err := client.Sign(c.Secret, "id", time.Unix(0, 0), nil); err != nil {
		return nil, errors.New("--secret must be whsec_ or whsk_, followed by base64")
	}
	from, err := c.open(s)
	if err != nil {
		return nil, err
	}
	settle, err := c.open(s)
	if err != nil {
		return nil, err
	}
	from.Retries, from.answers.errOut = -1, nil // the listener retries by itself, and reports it
	return &listener{
		session: s, from: from, settle: settle, to: newForwarder(c.Forward, c.Secret, c.Timeout, s.now), pattern: c.Type,
		every: time.Second, pause: 250 * time.Millisecond, lease: time.Minute,
	}, nil
}

// listener forwards events from a server to a receiver, one after the other.
type listener struct {
	session *session
	from    *link // tries each call once
	settle  *link // for the results of events of the inbox
	to      *forwarder
	pattern string        // of types; "": all
	every   time.Duration // pause between two polls of the server
	pause   time.Duration // before the first retry; then it doubles
	lease   time.Duration // of events claimed from the inbox

	taken, refused int    // events
	trouble        string // the last reported error of the server; "": none
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

// count counts the final result of an event.
func (l *listener) count(result forwarded) {
	if result.ok() {
		l.taken++
	} else {
		l.refused++
	}
}

// bear reports an error of the server, once, and waits before the next try. It
// returns an error if a retry cannot help, or ctx ends.
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
		fmt.Fprintf(l.session.errOut, "%s; retrying\n", l.trouble)
	}
	wait := l.every
	if isProblem {
		wait = max(wait, problem.RetryAfter)
	}
	return sleepUntil(ctx, time.Now().Add(wait))
}

// stopped returns nil for the error of a ctx that has ended, which is the
// normal stop.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
