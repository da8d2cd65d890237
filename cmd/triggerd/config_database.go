package main

import (
	"net"
	"net/url"
	"strconv"
	"strings"
)

// databaseSettings say which database it is: PostgreSQL if anything of it is
// set, and the embedded SQLite store otherwise. They are all that a command
// needs to reach the database.
type databaseSettings struct {
	DataDir string `help:"Folder of the embedded SQLite store." default:"./data" type:"path"`

	DatabaseURL string  `name:"database-url" help:"PostgreSQL to use instead, as a URL or connection string. It wins over the DB settings." secret:""`
	DBName      *string `name:"db-name" help:"PostgreSQL database. Default: zapier_triggers, where any DB setting is given."`
	DBUser      *string `name:"db-user" help:"PostgreSQL user. Default: postgres."`
	DBPassword  *string `name:"db-password" help:"PostgreSQL password. Default: none." secret:""`
	DBHost      *string `name:"db-host" help:"PostgreSQL host. Default: localhost."`
	DBPort      *int    `name:"db-port" help:"PostgreSQL port. Default: 5432."`
	DBPoolSize  int     `name:"db-pool-size" help:"Connections kept to PostgreSQL, at least 2." default:"10"`
	DBSSLMode   string  `name:"db-sslmode" help:"As PostgreSQL's sslmode." default:"prefer"`

	SecretKey []string `help:"Keys that secrets of webhooks are encrypted with in the database, each 32 random bytes in base64. The first encrypts, all decrypt; docs/operations.md says how to change them." placeholder:"KEY,OLD-KEY" secret:""`
}

func (s *databaseSettings) postgresURL() string {
	if s.DatabaseURL != "" {
		return s.DatabaseURL
	}
	if s.DBName == nil && s.DBUser == nil && s.DBPassword == nil && s.DBHost == nil && s.DBPort == nil {
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
	u := url.URL{
		Scheme: "postgres", User: user,
		Host: net.JoinHostPort(or(s.DBHost, "localhost"), strconv.Itoa(port)),
		Path: path, RawPath: rawPath,
		RawQuery: url.Values{"sslmode": {s.DBSSLMode}}.Encode(),
	}
	return u.String()
}
