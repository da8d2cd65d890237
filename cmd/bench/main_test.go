package main

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == insertCommand { // startSingle has started us
		main()
		return
	}
	goleak.VerifyTestMain(m)
}
