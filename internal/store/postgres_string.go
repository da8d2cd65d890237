package store

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// If a password contains a character with a meaning, for example in
// postgres://user:pa@ss@host/db, a part of it may be parsed as the name of a
// host, a user or a setting. The driver and the server put such names into
// their messages. So parseConnString refuses strings with such names, and its
// errors contain no part of the string.

var errSettings = errors.New("not a PostgreSQL connection string, or one of its settings is invalid, for example sslmode or the port")

var errSettingsAmbiguous = errors.New("the PostgreSQL connection string may be read in two ways: in a URL write the characters " +
	"@ : / ? # & % and spaces of a password as %40 and so on, for example postgres://user:pa%40ss@host/database; " +
	"otherwise put the password in quotes, for example host=localhost password='pa ss'")

var (
	hostPattern    = regexp.MustCompile(`^[A-Za-z0-9._:%-]*$`)
	settingPattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
)

// parseConnString parses a connection string. Its errors contain no part of it.
func parseConnString(text string) (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, errSettings
	}
	c := config.ConnConfig
	hosts := []string{c.Host}
	for _, other := range c.Fallbacks {
		hosts = append(hosts, other.Host)
	}
	for _, host := range hosts {
		if !strings.HasPrefix(host, "/") && !hostPattern.MatchString(host) {
			return nil, errSettingsAmbiguous
		}
	}
	for name := range c.RuntimeParams {
		if !settingPattern.MatchString(name) {
			return nil, errSettingsAmbiguous
		}
	}
	if hasStrayAt(text) || c.Password == "" && strings.Contains(c.User, ":") {
		return nil, errSettingsAmbiguous
	}
	return config, checkDriverSettings(c)
}

// checkDriverSettings refuses driver settings in a connection string with which
// our statements fail.
func checkDriverSettings(c *pgx.ConnConfig) error {
	switch c.DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		return errors.New("default_query_exec_mode must be cache_statement, cache_describe or describe_exec; got " +
			strings.ReplaceAll(c.DefaultQueryExecMode.String(), " ", "_") + ": leave it out")
	case pgx.QueryExecModeCacheStatement:
		if c.StatementCacheCapacity < 1 {
			return fmt.Errorf("statement_cache_capacity must be at least 1; got %d: leave it out", c.StatementCacheCapacity)
		}
	case pgx.QueryExecModeCacheDescribe:
		if c.DescriptionCacheCapacity < 1 {
			return fmt.Errorf("description_cache_capacity must be at least 1; got %d: leave it out", c.DescriptionCacheCapacity)
		}
	}
	return nil
}

// databaseOf returns the database that a connection string names: its hosts,
// each once, with their ports, and its name.
func databaseOf(c *pgx.ConnConfig) string {
	hosts := []string{net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port)))}
	for _, other := range c.Fallbacks {
		if host := net.JoinHostPort(other.Host, strconv.Itoa(int(other.Port))); !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return strings.Join(hosts, ",") + "/" + cmp.Or(c.Database, c.User)
}

// hasStrayAt reports whether a URL has an @ besides the one after the user and
// the password.
func hasStrayAt(text string) bool {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "postgres" && scheme != "postgresql" {
		return false
	}
	if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' {
		rest = rest[i+1:]
	}
	return strings.Contains(rest, "@")
}

// redactSetting hides the server's message about a setting in the connection
// string that it refuses, because the setting may be a part of the password. It
// checks all attempts to connect.
func redactSetting(err error) error {
	for _, cause := range leaves(err) {
		if isCode(cause, "42704", "22023", "42601", "42602", "55P02", "42501") {
			return errors.New("the server does not take a setting in the connection string (SQLSTATE " + cause.(*pgconn.PgError).Code + ")")
		}
	}
	return err
}
