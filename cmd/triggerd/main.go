// Command triggerd accepts events over HTTP, commits them durably, and delivers
// each of them to every webhook that matches it. Each subcommand has a file;
// serve.go wires the server together.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"triggerd/internal/trigger"
)

// version is set by the linker.
var version = "dev"

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // set by nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	// A second signal ends the process at once. A signal within half a second
	// counts as the same one, sent to both the process and its group.
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second/2, stop) })
	// A write to a pipe without a reader returns an error, instead of ending
	// the process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	forgetPostgres()
	keepPrivate()
	out, errOut := forTerminal(os.Stdout), forTerminal(os.Stderr)
	if err := run(ctx, os.Args[1:], os.Getenv, out, errOut); err != nil {
		fmt.Fprintf(errOut, "triggerd: %s\n", oneLine(err))
		os.Exit(1)
	}
}

// forgetPostgres removes PostgreSQL's own variables (PGHOST, PGPASSWORD and so
// on) from the environment, because its driver would use them: only triggerd's
// settings select the database.
func forgetPostgres() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			_ = os.Unsetenv(name) // cannot fail for a name from Environ
		}
	}
}

// commands are the commands of the program, with their settings.
type commands struct {
	Version kong.VersionFlag `help:"Show the version and exit."`
	Serve   serveCommand     `cmd:"" help:"Run the server."`
	Demo    demoCommand      `cmd:"" help:"Post real events to a temporary server and show the deliveries."`
	Health  healthCommand    `cmd:"" help:"Check whether the server on this machine is ready."`
	Check   checkCommand     `cmd:"" help:"Search the server's database for states that must never occur."`
	Token   tokenCommands    `cmd:"" help:"Show or replace the operator's token, which the operator's routes require."`
	Torture tortureCommand   `cmd:"" help:"Inject faults around temporary servers and report broken promises."`
	Node    nodeCommand      `cmd:"" name:"torture-node" hidden:"" help:"Run a server for the torture."`

	clientCommands `set:"environment=named"`
}

// run runs the program. It ends when ctx ends, or with the command.
func run(ctx context.Context, args []string, env func(string) string, out, errOut io.Writer) error {
	return runWith(ctx, args, env, &session{
		in: os.Stdin, out: out, errOut: errOut, now: time.Now, lookupEnv: os.LookupEnv, noOutput: isReplaced(os.Stdout),
	})
}

// runWith is run with the environment of a command. For every command it fails
// if standard output cannot be written.
func runWith(ctx context.Context, args []string, env func(string) string, s *session) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	out := &output{to: s.out, end: end}
	s.out = out
	return out.result(dispatch(ctx, args, env, s))
}

// dispatch parses the arguments and runs the command.
func dispatch(ctx context.Context, args []string, env func(string) string, s *session) error {
	out, errOut := s.out, s.errOut
	var cli commands
	exited := errors.New("exited") // by --help or --version
	parser, err := newParser(&cli, env, out, errOut, func(int) { panic(exited) })
	if err != nil {
		return err
	}
	if err := checkArguments(parser, args); err != nil {
		return err
	}
	parsed, err := parse(parser, args, exited)
	if failed := s.unwritten(); failed != nil { // the help
		return failed
	}
	if parsed == nil {
		return err
	}
	if err := s.checkOutput(parsed); err != nil {
		return err
	}
	switch parsed.Command() {
	case "serve":
		if s.lookupEnv != nil {
			cli.Serve.EmptyVariables = emptyVariables(s.lookupEnv)
		}
		return cli.Serve.run(ctx, errOut, time.Now)
	case "demo":
		return cli.Demo.run(ctx, out, errOut)
	case "health":
		return cli.Health.run(ctx, out)
	case "check":
		return cli.Check.run(ctx, out)
	case "torture":
		return cli.Torture.run(ctx, out, errOut)
	case "torture-node":
		return cli.Node.run(ctx, errOut)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return parsed.Run(s)
}

func newParser(cli *commands, env func(string) string, out, errOut io.Writer, exit func(int)) (*kong.Kong, error) {
	return kong.New(
		cli,
		kong.Name("triggerd"),
		kong.Description("Accepts events, commits them durably, and delivers each to every webhook that matches it."),
		defaults(),
		kong.Writers(out, errOut),
		kong.Resolvers(fromEnvironment(env)),
		kong.ValueFormatter(helpWithEnvironment),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.Exit(exit),
		kong.PostBuild(func(k *kong.Kong) error { return kong.Visit(k.Model, tellFlags) }),
	)
}

// defaults are the values of variables in the tags of settings.
func defaults() kong.Vars {
	return kong.Vars{
		"version": version, "retry_schedule": trigger.DefaultSchedule().String(),
		"pool_size": strconv.Itoa(defaultPoolSize), "sslmode": defaultSSLMode,
	}
}

// tellFlags copies the variables of a command to its flags, because kong sets
// them only for commands.
func tellFlags(at kong.Visitable, next kong.Next) error {
	if node, ok := at.(*kong.Node); ok {
		for _, flag := range node.Flags {
			flag.Tag.Vars = node.Vars().CloneWith(flag.Tag.Vars)
		}
	}
	return next(nil)
}

// wrongFlag matches the flag at the beginning of a message about its value,
// which may have come from the environment.
var wrongFlag = regexp.MustCompile(`^--[a-z-]+`)

// parse parses the arguments. It returns nil without an error after --help or
// --version.
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
		return nil, usageError(err)
	}
	return parsed, nil
}

// usageError names the invalid setting and the command with its help, for
// example "PORT (--port): … (see triggerd serve --help)".
func usageError(err error) error {
	if wrong, ok := errors.AsType[*variableError](err); ok {
		return wrong
	}
	command := "triggerd"
	variables := map[string]string{} // by flag
	if wrong, ok := errors.AsType[*kong.ParseError](err); ok && wrong.Context != nil {
		for _, at := range wrong.Context.Path {
			if at.Command != nil {
				command = at.Command.FullPath()
			}
		}
		for _, flag := range wrong.Context.Flags() {
			variables["--"+flag.Name] = variableOf(flag.Value)
		}
	}
	text := wrongFlag.ReplaceAllStringFunc(err.Error(), func(flag string) string {
		if variables[flag] == "" {
			return flag
		}
		return variables[flag] + " (" + flag + ")"
	})
	return fmt.Errorf("%s (see %s --help)", text, command)
}

// oneLine joins the lines of a message.
func oneLine(err error) string {
	return strings.NewReplacer(":\n\t", ": ", "\n\t", "; ", "\n", "; ").Replace(err.Error())
}
