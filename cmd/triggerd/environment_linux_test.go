package main

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// A pipe that nobody writes to does not hold up the start. One that the process
// was started with is read.
func TestSecretInPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"PORT": "0", "DATA_DIR": t.TempDir(), "DB_PASSWORD_FILE": pipe}
	want := "DB_PASSWORD_FILE: the file " + pipe + " cannot be read: it must be a regular file"
	if _, err := runProgram(t.Context(), env, "serve"); err == nil || oneLine(err) != want {
		t.Errorf("error %v, want %s", err, want)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.WriteString(w, "secret\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if secret, err := readSecret("/dev/fd/" + strconv.Itoa(int(r.Fd()))); err != nil || secret != "secret" {
		t.Errorf("%q, %v", secret, err)
	}
}
