package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// prepare judges the database and migrates it.
func (p *postgres) prepare(ctx context.Context, s *Store, o Options) error {
	if err := p.reach(ctx); err != nil {
		return fmt.Errorf("PostgreSQL cannot be reached, check that it runs and that DATABASE_URL or the DB_* variables are right: %w", err)
	}
	settings := map[string]string{}
	for _, name := range []string{"server_version_num", "server_encoding", "fsync", "full_page_writes", "synchronous_commit", "synchronous_standby_names"} {
		var value string
		if err := p.hotDB.QueryRowContext(ctx, "SHOW "+name).Scan(&value); err != nil {
			return fmt.Errorf("read PostgreSQL's setting %s: %w", name, err)
		}
		settings[name] = value
	}
	if err := checkSettings(s, o, settings); err != nil {
		return err
	}
	if err := p.makeSchema(ctx); err != nil {
		return fmt.Errorf("the schema %q cannot be made, grant CREATE on the database to this role: %w", schema, err)
	}
	var err error
	s.schema, err = p.migrate(ctx)
	return err
}

func (p *postgres) makeSchema(ctx context.Context) error {
	var exists bool
	err := p.hotDB.QueryRowContext(ctx, "SELECT to_regnamespace($1) IS NOT NULL", schema).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = p.hotDB.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+schema)
	if isCode(err, "23505", "42P06") { // another node made it just now
		return nil
	}
	return err
}

// migrate runs on connections of its own, since a migration may take its time.
func (p *postgres) migrate(ctx context.Context) (schema int64, err error) {
	pool, err := newPool(ctx, p.hot.Config(), dialer().DialContext, 2, map[string]string{"statement_timeout": "0", "lock_timeout": "0"})
	if err != nil {
		return 0, err
	}
	defer pool.Close()
	db := stdlib.OpenDBFromPool(pool)
	schema, err = migratePostgres(ctx, db)
	return schema, errors.Join(err, db.Close())
}

// reachTimeout is for how long a start waits for PostgreSQL to answer.
const reachTimeout = 4 * time.Second

func (p *postgres) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return p.hotDB.PingContext(ctx)
}

func checkSettings(s *Store, o Options, settings map[string]string) error {
	if version, _ := strconv.Atoi(settings["server_version_num"]); version < 140000 {
		return errors.New("this PostgreSQL is too old: version 14 or newer is needed")
	}
	if settings["server_encoding"] != "UTF8" {
		return fmt.Errorf("the database's encoding is %s: make one with ENCODING 'UTF8'", settings["server_encoding"])
	}
	for _, name := range []string{"fsync", "full_page_writes", "synchronous_commit"} {
		if settings[name] != "off" {
			continue
		}
		err := s.distrust(o, fmt.Sprintf("PostgreSQL runs with %s=off and would lose acknowledged events in a crash: set it on", name))
		if err != nil {
			return err
		}
	}
	if settings["synchronous_commit"] == "local" && settings["synchronous_standby_names"] != "" {
		if err := s.distrust(o, "PostgreSQL has a synchronous standby and runs with synchronous_commit=local, which does not wait for it, "+
			"and would lose acknowledged events in a failover: set it on"); err != nil {
			return err
		}
	}
	if strings.Contains(o.PostgresURL, ",") && settings["synchronous_standby_names"] == "" {
		s.Warnings = append(s.Warnings,
			"several PostgreSQL hosts are given, but no synchronous standby is set: a failover may lose acknowledged events")
	}
	return nil
}
