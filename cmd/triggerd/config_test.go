package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// runProgram runs the program with an environment, and returns what it said.
func runProgram(ctx context.Context, env map[string]string, args ...string) (out string, err error) {
	var stdout, stderr bytes.Buffer
	err = run(ctx, args, func(name string) string { return env[name] }, &stdout, &stderr)
	return stdout.String() + stderr.String(), err
}

// silent is an address where somebody listens and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// What cannot work is refused with one line that names the setting.
func TestStartErrors(t *testing.T) {
	t.Parallel()
	busy := silent(t)
	folder := t.TempDir()
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, value, want string }{
		{"PORT", "abc", "PORT (--port)"},
		{"PORT", "70000", "PORT must be from 0 to 65535"},
		{"LISTEN", "here", "LISTEN must be host:port"},
		{"LISTEN", "0.0.0.0:0", "set ADMIN_TOKEN"},
		{"LISTEN", ":0", "set ADMIN_TOKEN"},
		{"LISTEN", ":0", "triggerd token new"},
		{"LISTEN", ":5001x", `with a port from 0 to 65535; got the port "5001x"`},
		{"LISTEN", ":70000", `got the port "70000"`},
		{"LISTEN", ":0", "OPEN_SIGNUP=true"},
		{"LISTEN", busy, "already in use"},
		{"DATA_DIR", file, "--data-dir"},
		{"DATABASE_URL", "nonsense password=hidden", "not a PostgreSQL connection string"},
		{"DATABASE_URL", "postgres://u:hidden@h/x\n", "DATABASE_URL must be one line"},
		{"DATABASE_URL", " postgres://u:hidden@h/x", "must not begin or end with white space"},
		{"DATABASE_URL", "postgres://u:hidden@h/x?default_query_exec_mode=exec", "default_query_exec_mode must be"},
		{"DB_HOST", "db1:5433", "DB_HOST must be a host without a port"},
		{"DB_HOST", "postgres://u:hidden@h", "DB_HOST must be a host without a port"},
		{"DB_HOST", "db1,,db2", "DB_HOST must be a host"},
		{"DB_SSLMODE", "disabled", `DB_SSLMODE must be one of disable, allow, prefer, require, verify-ca, verify-full; got "disabled"`},
		{"DB_PORT", "0", "DB_PORT must be from 1 to 65535; got 0"},
		{"DB_PORT", "x", "DB_PORT (--db-port)"},
		{"DB_POOL_SIZE", "1", "DB_POOL_SIZE must be from 2"},
		{"RATE_LIMIT_RPM", "-1", "RATE_LIMIT_RPM must be from 0"},
		{"RATE_LIMIT_RPM_ENTERPRISE", "-1", "RATE_LIMIT_RPM_ENTERPRISE must be"},
		{"DEDUP_MAX_SIZE", "0", "DEDUP_MAX_SIZE must be from 1"},
		{"MAX_BODY_BYTES", "10", "MAX_BODY_BYTES must be"},
		{"ALLOWED_TARGETS", "10.0.0.1/33", `ALLOWED_TARGETS (--allowed-targets): "10.0.0.1/33" is not a network: want a CIDR`},
		{"TRUSTED_PROXIES", "10.0.0.1, here,::1", `TRUSTED_PROXIES (--trusted-proxies): "here" is not a network`},
		{"RETRY_SCHEDULE", "5s,soon", "RETRY_SCHEDULE (--retry-schedule)"},
		{"DELIVERY_TIMEOUT", "31s", "DELIVERY_TIMEOUT must be"},
		{"RETENTION", "2d", "RETENTION must be at least"},
		{"RETENTION", "x", "RETENTION (--retention)"},
		{"IDLE_TIMEOUT", "500ms", "IDLE_TIMEOUT must be from 1s to 24h, for example 620s; got 500ms"},
		{"IDLE_TIMEOUT", "25h", "IDLE_TIMEOUT must be from 1s to 24h"},
		{"IDLE_TIMEOUT", "620", "IDLE_TIMEOUT (--idle-timeout)"},
		{"DEDUP_RETENTION", "1s", "DEDUP_RETENTION must be"},
		{"PUBLIC_URL", "triggerd.example.com", "PUBLIC_URL must be an absolute http or https URL"},
		{"PUBLIC_URL", "ftp://example.com", "PUBLIC_URL must be"},
		{"PUBLIC_URL", "https://", "PUBLIC_URL must be"},
		{"PUBLIC_URL", "https://:443", "PUBLIC_URL must be"},
		{"PUBLIC_URL", "https://hidden:hidden@example.com", "PUBLIC_URL must be"},
		{"PUBLIC_URL", "https://example.com/?a", "PUBLIC_URL must be"},
		{"PUBLIC_URL", "https://example.com/#", "PUBLIC_URL must be"},
		{"PUBLIC_URL", "https://exa mple.com", "PUBLIC_URL must be"},
		{"OPEN_SIGNUP", "perhaps", "OPEN_SIGNUP (--open-signup)"},
		{"LOG_LEVEL", "loud", "LOG_LEVEL (--log-level)"},
	}
	for _, test := range tests {
		t.Run(test.name+"="+filepath.Base(test.value), func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"PORT": "0", "DATA_DIR": t.TempDir(), test.name: test.value}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := runProgram(ctx, env, "serve")
			if err == nil || !strings.Contains(err.Error(), test.want) || ctx.Err() != nil {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if line := oneLine(err); strings.ContainsAny(line, "\n\t") || strings.Contains(line, "hidden") {
				t.Errorf("not one clear line: %q", line)
			}
		})
	}
}

// The data folder belongs to one server at a time.
func TestSecondServerIsRefused(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	startServer(t, db, nil)
	_, err := runProgram(t.Context(), map[string]string{"PORT": "0", "DATA_DIR": db.Options.DataDir}, "serve")
	if err == nil || !strings.Contains(err.Error(), "another triggerd") {
		t.Errorf("error %v, want another triggerd", err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"--version", "dev"}, {"--help", "serve"}, {"", "Usage"}, {"serve --help", "[$RETRY_SCHEDULE]"}, {"demo --help", "--count"},
	} {
		out, err := runProgram(t.Context(), nil, strings.Fields(test.args)...)
		if err != nil || !strings.Contains(out, test.want) {
			t.Errorf("triggerd %s: %v, %q is not in %s", test.args, err, test.want, out)
		}
	}
}

// parsed is what settings the environment and the arguments make.
func parsed(t *testing.T, env map[string]string, args ...string) settings {
	t.Helper()
	var cli commands
	parser, err := newParser(&cli, func(name string) string { return env[name] }, t.Output(), t.Output(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(append([]string{"serve"}, args...)); err != nil {
		t.Fatal(err)
	}
	return cli.Serve.settings
}

// Which database it is follows from what is set; an empty value is not.
func TestDatabaseChoice(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		env  map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"DB_NAME": "", "DATABASE_URL": "", "DB_POOL_SIZE": "5", "DB_SSLMODE": "disable"}, ""},
		{map[string]string{"DB_NAME": "x"}, "postgres://postgres@localhost:5432/x?sslmode=prefer"},
		{map[string]string{"DB_HOST": "h", "DB_SSLMODE": "disable"}, "postgres://postgres@h:5432/zapier_triggers?sslmode=disable"},
		{
			map[string]string{"DB_PORT": "6543", "DB_USER": "u", "DB_PASSWORD": "p@/ :"},
			"postgres://u:p%40%2F%20%3A@localhost:6543/zapier_triggers?sslmode=prefer",
		},
		{map[string]string{"DB_NAME": "x", "DATABASE_URL": "postgres://z/y"}, "postgres://z/y"},
		{map[string]string{"DB_HOST": "a, b,::1", "DB_PORT": "6543"}, "postgres://postgres@a:6543,b:6543,[::1]:6543/zapier_triggers?sslmode=prefer"},
	} {
		set := parsed(t, test.env)
		if got := set.postgresURL(); got != test.want {
			t.Errorf("%v makes %q, want %q", test.env, got, test.want)
		}
	}
}

// Settings for PostgreSQL that have no effect are told, and so are empty ones:
// somebody may think that it is used.
func TestIdleDatabaseSettings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		env   map[string]string
		wants []string // in each line
	}{
		"nothing":           {nil, nil},
		"defaults":          {map[string]string{"DB_POOL_SIZE": "10", "DB_SSLMODE": "prefer"}, nil},
		"a pool":            {map[string]string{"DB_POOL_SIZE": "50", "DB_SSLMODE": "verify-full"}, []string{"DB_POOL_SIZE, DB_SSLMODE has no effect"}},
		"empty":             {map[string]string{"DATABASE_URL": "", "DB_HOST": ""}, []string{"DATABASE_URL, DB_HOST is set to nothing"}},
		"with PostgreSQL":   {map[string]string{"DATABASE_URL": "", "DB_HOST": "h", "DB_POOL_SIZE": "50"}, nil},
		"empty, and a mode": {map[string]string{"DATABASE_URL_FILE": "", "DB_SSLMODE": "require"}, []string{"DATABASE_URL_FILE is set", "DB_SSLMODE has"}},
	} {
		set := parsed(t, test.env)
		set.EmptyVariables = emptyVariables(func(name string) (string, bool) {
			value, ok := test.env[name]
			return value, ok
		})
		lines := set.warnings()
		if len(lines) != len(test.wants) {
			t.Errorf("%s: %q, want %d lines", name, lines, len(test.wants))
			continue
		}
		for i, line := range lines {
			if !strings.Contains(line, test.wants[i]) || !strings.HasSuffix(line, "the embedded SQLite store in "+set.DataDir+" is used") {
				t.Errorf("%s: %q, want %q", name, line, test.wants[i])
			}
		}
	}
}

func TestDefaultsAndOverrides(t *testing.T) {
	t.Parallel()
	set := parsed(t, nil)
	if err := set.check(); err != nil {
		t.Error(err)
	}
	if set.listen() != "127.0.0.1:5001" || set.RetrySchedule.String() != trigger.DefaultSchedule().String() ||
		set.Retention.Duration != 30*24*time.Hour || set.DedupMaxSize != 10_000 || set.DBPoolSize != 10 {
		t.Errorf("defaults %+v", set)
	}
	want := "map[enterprise:100000 free:1000 professional:10000]"
	if got := fmt.Sprint(set.limits()); got != want {
		t.Errorf("limits %s, want %s", got, want)
	}
	set = parsed(t, map[string]string{
		"RATE_LIMIT_RPM": "50", "RATE_LIMIT_RPM_ENTERPRISE": "0", "PORT": "6001", "RETENTION": "45d",
	}, "--port", "6002")
	if set.listen() != "127.0.0.1:6002" || set.Retention.Duration != 45*24*time.Hour ||
		fmt.Sprint(set.limits()) != "map[enterprise:0 free:50 professional:500]" {
		t.Errorf("overrides %+v, limits %v", set, set.limits())
	}
}

// A list of networks takes addresses, too, and blanks between its entries.
func TestNetworkSettings(t *testing.T) {
	t.Parallel()
	set := parsed(t, map[string]string{"TRUSTED_PROXIES": " 10.1.2.3/8 , 192.0.2.1,\t::1, 2001:db8::/32 ", "ALLOWED_TARGETS": "::ffff:10.0.0.0/104, ::ffff:192.0.2.1"})
	if got := fmt.Sprint(prefixesOf(set.TrustedProxies)); got != "[10.0.0.0/8 192.0.2.1/32 ::1/128 2001:db8::/32]" {
		t.Errorf("the proxies are %s", got)
	}
	if got := fmt.Sprint(prefixesOf(set.AllowedTargets)); got != "[10.0.0.0/8 192.0.2.1/32]" {
		t.Errorf("the targets are %s", got)
	}
	set = parsed(t, nil, "--trusted-proxies", "10.0.0.1", "--trusted-proxies=10.0.0.2, 10.0.0.3")
	if got := fmt.Sprint(prefixesOf(set.TrustedProxies)); got != "[10.0.0.1/32 10.0.0.2/32 10.0.0.3/32]" {
		t.Errorf("the proxies are %s", got)
	}
}
