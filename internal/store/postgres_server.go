package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// sqlServer identifies the server of a connection: its cluster, the timeline
// that it writes, its start time, and how far it has written. The name of the
// current WAL file begins with the timeline in hexadecimal, while
// pg_control_checkpoint shows the old one until the first checkpoint after a
// promotion. A server in recovery writes no timeline.
const sqlServer = `
	SELECT (pg_control_system()).system_identifier::text,
		CASE WHEN pg_is_in_recovery() THEN '0' ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END,
		CASE WHEN pg_is_in_recovery() THEN '0' ELSE (pg_current_wal_flush_lsn() - '0/0')::text END,
		extract(epoch FROM pg_postmaster_start_time())::text`

// serverID is what sqlServer returns.
type serverID struct {
	system   string
	timeline uint64 // 0: it is in recovery, and cannot be written to
	flushed  uint64 // bytes of WAL that were synced at that time
	started  string // start time, by its own clock
}

// serverWatch tracks which server the connections lead to. Each new connection
// reports its server.
type serverWatch struct {
	epoch *atomic.Int64 // of the store; changes when caches must be emptied
	log   *slog.Logger
	reset func() // closes the existing connections

	mu      sync.Mutex
	current serverID
	tables  int64 // last seen by sqlTables; 0: none
	told    bool  // has logged that the server cannot be identified
}

// connState is the key of a connection's serverID in its CustomData.
const connState = "server"

// identify reads which server a new connection leads to. It returns an error if
// the connection must not be used.
func (w *serverWatch) identify(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, sqlServer).ReadAll()
	if isCode(err, "42501", "42883", "0A000") { // insufficient_privilege, undefined_function, feature_not_supported
		w.unidentified(err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("identify the server: %w", err)
	}
	id, err := parseServer(results)
	if err != nil {
		return err
	}
	if err := w.observe(id); err != nil {
		return err
	}
	conn.CustomData()[connState] = id
	return nil
}

// checkOurSettings returns an error if a new connection has lost some of our
// settings. The statement lost finds them.
func checkOurSettings(ctx context.Context, conn *pgconn.PgConn, lost string) error {
	results, err := conn.Exec(ctx, lost).ReadAll()
	if err != nil {
		return fmt.Errorf("read the settings of the connection: %w", err)
	}
	if names := string(results[0].Rows[0][0]); names != "" {
		return &lostSettingsError{names}
	}
	return nil
}

// lostSettings returns the statement that lists the settings whose values
// differ from the start-up parameters of the connection.
func lostSettings(ours map[string]string) string {
	var rows []string
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		rows = append(rows, "('"+name+"', '"+ours[name]+"')")
	}
	return "SELECT coalesce(string_agg(name, ', '), '') FROM (VALUES " + strings.Join(rows, ", ") +
		") ours(name, value) WHERE current_setting(name, true) IS DISTINCT FROM value"
}

// lostSettingsError means that something between us and PostgreSQL ignored
// start-up parameters.
type lostSettingsError struct{ names string }

func (e *lostSettingsError) Error() string {
	return "the connection does not have the settings that it was started with (" + e.names + "): a pooler such as PgBouncer, " +
		"by ignore_startup_parameters, has dropped them; connect to PostgreSQL directly"
}

// unidentified handles a database that does not identify its server: each
// connection may lead to another one.
func (w *serverWatch) unidentified(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.epoch.Add(1)
	if !w.told {
		w.told = true
		w.log.Warn("the database does not say which server it is, so an old primary that comes back is not recognized: "+
			"grant EXECUTE on pg_control_system, pg_walfile_name and pg_current_wal_lsn to this role", "error", err)
	}
}

func parseServer(results []*pgconn.Result) (id serverID, err error) {
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return id, errors.New("identify the server: no answer")
	}
	row := results[0].Rows[0]
	timeline, err := strconv.ParseUint(string(row[1]), 16, 32)
	if err != nil {
		return id, fmt.Errorf("identify the server: %w", err)
	}
	flushed, err := strconv.ParseUint(string(row[2]), 10, 64)
	if err != nil {
		return id, fmt.Errorf("identify the server: %w", err)
	}
	return serverID{string(row[0]), timeline, flushed, string(row[3])}, nil
}

// observe compares a server with the previous one. Another server, another
// timeline, or a restart may lack cached data. So it empties the caches and
// closes the old connections. It returns an error for a lower timeline than
// before, because an old primary came back and its commits will be lost, and
// for a server in recovery, because its data may be old.
func (w *serverWatch) observe(id serverID) error {
	if id.timeline == 0 {
		return errInRecovery
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.current
	switch {
	case seen.system == "":
		w.current = id
		return nil
	case id.system != seen.system:
		w.log.Error("the connection leads to another database cluster than before: it was replaced or restored",
			"system_identifier", id.system, "before", seen.system)
	case id.timeline < seen.timeline:
		return &oldPrimaryError{timeline: id.timeline, seen: seen.timeline}
	case id.timeline > seen.timeline:
		w.log.Warn("the connection leads to a promoted server", "timeline", id.timeline, "before", seen.timeline)
	case id.started == seen.started:
		w.current.flushed = max(seen.flushed, id.flushed)
		return nil
	case id.flushed < seen.flushed:
		w.log.Error("the database server was started again and has lost what it had synced: it was restored from an older copy, or does not sync",
			"flushed", id.flushed, "before", seen.flushed)
	default:
		w.log.Info("the database server was started again")
	}
	w.current = id
	w.epoch.Add(1)
	w.reset()
	return nil
}

// observeTables compares our tables with the previous ones. Other tables mean a
// restore, so cached data may no longer exist.
func (w *serverWatch) observeTables(tables int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.tables
	if w.tables = tables; before == 0 || before == tables {
		return
	}
	w.log.Error("the tables were replaced, emptied or rewritten: if the database was restored while this node ran, stop all nodes before you do so")
	w.epoch.Add(1)
	w.reset()
}

// check returns errOtherServer if a connection does not lead to the current
// server.
func (w *serverWatch) check(conn *pgx.Conn) error {
	id, _ := conn.PgConn().CustomData()[connState].(serverID)
	w.mu.Lock()
	defer w.mu.Unlock()
	if id.system != w.current.system || id.timeline != w.current.timeline || id.started != w.current.started {
		return errOtherServer
	}
	return nil
}

// errOtherServer means that a connection does not lead to the current server.
// Commits there may be lost.
var errOtherServer = errors.New("the connection leads to a server that was replaced meanwhile")

// errInRecovery means that a server is a standby, or about to start.
var errInRecovery = errors.New("the server is in recovery: it takes no writes, and what it says may be old")

// oldPrimaryError means that a server must not be used.
type oldPrimaryError struct{ timeline, seen uint64 }

func (e *oldPrimaryError) Error() string {
	return fmt.Sprintf("the server is on timeline %d, and timeline %d was seen: it is an old primary that must be stopped; "+
		"restart triggerd if it was restored on purpose", e.timeline, e.seen)
}
