package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asProgram, in the environment, makes the test binary the program itself, so
// that tests can start it as a process of its own, and kill it.
const asProgram = "TRIGGERD_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	if os.Getenv(asIdler) != "" {
		holdConnections(os.Args[1], os.Args[2], os.Args[3])
		return
	}
	goleak.VerifyTestMain(m)
}
