package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// prepare checks the database and migrates it.
func (p *postgres) prepare(ctx context.Context, s *Store, o Options) error {
	o.Doing("PostgreSQL at " + s.Database + " to answer")
	if err := p.reach(ctx); err != nil {
		return err
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
	if err := p.checkOwner(ctx); err != nil {
		return err
	}
	var err error
	s.schema, err = p.migrate(ctx, o.Doing)
	return err
}

func (p *postgres) makeSchema(ctx context.Context) error {
	var exists bool
	err := p.hotDB.QueryRowContext(ctx, "SELECT to_regnamespace($1) IS NOT NULL", schema).Scan(&exists)
	if err != nil || exists {
		return err
	}
	_, err = p.hotDB.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS "+schema)
	if isCode(err, "23505", "42P06") { // another node created it just now
		return nil
	}
	return err
}

// sqlForeign returns the owner of the first object in our schema whose owner's
// rights this role does not have, because only an owner may change tables and
// drop days. For example, another role has restored a dump.
const sqlForeign = `
	SELECT pg_get_userbyid(owner), what, current_user FROM (
		SELECT nspowner AS owner, 'the schema' AS what FROM pg_namespace WHERE nspname = $1
		UNION ALL
		SELECT relowner, 'the table ' || relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p')
	) things WHERE NOT pg_has_role(owner, 'USAGE') ORDER BY what LIMIT 1`

// checkOwner returns an error unless this role owns all objects of the schema.
func (p *postgres) checkOwner(ctx context.Context) error {
	var owner, what, role string
	err := p.hotDB.QueryRowContext(ctx, sqlForeign, schema).Scan(&owner, &what, &role)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read who owns the schema %q: %w", schema, err)
	}
	return fmt.Errorf("in the schema %[1]q %[2]s belongs to the role %[3]q, and this program connects as %[4]q, which may not change it: "+
		"connect as %[3]q, or run as a superuser in this database REASSIGN OWNED BY %[3]q TO %[4]q "+
		"(a dump restored with --no-owner --role=%[4]s has no other owner)", schema, what, owner, role)
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
