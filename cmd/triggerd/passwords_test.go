package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// ender ends a context with the first line that is written.
type ender struct {
	bytes.Buffer
	end context.CancelFunc
}

func (e *ender) Write(p []byte) (int, error) {
	defer e.end()
	return e.Buffer.Write(p)
}

// No part of a password is in what a start says, however the password stands in
// a setting. The two parts of it are "hunter" and "tiger".
func TestNoPasswordIsTold(t *testing.T) {
	t.Parallel()
	const database, password, token, key = "DATABASE_URL", "DB_PASSWORD", "ADMIN_TOKEN", "SECRET_KEY"
	for _, tt := range []struct{ name, value string }{
		{database, "postgres://user:hunter@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter@tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter@tiger:5@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter@tiger/x@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter/tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:12/tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:1?hunter/tiger=x@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter:tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter#tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter%tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter tiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter\ntiger@127.0.0.1:1/tdb"},
		{database, "postgres://user:hunter"},
		{database, "postgres://user%3Ahunter%40tiger@127.0.0.1:1/tdb"},
		{database, "postgres:///user:hunter@tiger/tdb"},
		{database, "postgres:/user:hunter@127.0.0.1:1/tiger"},
		{database, "postgres//user:hunter@127.0.0.1:1/tiger"},
		{database, "Postgres://user:hunter@127.0.0.1:1/tdb?sslmode=tiger"},
		{database, "mysql://user:hunter@127.0.0.1:1/tiger"},
		{database, "user:hunter@127.0.0.1:1/tiger"},
		{database, "hunter"},
		{database, "postgres://user:hunter@127.0.0.1:1,127.0.0.1:1/tdb?connect_timeout=1"},
		{database, "postgres://user:hunter@127.0.0.1:x,127.0.0.1:tiger/tdb"},
		{database, "postgres://127.0.0.1:1/tdb?user=user&password=hunter&sslmode=disable"},
		{database, "postgres://127.0.0.1:1/tdb?user=user&password=hunter#tiger@x"},
		{database, "postgres://127.0.0.1:1/tdb?user=user&password=hunter&tiger"},
		{database, "postgres://user:hunter@127.0.0.1:1/tdb?sslmode=tiger"},
		{database, "postgres://user:hunter@127.0.0.1:1/tdb?pool_max_conns=tiger"},
		{database, "host=127.0.0.1 port=1 user=user password=hunter dbname=tdb"},
		{database, "host=127.0.0.1 port=1 user=user password='hunter tiger' dbname=tdb"},
		{database, "host=127.0.0.1 port=1 user=user password='hunter'tiger' dbname=tdb"},
		{database, "host=127.0.0.1 port=1 user=user password='hunter tiger dbname=tdb"},
		{database, "host=127.0.0.1 port=1 user=user password=\"hunter tiger\" dbname=tdb"},
		{database, "host=127.0.0.1 port=1 user=user password=hunter tiger dbname=tdb"},
		{database, `host=127.0.0.1 port=1 user=user password=hunter\ tiger dbname=tdb`},
		{database, "host=127.0.0.1,127.0.0.1 port=1,2 user=user password=hunter dbname=tdb"},
		{database, "host=127.0.0.1 port=x user=user password=hunter dbname=tdb"},
		{password, "hunter@tiger"},
		{password, "hunter'/?#&%tiger"},
		{"DB_HOST", "user:hunter@tiger"},
		{"DB_HOST", "user:hunter@127.0.0.1"},
		{token, " hunter tiger"},
		{token, "hunter\ntiger "},
		{key, "hunter,tiger"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		log := &ender{end: cancel}
		env := map[string]string{"LISTEN": "127.0.0.1:0", "DATA_DIR": t.TempDir(), tt.name: tt.value}
		if tt.name == password {
			env["DB_HOST"], env["DB_PORT"] = "127.0.0.1", "1"
		}
		err := run(ctx, []string{"serve"}, func(name string) string { return env[name] }, log, log)
		cancel()
		told := log.String()
		if err != nil {
			told += err.Error()
		}
		if told == "" {
			t.Errorf("%s=%q: nothing was told", tt.name, tt.value)
		}
		for _, part := range []string{"hunter", "tiger"} {
			if strings.Contains(strings.ToLower(told), part) {
				t.Errorf("%s=%q: %s", tt.name, tt.value, told)
			}
		}
	}
}
