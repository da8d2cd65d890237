package torture

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"syscall"
	"time"
)

// crowdSize is the number of connections at once; a third of them send part of
// a header.
const crowdSize = 600

// crowd opens connections that never send a request. Honest clients must not
// notice; the report has their times.
func crowd(ctx context.Context, r *run, random *rand.Rand) error {
	n, done := r.some(random)
	defer done()
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	for i := range crowdSize {
		conn, err := net.DialTimeout("tcp", n.address, 5*time.Second)
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		if i%3 == 0 {
			_, _ = io.WriteString(conn, "POST /api/events HTTP/1.1\r\nHost: x\r\nX-Api-Key: ")
		}
	}
	return pause(ctx, 2*time.Second)
}

// trace runs strace until ctx ends, and then detaches it.
func trace(ctx context.Context, args []string) error {
	cmd := exec.Command("strace", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended: // the traced processes have ended
		if _, ok := errors.AsType[*exec.ExitError](err); ok {
			return nil
		}
		return err
	case <-ctx.Done():
	}
	_ = cmd.Process.Signal(syscall.SIGINT)
	<-ended
	return nil
}

func lacksTracing(r *run) string {
	if r.kind() == anyPostgres {
		return "the processes of this PostgreSQL are not known"
	}
	if _, err := exec.LookPath("strace"); err != nil {
		return "strace is not installed"
	}
	if err := exec.Command("strace", "-qq", "-o", "/dev/null", "-e", "trace=none", "true").Run(); err != nil {
		return "strace may not trace here"
	}
	return ""
}
