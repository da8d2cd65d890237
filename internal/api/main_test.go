package api

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(tests *testing.M) {
	m := watched{tests}
	goleak.VerifyTestMain(m)
}
