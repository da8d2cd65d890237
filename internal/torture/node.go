package torture

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// node is one server: a process with its own port, which is started again after
// each end.
type node struct {
	*run
	n       int
	address string
	env     []string
	logFile string

	fault sync.Mutex // locked by a fault of the node

	mu      sync.Mutex
	cmd     *exec.Cmd
	ended   chan struct{} // closed when the process has ended
	allowed bool          // its end is requested, or it is not yet ready
	base    resources     // after the warm-up
}

// startNodes starts all servers, one after the other.
func (r *run) startNodes(ctx context.Context) error {
	data := r.databaseDir()
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	for i := range r.Nodes {
		port, err := FreePort()
		if err != nil {
			return err
		}
		n := &node{
			run: r, n: i, address: "127.0.0.1:" + strconv.Itoa(port),
			logFile: filepath.Join(r.Dir, fmt.Sprintf("node%d.log", i)),
		}
		url, err := r.databaseURL(i)
		if err != nil {
			return err
		}
		n.env = []string{
			"PATH=" + os.Getenv("PATH"), "LISTEN=" + n.address, "DATA_DIR=" + data, "DATABASE_URL=" + url,
			"ALLOWED_TARGETS=127.0.0.0/8", "RATE_LIMIT_RPM=0", "DEDUP_MAX_SIZE=300", "DELIVERY_TIMEOUT=" + r.attemptTimeout().String(), "LOG_LEVEL=warn",
			"SSL_CERT_FILE=" + r.certificate(),
			"RETRY_SCHEDULE=" + retrySchedule + strings.Repeat(lastPause, pauses-strings.Count(retrySchedule, ",")-1),
		}
		r.nodes = append(r.nodes, n)
		r.closers = append(r.closers, n.close)
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// attemptTimeout returns the timeout of attempts. It is longer without faults,
// because then no delivery may come twice, however busy the machine is.
func (r *run) attemptTimeout() time.Duration {
	if len(r.Config.Faults) == 0 {
		return 20 * attemptTimeout
	}
	return attemptTimeout
}

// FreePort returns a free port below the range of outgoing connections, so that
// it is still free when a server starts again.
func FreePort() (int, error) {
	for range 100 {
		port := 10_000 + rand.IntN(22_000)
		listener, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no port is free between 10000 and 32000")
}

func (n *node) url(path string) string { return "http://" + n.address + path }

// start runs the server and returns when it is ready. If the server ends
// because its database or disk is not ready, start runs it again, like a
// supervisor.
func (n *node) start(ctx context.Context, more ...string) error {
	return until(ctx, startPatience, fmt.Sprintf("node %d ready", n.n), func(ctx context.Context) bool {
		if !n.running() && n.launch(more...) != nil {
			return false
		}
		ready := n.get(ctx, "/readyz") == http.StatusOK
		n.mu.Lock()
		n.allowed = !ready
		n.mu.Unlock()
		return ready
	})
}

func (n *node) running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.ended:
		return false
	default:
		return true
	}
}

// launch starts the process.
func (n *node) launch(more ...string) error {
	log, err := os.OpenFile(n.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(n.Program, append([]string{"torture-node"}, more...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = n.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is only for this process
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	n.mu.Lock()
	n.cmd, n.ended, n.allowed = cmd, ended, true
	n.mu.Unlock()
	go func() {
		_ = cmd.Wait()
		n.mu.Lock()
		if !n.allowed {
			n.report.breach(endedItself, "node %d: %v; see %s", n.n, cmd.ProcessState, n.logFile)
		}
		n.mu.Unlock()
		close(ended)
	}()
	return nil
}

// ready waits until the server reports that it is ready.
func (n *node) ready(ctx context.Context) error {
	return until(ctx, startPatience, fmt.Sprintf("node %d ready", n.n), func(ctx context.Context) bool {
		return n.get(ctx, "/readyz") == http.StatusOK
	})
}

// get requests a path and returns the status; 0 without an answer.
func (n *node) get(ctx context.Context, path string) int {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url(path), nil)
	if err != nil {
		return 0
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	return resp.StatusCode
}

// pid returns the process id.
func (n *node) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd.Process.Pid
}

// signal sends a signal that does not end the process.
func (n *node) signal(s syscall.Signal) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd.Process.Signal(s)
}

// end sends a signal that ends the process and waits for it. It returns the
// exit code; -1 if the signal ended the process.
func (n *node) end(s syscall.Signal) (code int, err error) {
	n.mu.Lock()
	cmd, ended := n.cmd, n.ended
	n.allowed = true
	n.mu.Unlock()
	_ = cmd.Process.Signal(s) // it may have ended already
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-ended:
		return cmd.ProcessState.ExitCode(), nil
	case <-timer.C:
		_ = cmd.Process.Kill()
		<-ended
		return -1, fmt.Errorf("node %d did not end within %v after %v", n.n, stopPatience, s)
	}
}

func (n *node) close() error {
	n.mu.Lock()
	started := n.cmd != nil
	n.mu.Unlock()
	if started {
		_, _ = n.end(syscall.SIGKILL)
	}
	return nil
}

// resources are the resources that a process uses.
type resources struct{ goroutines, descriptors, connections int }

// resources reads the resources from the server's metrics.
func (n *node) resources(ctx context.Context) (got resources, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url("/metrics"), nil)
	if err != nil {
		return got, err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return got, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseFloat(value, 64)
		if err != nil {
			continue
		}
		switch name {
		case "go_goroutines":
			got.goroutines = int(number)
		case "process_open_fds":
			got.descriptors = int(number)
		case "triggerd_database_connections_in_use":
			got.connections = int(number)
		}
	}
	return got, lines.Err()
}
