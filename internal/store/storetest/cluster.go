package storetest

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"triggerd/internal/store"
)

// Cluster starts a PostgreSQL server of the test's own, for settings that all
// databases of a server share, and returns an empty database on it. Where
// Postgres runs, so does this.
func Cluster(t testing.TB) *DB {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "../../../scripts/with-postgres")
	cmd := exec.Command(script, "sh", "-c", `echo "$TEST_DATABASE_URL"; cat`)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "TEST_DATABASE_URL=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a PostgreSQL server: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close() // which ends cat, and so the server
		if err := cmd.Wait(); err != nil {
			t.Errorf("the PostgreSQL server: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("start a PostgreSQL server: %v", err)
	}
	return newDB(store.Options{PostgresURL: strings.TrimSpace(line), PoolSize: 10})
}
