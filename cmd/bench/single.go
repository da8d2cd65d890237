package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"triggerd/internal/store"
	"triggerd/internal/torture"
)

// The yardstick of posts: a handler that does one INSERT, in its own commit,
// for each request. It is another process of this program, so that its CPU time
// can be told apart from ours.
const (
	insertCommand  = "single-insert"                // instead of flags, before the address
	insertDatabase = "BENCH_SINGLE_INSERT_DATABASE" // in the environment: a URL, or a file of SQLite

	insertPool  = 20 // connections to PostgreSQL
	insertEvent = `INSERT INTO single (type, payload, dedup_id) VALUES ($1, $2, $3)`
	insertTable = `CREATE TABLE single (id %s, type text NOT NULL, payload text NOT NULL, dedup_id text UNIQUE)`
)

// plainEvent is an event to insert.
type plainEvent struct {
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
	DedupID *string         `json:"dedup_id"`
}

// singleInsert runs the yardstick. It serves until it is killed.
func singleInsert(ctx context.Context, address, database string) error {
	open := openFileInsert
	if strings.HasPrefix(database, "postgres://") {
		open = openPoolInsert
	}
	insert, err := open(ctx, database)
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, ReadHeaderTimeout: answerPatience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			return // reports that the server is ready
		}
		var e plainEvent
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &e)
		}
		if err == nil {
			err = insert(r.Context(), e)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"status":"accepted"}`) // a closed client needs no answer
	})}
	return server.ListenAndServe()
}

func openPoolInsert(ctx context.Context, database string) (func(context.Context, plainEvent) error, error) {
	config, err := pgxpool.ParseConfig(database)
	if err != nil {
		return nil, err
	}
	config.MaxConns = insertPool
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	_, err = pool.Exec(ctx, fmt.Sprintf(insertTable, "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"))
	return func(ctx context.Context, e plainEvent) error {
		_, err := pool.Exec(ctx, insertEvent, e.Type, string(e.Payload), e.DedupID)
		return err
	}, err
}

func openFileInsert(ctx context.Context, file string) (func(context.Context, plainEvent) error, error) {
	path := url.URL{Path: file}
	database, err := sql.Open("sqlite", "file:"+path.EscapedPath()+
		"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(5000)")
	if err != nil {
		return nil, err
	}
	database.SetMaxOpenConns(1) // SQLite has one writer
	if _, err := database.ExecContext(ctx, fmt.Sprintf(insertTable, "integer PRIMARY KEY")); err != nil {
		return nil, err
	}
	prepared, err := database.PrepareContext(ctx, insertEvent)
	return func(ctx context.Context, e plainEvent) error {
		_, err := prepared.ExecContext(ctx, e.Type, string(e.Payload), e.DedupID)
		return err
	}, err
}

// single is the yardstick's process in a rig.
type single struct {
	rig      *rig
	address  string
	cmd      *exec.Cmd
	database *sql.DB // to count its rows
}

// startSingle starts the yardstick on its own database, beside the server's. In
// PostgreSQL that database stays until the next one replaces it.
func (r *rig) startSingle(ctx context.Context) (s *single, err error) {
	port, err := torture.FreePort()
	if err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s = &single{rig: r, address: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	database, err := s.makeDatabase(ctx)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(r.dir, "single.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(program, insertCommand, s.address)
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"PATH=" + os.Getenv("PATH"), insertDatabase + "=" + database}, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // as for the server
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.cmd = cmd
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for get(ctx, "http://"+s.address+"/", nil) != nil {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return nil, fmt.Errorf("the single insert is not ready: %w", err)
		}
	}
	return s, nil
}

// makeDatabase returns where the yardstick stores, and opens that to count
// rows.
func (s *single) makeDatabase(ctx context.Context) (to string, err error) {
	own := store.Options{DataDir: filepath.Join(s.rig.dir, "single")}
	if s.rig.postgres == nil {
		if err := os.Mkdir(own.DataDir, 0o755); err != nil {
			return "", err
		}
		s.database, err = openSQL(own, nil)
		return filepath.Join(own.DataDir, "triggerd.db"), err
	}
	if err := s.inPostgres(ctx, "DROP DATABASE IF EXISTS single WITH (FORCE)", "CREATE DATABASE single"); err != nil {
		return "", err
	}
	where, err := url.Parse(s.rig.postgres.URL())
	if err != nil {
		return "", err
	}
	where.Path = "/single"
	own.PostgresURL = where.String()
	s.database, err = openSQL(own, map[string]string{"search_path": "public"})
	return own.PostgresURL, err
}

// inPostgres runs statements about databases on a connection to the server's
// one.
func (s *single) inPostgres(ctx context.Context, statements ...string) error {
	db, err := openSQL(s.rig.database, nil)
	if err != nil {
		return err
	}
	for _, text := range statements {
		if _, err := db.ExecContext(ctx, text); err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return db.Close()
}

// read returns the entry of the yardstick: it has accepted what it has stored.
func (s *single) read(ctx context.Context) (e entry, err error) {
	err = s.database.QueryRowContext(ctx, "SELECT count(*) FROM single").Scan(&e.rows)
	e.accepted = e.rows
	return e, err
}

// used returns the CPU time of the yardstick and of the database.
func (s *single) used() (usage, error) { return s.rig.usageOf(s.cmd.Process.Pid) }

func (s *single) close() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
	if s.database != nil {
		_ = s.database.Close()
	}
}
