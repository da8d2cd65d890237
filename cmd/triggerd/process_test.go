package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// process is the program, running as a process of its own.
type process struct {
	testServer
	cmd  *exec.Cmd
	log  *strings.Builder // complete once the process has ended
	out  io.Closer        // where the log is read
	read sync.WaitGroup
}

// startProcess runs `triggerd serve` on the test's database and waits until it
// listens. What is left of it is killed at the end of the test.
func startProcess(t *testing.T, db *storetest.DB, args ...string) *process {
	t.Helper()
	return startProgram(t, os.Args[0], db, args...)
}

// startProgram is startProcess for a program of another version.
func startProgram(t *testing.T, program string, db *storetest.DB, args ...string) *process {
	t.Helper()
	args = append([]string{
		"serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir", db.Options.DataDir,
		"--rate-limit-rpm", "0", "--delivery-timeout", "1s",
	}, args...)
	p := &process{cmd: endWithTest(exec.Command(program, args...)), log: &strings.Builder{}}
	p.client = &http.Client{
		Transport: &http.Transport{MaxConnsPerHost: 64, MaxIdleConnsPerHost: 64}, Timeout: patience,
	}
	p.cmd.Env = programEnv(db)
	out, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(t, syscall.SIGKILL) })
	address := make(chan string, 1)
	p.read.Go(func() { p.follow(out, address) })
	select {
	case a := <-address:
		if a == "" {
			p.end(t, syscall.SIGKILL)
			t.Fatalf("the server did not start:\n%s", p.log)
		}
		p.URL = "http://" + a
	case <-time.After(patience):
		t.Fatal("the server does not listen")
	}
	return p
}

// programEnv is the environment of a program that uses the test's database.
func programEnv(db *storetest.DB) []string {
	env := append(os.Environ(), asProgram+"=1")
	if db.IsPostgres() {
		env = append(env, "DATABASE_URL="+db.Options.PostgresURL)
	}
	return env
}

// refusal runs `triggerd serve` on a database that it must not open, and
// returns what it says at last: before, it may tell what it waits for.
func refusal(t *testing.T, db *storetest.DB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args = append([]string{"serve", "--listen", "127.0.0.1:0", "--data-dir", db.Options.DataDir}, args...)
	cmd := endWithTest(exec.CommandContext(ctx, os.Args[0], args...))
	cmd.Env = programEnv(db)
	said, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the program ended with %v, want exit code 1:\n%s", err, said)
	}
	return string(said[max(0, bytes.Index(said, []byte("triggerd: "))):])
}

// notTested says aloud that something here cannot be tested; with CI set that
// is a failure.
func notTested(t *testing.T, format string, args ...any) {
	t.Helper()
	message := "NOT TESTED: " + fmt.Sprintf(format, args...)
	if os.Getenv("CI") != "" {
		t.Error(message)
		return
	}
	t.Log(message)
}

// follow keeps the log and finds the address in it.
func (p *process) follow(out io.Reader, address chan<- string) {
	defer close(address)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.log.WriteString(lines.Text() + "\n")
		if _, rest, ok := strings.Cut(lines.Text(), "msg=listening address="); ok {
			a, _, _ := strings.Cut(rest, " ")
			address <- a
		}
	}
}

// closeLog stops reading the log.
func (p *process) closeLog() {
	_ = p.out.Close()
	p.read.Wait()
}

// end sends a signal and returns the exit code; -1 if a signal ended it.
func (p *process) end(t *testing.T, signal syscall.Signal) int {
	t.Helper()
	p.client.CloseIdleConnections()
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(signal)
		p.read.Wait()
		_ = p.cmd.Wait()
	}
	return p.cmd.ProcessState.ExitCode()
}

// wait waits until the process has ended by itself, and returns its exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	ended := make(chan struct{})
	go func() {
		p.read.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the process does not end")
	}
	return p.end(t, syscall.SIGKILL)
}

// tryEvent posts an event; ok is false if there was no acknowledgement, in
// which case it may be stored or not.
func (p *process) tryEvent(key, body string) (answer eventAnswer, ok bool) {
	req, err := http.NewRequest(http.MethodPost, p.URL+"/api/events", strings.NewReader(body))
	if err != nil {
		return answer, false
	}
	req.Header.Set("X-Api-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return answer, false
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return answer, err == nil && resp.StatusCode == http.StatusOK
}
