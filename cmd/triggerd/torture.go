package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	"triggerd/internal/torture"
)

type tortureCommand struct {
	Seed     uint64        `help:"Repeats the plan of an earlier run. 0: a new one." default:"0" noenv:"true"`
	For      time.Duration `help:"Duration of load and faults." default:"60s" noenv:"true"`
	Faults   []string      `help:"Faults to inject, from the list above; all: every fault that this machine supports; none." default:"all" noenv:"true"`
	Database string        `help:"sqlite, postgres or standby, which are created and removed, or the URL of a PostgreSQL on this machine whose data may be destroyed." default:"sqlite" noenv:"true"`
	Nodes    int           `help:"Number of servers on the database; more than one requires PostgreSQL." default:"1" noenv:"true"`
	Rate     int           `help:"Maximum number of events per second." default:"200" noenv:"true"`
	Clients  int           `help:"Concurrent POSTs." default:"32" noenv:"true"`
	Program  string        `help:"The triggerd to torture. Default: this one." type:"path" noenv:"true"`
	Strict   bool          `help:"Fail if this machine does not support a fault, instead of reporting it." noenv:"true"`
	Dir      string        `help:"Folder for data, logs and the ledger. Default: a temporary one." type:"path" noenv:"true"`
	Keep     bool          `help:"Keep the folder even if no promise was broken." noenv:"true"`
	JSON     bool          `name:"json" help:"Report as JSON." noenv:"true"`
}

// Help returns the text above the flags.
func (c *tortureCommand) Help() string {
	return "Clients post events and keep a ledger; a receiver fails, hangs and lies; and faults strike:\n\n" +
		torture.FaultHelp() +
		"\nThen all faults end, and every acknowledged event is compared with the answers of the API and the requests to the " +
		"receiver. The exit code is 1 if any promise was broken. The command starts and removes everything " +
		"on this machine, and touches nothing else."
}

// run runs the torture. It fails if any promise was broken.
func (c *tortureCommand) run(ctx context.Context, out, errOut io.Writer) error {
	config, err := c.config(errOut)
	if err != nil {
		return err
	}
	fmt.Fprintf(errOut, "seed %d: to repeat, run triggerd torture --seed %d --for %v --database %s --nodes %d --faults %s\n",
		config.Seed, config.Seed, c.For, databaseName(c.Database), c.Nodes, strings.Join(c.Faults, ","))
	report, err := torture.Run(ctx, config)
	if err != nil {
		return fmt.Errorf("the torture could not run: %w", err)
	}
	if c.JSON {
		if err := report.WriteJSON(out); err != nil {
			return err
		}
	} else {
		report.Write(out)
	}
	if report.Broken() {
		return fmt.Errorf("promises were broken; seed %d", report.Seed)
	}
	return nil
}

func (c *tortureCommand) config(errOut io.Writer) (config torture.Config, err error) {
	switch {
	case c.For < time.Second:
		return config, fmt.Errorf("--for must be at least 1s; got %v", c.For)
	case c.Rate < 1 || c.Rate > 10_000:
		return config, fmt.Errorf("--rate must be from 1 to 10000; got %d", c.Rate)
	case c.Clients < 1 || c.Clients > 1000:
		return config, fmt.Errorf("--clients must be from 1 to 1000; got %d", c.Clients)
	case c.Nodes < 1 || c.Nodes > 8:
		return config, fmt.Errorf("--nodes must be from 1 to 8; got %d", c.Nodes)
	case c.Nodes > 1 && c.Database == "sqlite":
		return config, errors.New("SQLite supports only one node: --nodes 2 requires --database postgres")
	}
	config = torture.Config{
		Seed: c.Seed, For: c.For, Faults: c.Faults, Database: c.Database, Nodes: c.Nodes, Rate: c.Rate, Clients: c.Clients,
		Program: c.Program, Strict: c.Strict, Dir: c.Dir, Keep: c.Keep, Now: time.Now, Out: errOut,
	}
	for config.Seed == 0 {
		config.Seed = rand.Uint64N(1_000_000_000)
	}
	if len(c.Faults) == 1 && c.Faults[0] == "none" {
		config.Faults = nil
	}
	if config.Program == "" {
		if config.Program, err = os.Executable(); err != nil {
			return config, err
		}
	}
	return config, nil
}

// nodeCommand is serve for the torture, with a wrong clock.
type nodeCommand struct {
	serveCommand
	ClockAhead time.Duration `help:"How far this node's clock is ahead." noenv:"true"`
}

func (c *nodeCommand) run(ctx context.Context, errOut io.Writer) error {
	return c.serveCommand.run(ctx, errOut, func() time.Time { return time.Now().Add(c.ClockAhead) })
}

// databaseName returns the value of --database without a password.
func databaseName(database string) string {
	if u, err := url.Parse(database); err == nil && u.Host != "" {
		return u.Redacted()
	}
	return database
}
