package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// portOf returns the port of a server's URL.
func portOf(url string) string { return url[strings.LastIndexByte(url, ':')+1:] }

// health runs the health command for a server at an address.
func health(ctx context.Context, listen string, args ...string) (said string, err error) {
	return runProgram(ctx, map[string]string{"LISTEN": listen, "SECRET_KEY": "not read", "DATABASE_URL": "not read"}, append([]string{"health"}, args...)...)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := startServer(t, storetest.SQLite(t), nil)
	port := portOf(s.URL)
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port, "localhost:" + port} {
		said, err := health(t.Context(), listen)
		if err != nil || !strings.HasPrefix(said, "http://") || !strings.HasSuffix(said, ":"+port+"/readyz: ok\n") || strings.Count(said, "\n") != 1 {
			t.Errorf("%s: %q, %v", listen, said, err)
		}
	}
	if said, err := runProgram(t.Context(), map[string]string{"PORT": port}, "health", "--live"); err != nil || said != s.URL+"/livez: ok\n" {
		t.Errorf("%q, %v", said, err)
	}
	s.server.stopping.Store(true)
	defer s.server.stopping.Store(false)
	want := s.URL + "/readyz: status 503, unavailable; stopping: this node is stopping"
	if said, err := health(t.Context(), "127.0.0.1:"+port); err == nil || err.Error() != want || said != "" {
		t.Errorf("%q, %v, want %s", said, err, want)
	}
	if said, err := health(t.Context(), "127.0.0.1:"+port, "--live"); err != nil || said != s.URL+"/livez: ok\n" {
		t.Errorf("%q, %v", said, err)
	}
}

// Without a server, or with another one, it says so in one line.
func TestHealthOfNoServer(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	other := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	soon, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for _, tt := range []struct {
		ctx          context.Context
		listen, want string
	}{
		{t.Context(), closed.Addr().String(), "no answer: connection refused; check that the server runs"},
		{soon, silent(t), "no answer: it did not answer within 5s"},
		{t.Context(), other(200, "hello"), "not the answer of a triggerd"},
		{t.Context(), other(302, "{}"), "status 302, and not the answer of a triggerd"},
		{t.Context(), other(500, `{"status":"ok"}`), "status 500, ok"},
		{t.Context(), "127.0.0.1:0", "the system chooses the port"},
		{t.Context(), "here", "LISTEN must be host:port"},
	} {
		said, err := health(tt.ctx, tt.listen)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") || said != "" {
			t.Errorf("%s: %q, %v, want %s", tt.listen, said, err, tt.want)
		}
	}
	cmd := endWithTest(exec.CommandContext(t.Context(), os.Args[0], "health"))
	cmd.Env = append(os.Environ(), asProgram+"=1", "LISTEN="+closed.Addr().String())
	if said, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 1 || strings.Count(string(said), "\n") != 1 || !strings.HasPrefix(string(said), "triggerd: http://") {
		t.Errorf("exit code %d, %q", cmd.ProcessState.ExitCode(), said)
	}
}

// A server that speaks HTTPS where HTTP is expected is told from another
// program, and so is the reverse.
func TestHealthOverTheOtherScheme(t *testing.T) {
	t.Parallel()
	plain := startServer(t, storetest.SQLite(t), nil)
	c := newCertified(t)
	secure := startServer(t, storetest.SQLite(t), func(s *settings) { s.TLSCert, s.TLSKey = c.cert, c.key })
	for _, tt := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"PORT": portOf(secure.URL)}, "the server there speaks HTTPS: set TLS_CERT"},
		{map[string]string{"PORT": portOf(plain.URL), "TLS_CERT": c.cert, "TLS_KEY": c.key}, "the server there does not speak HTTPS: unset TLS_CERT"},
	} {
		if said, err := runProgram(t.Context(), tt.env, "health"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q, %v, want %s", said, err, tt.want)
		}
	}
}

func TestURLOfServer(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"": "http://127.0.0.1:5001", ":80": "http://127.0.0.1:80", "0.0.0.0:80": "http://127.0.0.1:80", "[::]:80": "http://[::1]:80",
		"[::ffff:0.0.0.0]:80": "http://127.0.0.1:80", "10.0.0.1:80": "http://10.0.0.1:80", "name:http": "http://name:http",
	} {
		if got, err := (&listenSettings{Listen: listen, Port: 5001}).url(); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", listen, got, err, want)
		}
	}
}
