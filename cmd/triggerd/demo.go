package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/alecthomas/kong"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"golang.org/x/sync/errgroup"
)

// demoPatience is how long the demo waits after its last POST.
const demoPatience = 30 * time.Second

type demoCommand struct {
	Count   int  `help:"Number of events to post; if there are fewer examples, they are repeated. 0: each example once." default:"0" noenv:"true"`
	Rate    int  `help:"POSTs per second. 0: as fast as possible." default:"200" noenv:"true"`
	Verbose bool `help:"Show the server's log." noenv:"true"`
}

// run runs the demo: a server, a sender and a receiver in one process. It fails
// if an accepted event does not arrive unchanged.
func (c *demoCommand) run(ctx context.Context, out, errOut io.Writer) (err error) {
	if c.Count < 0 || c.Rate < 0 {
		return fmt.Errorf("--count and --rate must not be negative; got %d and %d", c.Count, c.Rate)
	}
	examples, err := loadExamples()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "triggerd-demo-")
	if err != nil {
		return fmt.Errorf("cannot create a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("cannot listen: %w", err)
	}
	defer listener.Close()
	set, err := c.settings(dir)
	if err != nil {
		return err
	}
	srv, err := newServer(ctx, set, newLog(errOut, set), time.Now)
	if err != nil {
		return err
	}
	d := &demo{
		server: srv, listener: listener, out: out,
		sender: newSender("http://"+srv.listener.Addr().String(), examples, c.Count, c.Rate),
		ledger: newLedger(func(p posting, a arrival, trouble string) { writeArrival(out, p, a, trouble) }),
	}
	return d.run(ctx)
}

// settings returns the settings of a server on a free port, with its data in
// dir, that may deliver to this machine.
func (c *demoCommand) settings(dir string) (settings, error) {
	set, err := defaultSettings()
	set.Listen, set.DataDir, set.Dev = "127.0.0.1:0", dir, true
	set.RateLimitRPM = 0
	set.LogLevel = "error"
	if c.Verbose {
		set.LogLevel = "info"
	}
	return set, err
}

// defaultSettings returns the default settings of a server.
func defaultSettings() (set settings, err error) {
	err = kong.ApplyDefaults(&set, defaults())
	return set, err
}

// demo is a server, a sender and a receiver.
type demo struct {
	server   *server
	sender   *sender
	ledger   *ledger
	listener net.Listener // of the receiver
	receiver http.Server
	out      io.Writer
}

// run ends when the demo is complete, a part fails, or ctx ends. The receiver
// runs as long as the server.
func (d *demo) run(ctx context.Context) error {
	var served error
	group, playing := errgroup.WithContext(ctx)
	serving, stop := context.WithCancel(playing)
	defer stop()
	group.Go(func() error {
		defer d.receiver.Close()
		served = d.server.run(serving)
		return served
	})
	group.Go(func() error {
		defer stop()
		err := d.play(playing, group)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("interrupted, after %d events had arrived", d.ledger.tally().Delivered)
		}
		return err
	})
	if err := group.Wait(); served == nil {
		return err
	}
	return served // it explains the other error
}

// play posts all events, waits until all of them have arrived, and reports.
func (d *demo) play(ctx context.Context, group *errgroup.Group) error {
	defer d.sender.client.CloseIdleConnections() // the server would wait for unused ones
	if err := d.sender.signUp(ctx); err != nil {
		return err
	}
	secret, err := d.sender.register(ctx, "http://"+d.listener.Addr().String()+"/webhook")
	if err != nil {
		return err
	}
	webhook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	d.receiver.Handler = receive(webhook, d.ledger)
	group.Go(func() error {
		if err := d.receiver.Serve(d.listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	fmt.Fprintf(d.out, "posting %d real events to %s, which delivers them to a webhook at %s\n\n",
		d.sender.count, d.sender.url, d.listener.Addr())
	begun := time.Now()
	if err := d.sender.postAll(ctx, d.ledger.answered); err != nil {
		return err
	}
	if err := d.wait(ctx); err != nil {
		return err
	}
	t := d.ledger.tally()
	writeSummary(d.out, t, time.Since(begun))
	return t.err()
}

// wait returns when all accepted events have arrived, or at the deadline.
func (d *demo) wait(ctx context.Context) error {
	deadline := time.NewTimer(demoPatience)
	defer deadline.Stop()
	d.ledger.allPosted()
	select {
	case <-d.ledger.complete:
	case <-deadline.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
