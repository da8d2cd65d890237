package storetest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"triggerd/internal/store"
)

// Cluster starts a PostgreSQL server for the test alone, for settings that all
// databases of a server share, and returns an empty database on it. It runs
// wherever Postgres runs.
func Cluster(t testing.TB) *DB {
	t.Helper()
	address := StartCluster(t)
	if address == "" {
		t.Fatal("a PostgreSQL server cannot be started: its programs are not on this machine")
	}
	return newDB(store.Options{PostgresURL: address, PoolSize: 10})
}

// StartCluster runs a PostgreSQL server until the end of the test, and returns
// its address, or "" if its programs are not on this machine.
func StartCluster(t testing.TB) (address string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "../../../scripts/with-postgres")
	cmd := exec.Command(script, "sh", "-c", `echo "$TEST_DATABASE_URL" && exec cat`)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool {
		return strings.HasPrefix(variable, "TEST_DATABASE_URL=")
	})
	cmd.Stderr = t.Output()
	running, err := cmd.StdinPipe() // closing it ends the cluster
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		running.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("with-postgres: %v", err)
		}
	})
	if address, err = bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatalf("the cluster does not start: %v", err)
	}
	return strings.TrimSpace(address)
}
