package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
)

// Whatever the server makes is its user's alone.
func TestUmask(t *testing.T) {
	t.Parallel()
	p := startProcess(t, storetest.SQLite(t))
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(status), "\nUmask:\t0077\n") {
		t.Errorf("the process has another umask:\n%s", status)
	}
}
