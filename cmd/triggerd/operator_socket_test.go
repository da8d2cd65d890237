package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// overSocket asks for a path over a socket, and returns the status.
func overSocket(t *testing.T, path, method, target string) int {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://localhost"+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return statusOf(t, transport.RoundTrip, req)
}

// On its own machine the operator needs no token: who may open the socket is
// one. Other routes than the operator's are not there.
func TestOperatorSocket(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"0000", "0077", "0777"} {
		db := storetest.SQLite(t)
		path := filepath.Join(db.Options.DataDir, socketFile)
		program := umasked(t, umask)
		p := startProgram(t, program, db, "--admin-token", strings.Repeat("t", 32))
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o600|os.ModeSocket {
			t.Fatalf("umask %s: %v, %v", umask, info.Mode(), err)
		}
		for request, want := range map[string]int{
			"GET /v1/organizations": 200, "GET /v1/organizations/9": 404, "GET /metrics": 200, "GET /debug/pprof/cmdline": 404, "GET /debug/pprof/heap": 200, "GET /readyz": 200,
			"PUT /v1/organizations": 405, "POST /api/keys/generate": 404, "GET /api/inbox": 404, "GET /docs": 404, "GET /health": 404, "GET /": 404,
		} {
			method, target, _ := strings.Cut(request, " ")
			if got := overSocket(t, path, method, target); got != want {
				t.Errorf("%s: %d, want %d", request, got, want)
			}
		}
		if got := p.asOperator(t, ""); got != 401 {
			t.Errorf("over TCP: %d", got)
		}
		p.end(t, syscall.SIGKILL)
		if _, err := os.Lstat(path); err != nil {
			t.Fatalf("a killed server leaves its socket: %v", err)
		}
		p = startProgram(t, program, db)
		if got := overSocket(t, path, "GET", "/v1/organizations"); got != 200 {
			t.Errorf("after a kill: %d", got)
		}
		if code := p.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket is still there after an orderly stop")
		}
	}
}

// Without a socket the server serves all the same, and says why there is none.
// What is not a socket stays.
func TestNoOperatorSocket(t *testing.T) {
	t.Parallel()
	long := storetest.SQLite(t)
	long.Options.DataDir = filepath.Join(long.Options.DataDir, strings.Repeat("d", maxSocketPath))
	taken := storetest.SQLite(t)
	file := filepath.Join(taken.Options.DataDir, socketFile)
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, db := range map[string]*storetest.DB{"must have at most 107 bytes": long, "not a socket: remove it": taken} {
		p := startProgram(t, os.Args[0], db)
		token, err := readToken(filepath.Join(db.Options.DataDir, tokenFile))
		if got := p.asOperator(t, token); err != nil || got != 200 {
			t.Errorf("%s: %d, %v", want, got, err)
		}
		if code := p.end(t, syscall.SIGTERM); code != 0 || !strings.Contains(p.log.String(), want) {
			t.Errorf("exit code %d, %q is not in\n%s", code, want, p.log)
		}
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "mine" {
		t.Errorf("the file is %q, %v", content, err)
	}
	path := filepath.Join(t.TempDir(), strings.Repeat("s", 200))[:maxSocketPath]
	for _, path := range []string{path, path + "s"} {
		listener, _, err := listenUnix(t.Context(), path)
		if fits := len(path) <= maxSocketPath; fits != (err == nil) {
			t.Errorf("a path of %d bytes: %v", len(path), err)
		}
		if err == nil {
			listener.Close()
		}
	}
}

// A server that stops leaves the socket of another one alone, which has come to
// where its folder was.
func TestSocketOfAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), socketFile)
	first, info, err := listenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	second, _, err := listenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	socket := &operatorSocket{path, first, info, &http.Server{}}
	served := make(chan error, 1)
	go func() { served <- socket.serve() }()
	if err := socket.shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := first.Close(); err == nil {
		t.Error("the first listens on")
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other's socket: %v", err)
	}
}

// The operator's commands go over the socket unless they are told otherwise,
// and never send a token that they were not given: whoever listens on the port
// gets none.
func TestCLIOverSocket(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := startServer(t, db, nil)
	c := &commandLine{map[string]string{"DATA_DIR": db.Options.DataDir}}
	c.do(t, "org", "create", "Example")
	has(t, "org list", c.do(t, "org", "list"), "1 Example free")
	var asked atomic.Int32
	api := newFakeAPI(t, func(string) (int, string) {
		asked.Add(1)
		return 401, `{"title":"Unauthorized","status":401,"code":"unauthorized"}`
	})
	c.env["TRIGGERD_URL"] = api.URL
	c.run(t, "", "org", "list").failsWith(t, "set ADMIN_TOKEN")
	if api.header.Get("Authorization") != "" || asked.Load() == 0 {
		t.Errorf("another server was sent %v", api.header)
	}
	c.env = map[string]string{"DATA_DIR": t.TempDir()}
	c.run(t, "", "org", "list").failsWith(t, socketFile+" cannot be used: no such file", "TRIGGERD_URL and ADMIN_TOKEN")
	c.env = map[string]string{"DATA_DIR": t.TempDir(), "TRIGGERD_URL": s.URL, "ADMIN_TOKEN": s.operatorToken(t)}
	has(t, "org list", c.do(t, "org", "list"), "1 Example free")
	s.stop()
	c.env = map[string]string{"DATA_DIR": db.Options.DataDir}
	c.run(t, "", "org", "list").failsWith(t, "check that the server runs")
}

// --org acts in an organization, over the socket or with the token, and never
// with the key that is there, too.
func TestCLIActs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := startServer(t, db, nil)
		c := newCommandLine(t, s)
		second := newCommandLine(t, s)
		second.do(t, "send", "a", `"of the second"`)
		ways := []map[string]string{{"TRIGGERD_URL": s.URL, "ADMIN_TOKEN": s.operatorToken(t), "TRIGGERD_KEY": c.env["TRIGGERD_KEY"]}}
		if !db.IsPostgres() {
			ways = append(ways, map[string]string{"DATA_DIR": db.Options.DataDir, "TRIGGERD_KEY": c.env["TRIGGERD_KEY"]})
		}
		for _, env := range ways {
			operator := &commandLine{env}
			me := operator.do(t, "me", "--org", "2")
			has(t, "me", me, "organization 2")
			if strings.Contains(me, "scopes") {
				t.Errorf("me shows a key: %s", me)
			}
			if events := lines[client.Event](t, operator, "event", "list", "--org", "2"); len(events) != 1 {
				t.Errorf("%d events of the second", len(events))
			}
			if events := lines[client.Event](t, operator, "event", "list", "--org", "1"); len(events) != 0 {
				t.Errorf("%d events of the first", len(events))
			}
			operator.run(t, "", "me", "--org", "9").failsWith(t, "Not found")
			operator.run(t, "", "me", "--org", "0").failsWith(t, "--org must be the id of an organization")
			operator.run(t, "", "me", "--org=-1").failsWith(t, "--org must be the id of an organization")
		}
		c.env["ADMIN_TOKEN"] = "wrong"
		c.run(t, "", "me", "--org", "2").failsWith(t, "set ADMIN_TOKEN")
		has(t, "me", c.do(t, "me"), "organization 1")
	})
}
