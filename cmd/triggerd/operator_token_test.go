package main

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// asOperator asks for the organizations with a token, and returns the status.
func (s *testServer) asOperator(t *testing.T, token string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/v1/organizations", nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return statusOf(t, s.client.Do, req)
}

// On SQLite the first start makes a token, for the owner of the file alone
// whatever the umask is; the next one keeps it. The log has the path, and never
// the token.
func TestTokenIsMade(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"0000", "0022", "0077", "0777"} {
		db := storetest.SQLite(t)
		db.Options.DataDir = filepath.Join(db.Options.DataDir, "data")
		if err := os.Mkdir(db.Options.DataDir, 0o755); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(db.Options.DataDir, tokenFile)
		first := ""
		for run := range 2 {
			p := startProgram(t, umasked(t, umask), db)
			info, err := os.Stat(path)
			if err != nil || info.Mode() != 0o600 {
				t.Fatalf("umask %s: %v, %v", umask, info.Mode(), err)
			}
			token, err := readToken(path)
			if err != nil || run > 0 && token != first {
				t.Errorf("umask %s, start %d: another token, %v", umask, run, err)
			}
			first = token
			if with, without := p.asOperator(t, token), p.asOperator(t, ""); with != 200 || without != 401 {
				t.Errorf("umask %s: %d with the token, %d without", umask, with, without)
			}
			if code := p.end(t, syscall.SIGTERM); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if said := p.log.String(); strings.Contains(said, token) || strings.Contains(said, token[4:]) || !strings.Contains(said, path) {
				t.Errorf("umask %s: the log is\n%s", umask, said)
			}
		}
	}
}

// umasked makes a program that is this one with a umask.
func umasked(t *testing.T, umask string) string {
	t.Helper()
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "umasked")
	text := "#!" + shell + "\numask " + umask + "\nexec '" + os.Args[0] + "' \"$@\"\n"
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return program
}

// A token that others could read is kept from them at the next start. What is
// no token is refused, and left as it is; a half of one, of a crash, is not.
func TestTokenFiles(t *testing.T) {
	t.Parallel()
	set := settings{LogLevel: "info"}
	path := filepath.Join(t.TempDir(), tokenFile)
	log := newLog(t.Output(), set)
	if err := os.WriteFile(path+".new", []byte("tok_half"), 0o644); err != nil {
		t.Fatal(err)
	}
	token, err := keepToken(path, log)
	if err != nil || !trigger.IsOperatorToken(token) {
		t.Fatalf("%q: %v", token, err)
	}
	if _, err := os.Stat(path + ".new"); err == nil {
		t.Error("the half of a token is still there")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if again, err := keepToken(path, log); err != nil || again != token {
		t.Errorf("another token: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	planted := filepath.Join(t.TempDir(), tokenFile)
	if err := os.WriteFile(planted, []byte(token), 0o600); err != nil || os.Geteuid() == 0 && os.Chown(planted, 12345, 12345) != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(planted)
	if err != nil {
		t.Fatal(err)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if err := checkOwner(planted, info, owner+1); err == nil || !strings.Contains(err.Error(), planted) || strings.Contains(err.Error(), token) {
		t.Errorf("a file of another user: %v", err)
	}
	if err := checkOwner(planted, info, owner); err != nil {
		t.Errorf("a file of one's own: %v", err)
	}
	if _, err := keepToken(planted, log); (err == nil) != (owner == os.Geteuid()) {
		t.Errorf("a file of the user %d: %v", owner, err)
	}
	for _, content := range []string{"", "\n", "hidden", token + "x", token + "\n" + token} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := keepToken(path, log)
		if err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "hidden") || strings.Contains(err.Error(), token) {
			t.Errorf("%q: %v", content, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != content {
			t.Errorf("%q has become %q, %v", content, left, err)
		}
	}
}

// The commands show what the server has made.
func TestTokenCommands(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	env := map[string]string{"DATA_DIR": db.Options.DataDir}
	path := filepath.Join(db.Options.DataDir, tokenFile)
	if _, err := runProgram(t.Context(), env, "token", "show"); err == nil || !strings.Contains(err.Error(), "the file "+path+" does not exist") {
		t.Errorf("before the first start: %v", err)
	}
	s := startServer(t, db, nil)
	out, err := runProgram(t.Context(), env, "token", "show")
	if token := strings.TrimSuffix(out, "\n"); err != nil || token != s.operatorToken(t) || s.asOperator(t, token) != 200 {
		t.Errorf("token show: %q, %v", out, err)
	}
	if out, err := runProgram(t.Context(), env, "token", "path"); err != nil || out != path+"\n" {
		t.Errorf("token path: %q, %v", out, err)
	}
	if _, err := runProgram(t.Context(), env, "token", "new"); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("token new: %v", err)
	}
	env["DB_NAME"] = "x"
	for _, command := range []string{"show", "path"} {
		if _, err := runProgram(t.Context(), env, "token", command); err == nil || !strings.Contains(err.Error(), "triggerd token new") {
			t.Errorf("token %s on PostgreSQL: %v", command, err)
		}
	}
}

// A server with an ADMIN_TOKEN makes no other.
func TestAdminTokenAlone(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := startServer(t, db, func(set *settings) { set.AdminToken = "operator" })
	if s.asOperator(t, "operator") != 200 || s.asOperator(t, "") != 401 {
		t.Error("it does not go by ADMIN_TOKEN")
	}
	if _, err := os.Stat(filepath.Join(db.Options.DataDir, tokenFile)); err == nil {
		t.Error("it has made a token")
	}
}

// token new makes a token for all nodes of a database, which takes the place of
// the one before within 5 s, and with which a server may listen beyond loopback.
func TestTokenNew(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		beyond := map[string]string{"DATABASE_URL": db.Options.PostgresURL, "LISTEN": "0.0.0.0:0"}
		if _, err := runProgram(t.Context(), beyond, "serve"); err == nil || !strings.Contains(err.Error(), "triggerd token new") {
			t.Errorf("beyond loopback without a token: %v", err)
		}
		nodes := []*testServer{startServer(t, db, nil), startServer(t, db, nil)}
		before := ""
		for range 3 {
			token := makeToken(t, db)
			if token == before {
				t.Fatal("the same token again")
			}
			db.Clock.Advance(5 * time.Second)
			for n, node := range nodes {
				if status := node.asOperator(t, token); status != 200 {
					t.Errorf("node %d: %d with the token", n, status)
				}
				if before != "" && node.asOperator(t, before) != 401 {
					t.Errorf("node %d takes the token before", n)
				}
			}
			before = token
		}
		for _, node := range nodes {
			node.stop()
		}
		p := startProgram(t, os.Args[0], db, "--listen", "0.0.0.0:0")
		if with, without := p.asOperator(t, before), p.asOperator(t, ""); with != 200 || without != 401 {
			t.Errorf("beyond loopback: %d with the token, %d without", with, without)
		}
		for path, want := range map[string]int{"/metrics": 401, "/readyz": 200} {
			if got := p.get(t, "", path).status; got != want {
				t.Errorf("beyond loopback: %s is %d, want %d", path, got, want)
			}
		}
		if got := p.post(t, "", "/api/keys/generate", `{"organization_name":"O"}`); got.status != 401 {
			t.Errorf("beyond loopback: signup is %d", got.status)
		}
	})
}

// makeToken runs token new.
func makeToken(t *testing.T, db *storetest.DB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := runProgram(ctx, map[string]string{"DATABASE_URL": db.Options.PostgresURL}, "token", "new")
	token := strings.TrimSuffix(out, "\n")
	if err != nil || !trigger.IsOperatorToken(token) {
		t.Fatalf("token new: %q, %v", out, err)
	}
	return token
}

// An ADMIN_TOKEN that can be guessed is refused beyond loopback, and else only
// warned of.
func TestShortAdminToken(t *testing.T) {
	t.Parallel()
	for token, want := range map[string]string{
		strings.Repeat("t", 31): "ADMIN_TOKEN must have at least 32 characters", strings.Repeat("é", 31): "got 31", "t": "openssl rand",
	} {
		for _, signup := range []string{"", "true"} {
			env := map[string]string{"LISTEN": "0.0.0.0:0", "DATA_DIR": t.TempDir(), "ADMIN_TOKEN": token, "OPEN_SIGNUP": signup}
			_, err := runProgram(t.Context(), env, "serve")
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token+token) {
				t.Errorf("%s: %v", token, err)
			}
		}
	}
	for token, warns := range map[string]bool{"short": true, strings.Repeat("t", 32): false} {
		p := startProgram(t, os.Args[0], storetest.SQLite(t), "--admin-token", token)
		if code := p.end(t, syscall.SIGTERM); code != 0 || strings.Contains(p.log.String(), "ADMIN_TOKEN can be guessed") != warns {
			t.Errorf("%s: exit code %d, the log is\n%s", token, code, p.log)
		}
	}
	p := startProgram(t, os.Args[0], storetest.SQLite(t), "--admin-token", strings.Repeat("t", 32), "--listen", "0.0.0.0:0")
	if got := p.asOperator(t, strings.Repeat("t", 32)); got != 200 {
		t.Errorf("beyond loopback: %d", got)
	}
}
