package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/alecthomas/kong"
)

// output is the standard output of a command. The first write that fails ends
// the command: for example, if the disk is full, or if the program that reads
// the pipe has ended. Nothing is written after that.
type output struct {
	to  io.Writer
	end context.CancelFunc // of the command

	mu  sync.Mutex
	err error // of the first write that failed
}

// Write implements [io.Writer].
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.to.Write(b)
	if err != nil {
		if path, ok := errors.AsType[*fs.PathError](err); ok {
			err = path.Err // without the name, which says the same
		}
		o.err = fmt.Errorf("standard output cannot be written: %w", err)
		o.end()
	}
	return n, o.err
}

// failed returns the error of the first write that failed, or nil.
func (o *output) failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// result returns the error of a command that has returned err. A failed write
// takes precedence if it interrupted the command.
func (o *output) result(err error) error {
	switch failed := o.failed(); {
	case failed == nil || errors.Is(err, failed):
		return err
	case errors.Is(err, context.Canceled):
		return failed
	default:
		return errors.Join(err, failed)
	}
}

// unwritten returns an error if some output of the command could not be
// written.
func (s *session) unwritten() error {
	if o, ok := s.out.(*output); ok {
		return o.failed()
	}
	return nil
}

// errNoOutput is returned before the command does anything.
var errNoOutput = errors.New("standard output is closed, or is /dev/null opened for reading and writing; the command did nothing: " +
	"give it an output, or >/dev/null to discard the output")

// checkOutput returns an error if standard output may be closed, and the
// command is useless without it: its output is claimed, or is shown only once,
// or --json requests it. Other commands continue, because they may have been
// given /dev/null on purpose.
func (s *session) checkOutput(parsed *kong.Context) error {
	if !s.noOutput {
		return nil
	}
	wanted := parsed.Selected().Tag.Get("wants") == "output"
	for _, flag := range parsed.Flags() {
		if flag.Name == "json" || flag.Name == "only-key" {
			wanted = wanted || flag.Target.Bool()
		}
	}
	if wanted {
		return errNoOutput
	}
	return nil
}
