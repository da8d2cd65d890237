package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo terminal, whose slave end is for a program.
func terminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// The error with which the program ends cannot command a terminal either.
func TestLastErrorOnATerminal(t *testing.T) {
	t.Parallel()
	master, slave := terminal(t)
	cmd := endWithTest(exec.CommandContext(t.Context(), os.Args[0], "send", "a", "@/none\x1b[2J\u202e"))
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Stderr = slave
	err := cmd.Run()
	slave.Close()
	said, _ := io.ReadAll(master) // ends with an error, since nobody has the other end
	if err == nil || !strings.Contains(string(said), `/none\u001b[2J\u202e`) || strings.Contains(string(said), "\x1b") {
		t.Errorf("%v, it wrote %q", err, said)
	}
}
