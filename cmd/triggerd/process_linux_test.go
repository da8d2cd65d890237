package main

import (
	"os/exec"
	"syscall"
)

// endWithTest makes a process that a test starts end when the process of the test
// does, also after a panic or a kill.
func endWithTest(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}
