package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// cluster is a PostgreSQL of the test's own: for what would disturb others in
// the one that all tests share.
type cluster struct {
	db         *storetest.DB // an empty database in it
	postmaster int           // process id
}

// startCluster runs one until the end of the test. Without PostgreSQL it says
// so and returns nil.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	if os.Getenv("TEST_DATABASE_URL") == "" {
		notTested(t, "on PostgreSQL, since TEST_DATABASE_URL is not set: run make test or scripts/with-postgres go test ./...")
		return nil
	}
	address := storetest.StartCluster(t)
	if address == "" {
		notTested(t, "on a PostgreSQL of the test's own, since its programs are not on this machine")
		return nil
	}
	c := &cluster{db: &storetest.DB{Options: store.Options{PostgresURL: address}}}
	pid := c.query(t, `SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)`)
	var err error
	if c.postmaster, err = strconv.Atoi(pid); err != nil {
		t.Fatal(err)
	}
	return c
}

// query runs a statement on a connection of its own, which has the settings of
// this moment, and returns what it gives, "" for nothing.
func (c *cluster) query(t *testing.T, text string) (value string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.db.Options.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	err = conn.QueryRow(t.Context(), text, pgx.QueryExecModeSimpleProtocol).Scan(&value)
	if err != nil && err != pgx.ErrNoRows {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

// processes are the ids of all processes of the cluster.
func (c *cluster) processes(t *testing.T) []int {
	t.Helper()
	pids := []int{c.postmaster}
	list, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(stat), ") ") // pid (name) state ppid
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(c.postmaster) {
			pids = append(pids, pid)
		}
	}
	return pids
}
