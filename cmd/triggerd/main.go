// Command triggerd accepts events over HTTP, commits them durably, and brings
// each of them to everyone who asked for it. One file per subcommand; serve.go
// wires the server together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"triggerd/internal/trigger"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends the process at once; what comes within half a second
	// is the same one, sent to the process and to its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second/2, stop) })
	forgetPostgres()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "triggerd: %s\n", oneLine(err))
		os.Exit(1)
	}
}

// forgetPostgres takes PostgreSQL's own variables (PGHOST, PGPASSWORD and so
// on) out of the environment, where its driver would find them: only ours say
// which database it is.
func forgetPostgres() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // fails for no name that Environ gives
		}
	}
}

// commands are the program's, with their settings.
type commands struct {
	Version kong.VersionFlag `help:"Show the version and exit."`
	Serve   serveCommand     `cmd:"" help:"Run the server."`
	Demo    demoCommand      `cmd:"" help:"Post real events to a temporary server and show what arrives."`
	Check   checkCommand     `cmd:"" help:"Look through the server's database for what must never be there."`
	Torture tortureCommand   `cmd:"" help:"Break things around temporary servers and show which promises hold."`
	Node    nodeCommand      `cmd:"" name:"torture-node" hidden:"" help:"Run a server for the torture."`
}

// run is the program. It ends when ctx does, or with the command.
func run(ctx context.Context, args []string, env func(string) string, out, errOut io.Writer) error {
	var cli commands
	exited := errors.New("exited") // by --help or --version
	parser, err := newParser(&cli, env, out, errOut, func(int) { panic(exited) })
	if err != nil {
		return err
	}
	parsed, err := parse(parser, args, exited)
	if parsed == nil {
		return err
	}
	switch parsed.Command() {
	case "demo":
		return cli.Demo.run(ctx, out, errOut)
	case "check":
		return cli.Check.run(ctx, out)
	case "torture":
		return cli.Torture.run(ctx, out, errOut)
	case "torture-node":
		return cli.Node.run(ctx, errOut)
	}
	return cli.Serve.run(ctx, errOut, time.Now)
}

func newParser(cli *commands, env func(string) string, out, errOut io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(
		cli,
		kong.Name("triggerd"),
		kong.Description("Accepts events, commits them durably, and delivers each to everyone who asked for it."),
		kong.Vars{"version": version, "retry_schedule": trigger.DefaultSchedule().String()},
		kong.Writers(out, errOut),
		kong.Resolvers(fromEnvironment(env)),
		kong.ValueFormatter(helpWithEnvironment),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}),
		kong.Exit(exit),
	)
}

// wrongFlag is the flag at the beginning of a message about its value, which
// may have come from the environment.
var wrongFlag = regexp.MustCompile(`^--[a-z-]+`)

// parse reads the arguments; nil without an error after --help or --version.
func parse(parser *kong.Kong, args []string, exited error) (parsed *kong.Context, err error) {
	defer func() {
		if p := recover(); p != nil && p != exited {
			panic(p)
		}
	}()
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err = parser.Parse(args)
	if err != nil {
		return nil, errors.New(wrongFlag.ReplaceAllStringFunc(err.Error(), func(flag string) string {
			return environmentName(strings.TrimLeft(flag, "-")) + " (" + flag + ")"
		}) + " (see triggerd serve --help)")
	}
	return parsed, nil
}

// fromEnvironment gives flags their values from the environment: --data-dir
// from DATA_DIR. An empty value counts as unset.
func fromEnvironment(env func(string) string) kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		if flag.Tag.Get("noenv") != "" {
			return nil, nil
		}
		if value := env(environmentName(flag.Name)); value != "" {
			return value, nil
		}
		return nil, nil
	})
}

func environmentName(flag string) string {
	return strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// helpWithEnvironment shows where else a flag's value comes from.
func helpWithEnvironment(value *kong.Value) string {
	if value.Flag == nil || value.Name == "help" || value.Name == "version" || value.Tag.Get("noenv") != "" {
		return value.Help
	}
	return fmt.Sprintf("%s [$%s]", value.Help, environmentName(value.Name))
}

// oneLine keeps a message that joins several on one line.
func oneLine(err error) string {
	return strings.NewReplacer(":\n\t", ": ", "\n\t", "; ", "\n", "; ").Replace(err.Error())
}
