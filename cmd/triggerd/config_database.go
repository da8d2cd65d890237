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

// databaseSettings select the database: PostgreSQL if any of its settings is
// set, otherwise the embedded SQLite store. A command needs only these to open
// the database.
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

	EmptyVariables []string `kong:"-"` // names of variables that locate PostgreSQL, and are empty

	SecretKey []string `help:"Keys that encrypt the secrets of webhooks in the database, each 32 random bytes in base64. The first encrypts, all decrypt; see docs/operations.md for how to change them." placeholder:"KEY,OLD-KEY" secret:""`
}

// defaultPoolSize and defaultSSLMode are the defaults of DB_POOL_SIZE and
// DB_SSLMODE.
const (
	defaultPoolSize = 10
	defaultSSLMode  = "prefer"
)

// namesPostgres reports whether one of the DB settings locates PostgreSQL.
func (s *databaseSettings) namesPostgres() bool {
	return s.DBName != nil || s.DBUser != nil || s.DBPassword != nil || s.DBHost != nil || s.DBPort != nil
}

// emptyVariables returns the variables that locate PostgreSQL and are empty.
func emptyVariables(lookup func(name string) (value string, ok bool)) (names []string) {
	for _, name := range []string{"DATABASE_URL", "DATABASE_URL_FILE", "DB_NAME", "DB_USER", "DB_PASSWORD", "DB_PASSWORD_FILE", "DB_HOST", "DB_PORT"} {
		if value, ok := lookup(name); ok && value == "" {
			names = append(names, name)
		}
	}
	return names
}

// warnings returns lines about settings for PostgreSQL if SQLite is used,
// perhaps by mistake.
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

// checkDatabase returns an error for invalid settings of the database.
func (s *databaseSettings) checkDatabase() error {
	if s.DatabaseURL != "" {
		if strings.TrimSpace(s.DatabaseURL) != s.DatabaseURL || strings.ContainsAny(s.DatabaseURL, "\r\n") {
			return errors.New("DATABASE_URL must be one line, and must not begin or end with white space")
		}
		return nil // other errors are found when it is parsed
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
	rawPath := "/" + strings.ReplaceAll(url.PathEscape(path[1:]), "@", "%40") // an @ in a name must differ from the one after the user
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
