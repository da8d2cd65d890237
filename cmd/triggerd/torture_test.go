package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/torture"
)

func TestTortureFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ args, want string }{
		{"--for 1ms", "--for must be"},
		{"--rate 0", "--rate must be"},
		{"--clients 0", "--clients must be"},
		{"--nodes 0", "--nodes must be"},
		{"--nodes 2", "requires --database postgres"},
		{"--faults earthquake", "unknown fault"},
		{"--database postgres://db.example.com/x", "on this machine"},
	} {
		_, err := runProgram(t.Context(), nil, append([]string{"torture"}, strings.Fields(tt.args)...)...)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("torture %s: %v, want %q", tt.args, err, tt.want)
		}
	}
	help, err := runProgram(t.Context(), nil, "torture", "--help")
	if err != nil || !strings.Contains(help, "SIGKILL of a node") || strings.Contains(help, "torture-node") {
		t.Errorf("%v\n%s", err, help)
	}
}

// A short torture of this very program, as a user would start it: the report
// is for programs, the plan and its seed for people.
func TestTorture(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "triggerd-torture-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Log(dir)
	command := tortureCommand{
		For: 5e9, Faults: []string{"kill", "term"}, Database: "sqlite", Nodes: 1, Rate: 100, Clients: 8, JSON: true,
		Program: asProgramItself(t, dir), Dir: dir,
	}
	var out, errOut strings.Builder
	if err := command.run(t.Context(), &out, &errOut); err != nil {
		t.Errorf("%v\n%s\n%s", err, out.String(), errOut.String())
	}
	var report torture.Report
	if err := json.Unmarshal([]byte(out.String()), &report); err != nil {
		t.Fatal(err)
	}
	if report.Counts.Accepted < 100 || report.Faults["kill"]+report.Faults["term"] == 0 || report.Sampled == 0 {
		t.Errorf("hardly anything happened: %s", out.String())
	}
	if !strings.Contains(errOut.String(), "--seed ") {
		t.Errorf("the seed is not told: %s", errOut.String())
	}
}

// asProgramItself is a script that runs this test binary as the program.
func asProgramItself(t *testing.T, dir string) string {
	t.Helper()
	name := dir + "/triggerd"
	script := "#!/bin/sh\nexport " + asProgram + "=1\nexec '" + os.Args[0] + "' \"$@\"\n"
	if err := os.WriteFile(name, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// A check of nothing fails, and makes nothing.
func TestCheckWithoutDatabase(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "misspelt")
	out, err := runProgram(t.Context(), nil, "check", "--data-dir", folder)
	if err == nil || !strings.Contains(err.Error(), folder) || out != "" {
		t.Errorf("a check of nothing: %v\n%s", err, out)
	}
	if _, err := os.Stat(folder); err == nil {
		t.Error("it has made what it was to check")
	}
}

func TestCheckCommand(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := startServer(t, db, nil)
		key := s.newKey(t, "free")
		s.postEvent(t, key, "user.created", "a", "1")
		s.stop()
		args := []string{"check", "--data-dir", db.Options.DataDir, "--database-url", db.Options.PostgresURL}
		out, err := runProgram(t.Context(), nil, args...)
		if err != nil || !strings.Contains(out, "1  events examined") {
			t.Errorf("%v\n%s", err, out)
		}
		if _, err := db.SQL(t).ExecContext(t.Context(), `DELETE FROM deliveries`); err != nil {
			t.Fatal(err)
		}
		out, err = runProgram(t.Context(), nil, args...)
		if err == nil || !strings.Contains(err.Error(), "contradicts itself: event ") || !strings.Contains(out, "1  neither open nor delivered") {
			t.Errorf("%v\n%s", err, out)
		}
	})
}
