package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// strace follows processes, and writes down what they write and sync, in the
// order in which it happened: a process goes on only after strace has seen its
// call begin, and again after it has seen it end.
type strace struct {
	cmd   *exec.Cmd
	file  string
	ready chan struct{} // closed when it has found all processes that it was given
	ended chan struct{} // closed when it has ended

	mu       sync.Mutex
	attached map[string]bool // process ids
	said     strings.Builder // beside that
}

// startStrace follows the processes of a list, and those that they start. Where
// that is not possible it says so and returns nil.
func startStrace(t *testing.T, list func() []int) *strace {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		notTested(t, "that answers wait for the sync, since strace is missing: Debian has it as strace")
		return nil
	}
	for range 20 {
		s := followProcesses(t, list())
		if s == nil || s.follows(list()) {
			return s
		}
		s.end() // one was started while strace was: it might not be followed
	}
	t.Fatal("strace does not catch all processes")
	return nil
}

func followProcesses(t *testing.T, pids []int) *strace {
	t.Helper()
	s := &strace{
		file: filepath.Join(t.TempDir(), "strace"), attached: map[string]bool{},
		ready: make(chan struct{}), ended: make(chan struct{}),
	}
	args := []string{
		"-f", "-yy", "-s", "1000000", "-o", s.file, "-e", "signal=none",
		"-e", "trace=write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,fsync,fdatasync",
	}
	missing := map[string]bool{}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
		missing[strconv.Itoa(pid)] = true
	}
	s.cmd = endWithTest(exec.Command("strace", args...))
	out, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	go s.listen(bufio.NewScanner(out), missing)
	select {
	case <-s.ready:
		return s
	case <-s.ended:
		notTested(t, "that answers wait for the sync, since strace is refused: %s", strings.TrimSpace(s.said.String()))
	case <-time.After(patience):
		t.Fatal("strace does not follow the processes")
	}
	return nil
}

// listen reads what strace says until it ends. A process that has ended before
// it was found is not missed.
func (s *strace) listen(lines *bufio.Scanner, missing map[string]bool) {
	defer close(s.ended)
	found := regexp.MustCompile(`^strace: Process (\d+) attached`)
	gone := regexp.MustCompile(`PTRACE_SEIZE, (\d+)\): No such process`)
	for lines.Scan() {
		s.mu.Lock()
		waiting := len(missing) > 0
		if match := found.FindStringSubmatch(lines.Text()); match != nil {
			s.attached[match[1]] = true
			delete(missing, match[1])
		} else if match := gone.FindStringSubmatch(lines.Text()); match != nil {
			delete(missing, match[1])
		} else {
			s.said.WriteString(lines.Text() + "\n")
		}
		s.mu.Unlock()
		if waiting && len(missing) == 0 {
			close(s.ready)
		}
	}
}

// follows reports whether all processes are among those that were found.
func (s *strace) follows(pids []int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(pids, func(pid int) bool { return !s.attached[strconv.Itoa(pid)] })
}

// end lets the processes go; to end it again does nothing.
func (s *strace) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.ended
	_ = s.cmd.Wait()
}

// calls ends strace and returns what it has seen.
func (s *strace) calls(t *testing.T) []call {
	t.Helper()
	s.end()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	return parseCalls(string(text))
}

// call is a call of the system.
type call struct {
	begin, end int    // when, as lines of the trace; end is 0 if it did not
	name       string // write, fdatasync and so on
	file       string // or the two ends of the connection
	text       string // its arguments
	result     string
}

// parseCalls reads a trace. The line of a call that others come between is cut
// in two.
func parseCalls(trace string) (calls []call) {
	under := map[string]int{} // calls that have not ended, by process
	line := regexp.MustCompile(`^(\d+) +(\w+)\(\d+<(.+?)>([,) ].*)$`)
	rest := regexp.MustCompile(`^(\d+) +<\.\.\. \w+ resumed>`)
	for at, text := range strings.Split(trace, "\n") {
		at++
		result := text[strings.LastIndex(text, " = ")+1:]
		if match := rest.FindStringSubmatch(text); match != nil {
			if i, ok := under[match[1]]; ok {
				calls[i].end, calls[i].result = at, strings.TrimPrefix(result, "= ")
				delete(under, match[1])
			}
			continue
		}
		match := line.FindStringSubmatch(text)
		if match == nil {
			continue
		}
		c := call{begin: at, name: match[2], file: match[3], text: match[4]}
		if strings.HasSuffix(text, "<unfinished ...>") {
			under[match[1]] = len(calls)
		} else {
			c.end, c.result = at, strings.TrimPrefix(result, "= ")
		}
		calls = append(calls, c)
	}
	return calls
}

// judgeSync says what is wrong with the answer to an event, if anything is: it
// must have been written to the log, and then the log synced, with success,
// before the answer was begun. mark is in the event alone, id in its answer.
// That the log's page is written once more, by others, does not matter.
func judgeSync(calls []call, log *regexp.Regexp, mark, id string) error {
	isSync := func(c call) bool { return c.name == "fsync" || c.name == "fdatasync" }
	first := func(is func(call) bool) (call, bool) {
		i := slices.IndexFunc(calls, is)
		if i < 0 {
			return call{}, false
		}
		return calls[i], true
	}
	answer, ok := first(func(c call) bool {
		return strings.HasPrefix(c.file, "TCP") && strings.Contains(c.text, "HTTP/1.1 200") && strings.Contains(c.text, id)
	})
	if !ok {
		return errors.New("its answer was not seen")
	}
	written, ok := first(func(c call) bool { return !isSync(c) && log.MatchString(c.file) && strings.Contains(c.text, mark) })
	if !ok || written.end == 0 || written.end > answer.begin {
		return errors.New("it was not in the log when it was answered")
	}
	if _, ok = first(func(c call) bool {
		return isSync(c) && log.MatchString(c.file) && c.result == "0" && c.begin > written.end && c.end < answer.begin
	}); !ok {
		return fmt.Errorf("it was written in line %d and answered in line %d, without a sync between", written.begin, answer.begin)
	}
	return nil
}
