package main

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// integrationsFolder has a folder for each kind of client that comes from npm.
const integrationsFolder = "../../integrations"

// needPackages fails the test where the npm packages of one of these folders
// are missing, and returns the folder's path.
func needPackages(t *testing.T, folder string) string {
	t.Helper()
	version, err := exec.CommandContext(t.Context(), "node", "--version").Output()
	if major, _, _ := strings.Cut(strings.TrimPrefix(string(version), "v"), "."); err != nil || len(major) == 1 || major < "20" {
		t.Fatalf("Node.js is missing or too old (%q, %v): install 20.19 or newer, and npm, then run make test", version, err)
	}
	path, err := filepath.Abs(filepath.Join(integrationsFolder, folder))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(path, "node_modules", ".package-lock.json")); err != nil {
		t.Fatalf("packages of npm are missing: run make test, or npm ci --prefix integrations/%s (%v)", folder, err)
	}
	return path
}

// command ends with the test, at the latest. It runs in a folder, with more in
// its environment.
func command(t *testing.T, folder string, env []string, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := endWithTest(exec.CommandContext(t.Context(), name, args...))
	cmd.Dir, cmd.Env = folder, append(append(os.Environ(), "NO_COLOR=1"), env...)
	cmd.WaitDelay = 10 * time.Second // a child of its may hold the output
	return cmd
}

// runCommand wants a command to end well, and logs the end of what it said.
func runCommand(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	begun := time.Now()
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, said[max(0, len(said)-8000):])
	}
	t.Logf("%s: %.1f s\n%s", strings.Join(cmd.Args, " "), time.Since(begun).Seconds(), said[max(0, len(said)-300):])
}

// clientEnv is how programs learn of the server, and of a new organization.
func (s *testServer) clientEnv(t *testing.T) []string {
	t.Helper()
	return []string{"TRIGGERD_URL=" + s.URL, "TRIGGERD_KEY=" + s.newKey(t, "free")}
}

// startCommand starts a command that serves until the end of the test, and
// returns a function that waits for what it says first that matches.
func startCommand(t *testing.T, cmd *exec.Cmd, ready *regexp.Regexp) (wait func() string) {
	t.Helper()
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = input, input
	err = cmd.Start()
	if err := errors.Join(err, input.Close()); err != nil {
		t.Fatal(err)
	}
	found := make(chan string, 1)
	var said bytes.Buffer
	go func() {
		defer close(found)
		defer output.Close()
		for lines := bufio.NewScanner(output); lines.Scan(); {
			said.WriteString(lines.Text() + "\n")
			if match := ready.FindString(lines.Text()); match != "" && len(found) == 0 {
				found <- match
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Wait() // it was killed
		for range found {
		}
	})
	return func() string {
		select {
		case match, ok := <-found:
			if !ok {
				t.Fatalf("%s has ended:\n%s", strings.Join(cmd.Args, " "), said.Bytes())
			}
			return match
		case <-time.After(patience):
			t.Fatalf("%s does not begin", strings.Join(cmd.Args, " "))
		}
		return ""
	}
}
