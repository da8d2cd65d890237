package main

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// unsynced, at the end of a connection string, asks for commits that are
// answered before they are synced.
const unsynced = "&options=-c%20synchronous_commit%3Doff"

// A PostgreSQL that would lose what is acknowledged, wherever it was told so,
// is refused with a line that says what to do. For development it is taken,
// with the same line as a warning.
func TestPostgresThatDoesNotSync(t *testing.T) {
	t.Parallel()
	c := startCluster(t)
	if c == nil {
		return
	}
	for _, test := range []struct{ setting, where, off, on string }{
		{"fsync", "", `ALTER SYSTEM SET fsync = off`, `ALTER SYSTEM RESET fsync`},
		{"full_page_writes", "", `ALTER SYSTEM SET full_page_writes = off`, `ALTER SYSTEM RESET full_page_writes`},
		{"synchronous_commit", "", `ALTER SYSTEM SET synchronous_commit = off`, `ALTER SYSTEM RESET synchronous_commit`},
		{
			"synchronous_commit", "", `ALTER DATABASE postgres SET synchronous_commit = off`,
			`ALTER DATABASE postgres RESET synchronous_commit`,
		},
		{"synchronous_commit", "", `ALTER ROLE triggerd SET synchronous_commit = off`, `ALTER ROLE triggerd RESET synchronous_commit`},
		{"synchronous_commit", unsynced, `SELECT 'off'`, `SELECT 'on'`},
	} {
		db := &storetest.DB{Options: store.Options{PostgresURL: c.db.Options.PostgresURL + test.where}}
		here := &cluster{db: db}
		c.query(t, test.off)
		here.awaitSetting(t, test.setting, "off")
		line := "PostgreSQL runs with " + test.setting + "=off and would lose acknowledged events in a crash: set it on"
		if said := refusal(t, db); !strings.HasSuffix(said, "triggerd: "+line+"\n") { // behind what it waited for
			t.Errorf("%s: it said %q, want %q", test.off, said, line)
		}
		p := startProcess(t, db)
		if code := p.end(t, syscall.SIGTERM); code != 0 || !strings.Contains(p.log.String(), `level=WARN msg="`+line+`"`) {
			t.Errorf("%s, for development: exit code %d, no warning in:\n%s", test.off, code, p.log)
		}
		c.query(t, test.on)
		c.awaitSetting(t, test.setting, "on")
	}
}

// awaitSetting waits until new connections have a setting.
func (c *cluster) awaitSetting(t *testing.T, name, value string) {
	t.Helper()
	c.query(t, `SELECT pg_reload_conf()::text`)
	deadline := time.Now().Add(patience)
	for c.query(t, "SHOW "+name) != value {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not become %s", name, value)
		}
	}
}
