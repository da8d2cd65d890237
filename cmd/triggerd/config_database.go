package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// databaseSettings say which database it is: PostgreSQL if anything of it is
// set, and the embedded SQLite store otherwise. They are all that a command
// needs to reach the database.
type databaseSettings struct {
	DataDir string `help:"Folder of the embedded SQLite store." default:"./data" type:"path"`

	DatabaseURL string  `name:"database-url" help:"PostgreSQL to use instead of SQLite, as a URL or connection string. It overrides the DB settings." secret:""`
	DBName      *string `name:"db-name" help:"PostgreSQL database. Default: zapier_triggers, if any DB setting is set."`
	DBUser      *string `name:"db-user" help:"PostgreSQL user. Default: postgres."`
	DBPassword  *string `name:"db-password" help:"PostgreSQL password. Default: none." secret:""`
	DBHost      *string `name:"db-host" help:"PostgreSQL host, or several separated by commas. Default: localhost."`
	DBPort      *int    `name:"db-port" help:"PostgreSQL port. Default: 5432."`
	DBPoolSize  int     `name:"db-pool-size" help:"Maximum number of connections to PostgreSQL, at least 2." default:"${pool_size}"`
	DBSSLMode   string  `name:"db-sslmode" help:"PostgreSQL's sslmode." default:"${sslmode}"`

	EmptyVariables []string `kong:"-"` // names of those that say where PostgreSQL is, and are set to nothing

	SecretKey []string `help:"Keys that encrypt the secrets of webhooks in the database, each 32 random bytes in base64. The first encrypts, all decrypt; see docs/operations.md for how to change them." placeholder:"KEY,OLD-KEY" secret:""`
}

// defaultPoolSize and defaultSSLMode are what DB_POOL_SIZE and DB_SSLMODE are
// where they are not set.
const (
	defaultPoolSize = 10
	defaultSSLMode  = "prefer"
)

// namesPostgres reports whether one of the DB settings says where PostgreSQL is.
func (s *databaseSettings) namesPostgres() bool {
	return s.DBName != nil || s.DBUser != nil || s.DBPassword != nil || s.DBHost != nil || s.DBPort != nil
}

// emptyVariables returns those of the variables that say where PostgreSQL is
// which are set to nothing.
func emptyVariables(lookup func(name string) (value string, ok bool)) (names []string) {
	for _, name := range []string{"DATABASE_URL", "DATABASE_URL_FILE", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_PASSWORD_FILE", "DB_HOST", "DB_PORT"} {
		if value, ok := lookup(name); ok && value == "" {
			names = append(names, name)
		}
	}
	return names
}

// warnings are about settings for PostgreSQL where SQLite is used: perhaps it was
// not meant to be.
func (s *databaseSettings) warnings() (lines []string) {
	if s.postgresURL() != "" {
		return nil
	}
	var idle []string
	if s.DBPoolSize != defaultPoolSize {
		idle = append(idle, "DB_POOL_SIZE")
	}
	if s.DBSSLMode != defaultSSLMode {
		idle = append(idle, "DB_SSLMODE")
	}
	const used = "the embedded SQLite store in "
	if len(s.EmptyVariables) > 0 {
		lines = append(lines, strings.Join(s.EmptyVariables, ", ")+" is set to nothing, which counts as not set: "+used+s.DataDir+" is used")
	}
	if len(idle) > 0 {
		lines = append(lines, strings.Join(idle, ", ")+" has no effect without DATABASE_URL, DB_NAME or DB_HOST: "+used+s.DataDir+" is used")
	}
	return lines
}

// checkDatabase refuses settings that name no database.
func (s *databaseSettings) checkDatabase() error {
	if s.DatabaseURL != "" {
		if strings.TrimSpace(s.DatabaseURL) != s.DatabaseURL || strings.ContainsAny(s.DatabaseURL, "\r\n") {
			return errors.New("DATABASE_URL must be one line, and must not begin or end with white space")
		}
		return nil // what else is wrong with it is found where it is read
	}
	if s.DBPort != nil && (*s.DBPort < 1 || *s.DBPort > 65535) {
		return fmt.Errorf("DB_PORT must be from 1 to 65535; got %d", *s.DBPort)
	}
	if modes := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}; !slices.Contains(modes, s.DBSSLMode) {
		return fmt.Errorf("DB_SSLMODE must be one of %s; got %q", strings.Join(modes, ", "), s.DBSSLMode)
	}
	if s.DBHost == nil || strings.HasPrefix(*s.DBHost, "/") {
		return nil
	}
	for host := range strings.SplitSeq(*s.DBHost, ",") {
		host = strings.TrimSpace(host)
		if _, err := netip.ParseAddr(host); err != nil && (host == "" || strings.ContainsAny(host, ":/@[] \t\r\n")) {
			return errors.New("DB_HOST must be a host without a port, for example db1, or several hosts, for example db1,db2; DB_PORT is the port of all of them")
		}
	}
	return nil
}

func (s *databaseSettings) postgresURL() string {
	if s.DatabaseURL != "" {
		return s.DatabaseURL
	}
	if !s.namesPostgres() {
		return ""
	}
	or := func(value *string, fallback string) string {
		if value == nil {
			return fallback
		}
		return *value
	}
	port := 5432
	if s.DBPort != nil {
		port = *s.DBPort
	}
	user := url.User(or(s.DBUser, "postgres"))
	if s.DBPassword != nil {
		user = url.UserPassword(or(s.DBUser, "postgres"), *s.DBPassword)
	}
	path := "/" + or(s.DBName, "zapier_triggers")
	rawPath := "/" + strings.ReplaceAll(url.PathEscape(path[1:]), "@", "%40") // an @ in a name is not that after the user
	if strings.HasPrefix(or(s.DBHost, ""), "/") {                             // the folder of a socket
		query := url.Values{"host": {*s.DBHost}, "port": {strconv.Itoa(port)}, "sslmode": {"disable"}}
		return (&url.URL{Scheme: "postgres", User: user, Path: path, RawPath: rawPath, RawQuery: query.Encode()}).String()
	}
	var hosts []string
	for host := range strings.SplitSeq(or(s.DBHost, "localhost"), ",") {
		hosts = append(hosts, net.JoinHostPort(strings.TrimSpace(host), strconv.Itoa(port)))
	}
	u := url.URL{
		Scheme: "postgres", User: user, Host: strings.Join(hosts, ","),
		Path: path, RawPath: rawPath,
		RawQuery: url.Values{"sslmode": {s.DBSSLMode}}.Encode(),
	}
	return u.String()
}
