package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// fileOf makes a file with a content.
func fileOf(t *testing.T, content string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Each setting that is a secret can be in a file.
func TestSecretsInFiles(t *testing.T) {
	t.Parallel()
	env := map[string]string{
		"ADMIN_TOKEN_FILE": fileOf(t, "the token\n"), "SECRET_KEY_FILE": fileOf(t, "one,two\r\n"), "DB_PASSWORD_FILE": fileOf(t, " p \n\n"),
		"DATABASE_URL_FILE": fileOf(t, "postgres://h/x"), "DATABASE_URL": "", "DEV_FILE": "/not/there",
	}
	set := parsed(t, env)
	if set.AdminToken != "the token" || strings.Join(set.SecretKey, ";") != "one;two" || *set.DBPassword != " p " || set.DatabaseURL != "postgres://h/x" {
		t.Errorf("it read %q, %q, %q, %q", set.AdminToken, set.SecretKey, *set.DBPassword, set.DatabaseURL)
	}
	if set := parsed(t, env, "--admin-token", "flag"); set.AdminToken != "flag" {
		t.Errorf("a flag does not win over a file: %q", set.AdminToken)
	}
	api := newFakeAPI(t, always(200, `{"organization":{"id":1},"data":[]}`))
	for line, env := range map[string]map[string]string{
		"me":       {"TRIGGERD_URL": api.URL, "TRIGGERD_KEY_FILE": fileOf(t, "sk_1\n")},
		"org list": {"TRIGGERD_URL": api.URL, "ADMIN_TOKEN_FILE": fileOf(t, "sk_1\n")},
	} {
		got := runCLI(t.Context(), env, nil, strings.Fields(line)...)
		if sent := api.header.Get("Authorization"); got.err != nil || sent != "Bearer sk_1" {
			t.Errorf("%s: %v, sent %q", line, got.err, sent)
		}
	}
}

// What is wrong with a file is told by the setting and the path, and never by
// what is in it.
func TestSecretsInBadFiles(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), patience) // a server that starts would go on
	defer cancel()
	dir, missing := t.TempDir(), filepath.Join(t.TempDir(), "none")
	empty, zero, huge := fileOf(t, "\n"), fileOf(t, "hidden\x00"), fileOf(t, strings.Repeat("hidden", 20_000))
	token, marked := fileOf(t, "hidden\n"), fileOf(t, "\ufeffhidden\n")
	for _, tt := range []struct{ name, path, want string }{
		{"ADMIN_TOKEN", missing, "ADMIN_TOKEN_FILE: the file " + missing + " cannot be read: no such file or directory"},
		{"SECRET_KEY", dir, "SECRET_KEY_FILE: the file " + dir + " cannot be read: is a directory"},
		{"DB_PASSWORD", empty, "DB_PASSWORD_FILE: the file " + empty + " is empty"},
		{"DATABASE_URL", zero, "DATABASE_URL_FILE: the file " + zero + " is not text"},
		{"DATABASE_URL", marked, "DATABASE_URL_FILE: the file " + marked + " begins with a byte order mark: save it as UTF-8 without one"},
		{"ADMIN_TOKEN", huge, "ADMIN_TOKEN_FILE: the file " + huge + " is over 65536 bytes"},
	} {
		for _, command := range []string{"serve", "check"} {
			env := map[string]string{"PORT": "0", "DATA_DIR": dir, tt.name + "_FILE": tt.path}
			if _, err := runProgram(ctx, env, command); err == nil || oneLine(err) != tt.want {
				t.Errorf("%s: error %v, want %s", command, err, tt.want)
			}
		}
	}
	env := map[string]string{"PORT": "0", "DATA_DIR": dir, "ADMIN_TOKEN_FILE": token, "ADMIN_TOKEN": "hidden"}
	if _, err := runProgram(ctx, env, "serve"); err == nil || err.Error() != "ADMIN_TOKEN and ADMIN_TOKEN_FILE are both set: set only one of them" {
		t.Errorf("error %v", err)
	}
	for name, file := range map[string]string{"SECRET_KEY": token, "DATABASE_URL": token, "ADMIN_TOKEN": fileOf(t, " hidden \n")} {
		env := map[string]string{"PORT": "0", "DATA_DIR": dir, name + "_FILE": file}
		if _, err := runProgram(ctx, env, "serve"); err == nil || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestSecretsAreMarked holds that no setting is a secret without being marked.
func TestSecretsAreMarked(t *testing.T) {
	t.Parallel()
	var cli commands
	parser, err := newParser(&cli, noEnvironment, &bytes.Buffer{}, &bytes.Buffer{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, marked := regexp.MustCompile(`(?i)token|secret|password|database-url|^key$`), map[string]bool{}
	err = kong.Visit(parser.Model, func(at kong.Visitable, next kong.Next) error {
		if node, ok := at.(*kong.Node); ok {
			for _, flag := range node.Flags {
				if name := variableOf(flag.Value); name != "" && secret.MatchString(flag.Name) != flag.Tag.Has("secret") {
					t.Errorf("%s: --%s, %s, is marked as a secret: %v", node.FullPath(), flag.Name, name, flag.Tag.Has("secret"))
				}
				if flag.Tag.Has("secret") {
					marked[fileVariableOf(flag.Value)] = true
				}
			}
		}
		return next(nil)
	})
	if err != nil || len(marked) != 5 {
		t.Errorf("%v, marked are %v", err, marked)
	}
	out, err := runProgram(t.Context(), nil, "serve", "--help")
	if text := strings.Join(strings.Fields(out), " "); err != nil || !strings.Contains(text, "[$ADMIN_TOKEN, $ADMIN_TOKEN_FILE]") {
		t.Errorf("%v: the help does not name the variable: %s", err, out)
	}
}
