package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// start runs the server and returns when it is ready.
func (r *rig) start(ctx context.Context) error { return r.startAsking(ctx, 20*time.Millisecond) }

// startAsking is start with the given interval of the checks for readiness.
func (r *rig) startAsking(ctx context.Context, every time.Duration) error {
	log, err := os.OpenFile(filepath.Join(r.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(r.program, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = r.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the keyboard is only for this process
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	r.cmd, r.ended, r.signalled = cmd, ended, false
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for r.get(ctx, "/readyz", nil) != nil {
		select {
		case <-ended:
			return fmt.Errorf("the server did not start: %v", cmd.ProcessState)
		default:
		}
		if err := pause(ctx, every); err != nil {
			return fmt.Errorf("the server is not ready: %w", err)
		}
	}
	return nil
}

// stop sends a signal that ends the server, and waits for the end. It returns
// an error if the server had ended before.
func (r *rig) stop(s syscall.Signal) error {
	if r.cmd == nil || r.signalled {
		return nil
	}
	if err := r.signal(s); err != nil {
		return err
	}
	return r.waitForEnd()
}

func (r *rig) signal(s syscall.Signal) error {
	select {
	case <-r.ended:
		return fmt.Errorf("the server ended by itself: %v", r.cmd.ProcessState)
	default:
	}
	r.signalled = true
	return r.cmd.Process.Signal(s)
}

func (r *rig) waitForEnd() error {
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-r.ended:
		return nil
	case <-timer.C:
		_ = r.cmd.Process.Kill()
		<-r.ended
		return fmt.Errorf("the server did not end within %v", stopPatience)
	}
}

// get requests a path of the server and calls read for each line of the answer.
func (r *rig) get(ctx context.Context, path string, read func(line string)) error {
	return get(ctx, "http://"+r.address+path, read)
}

// get is like rig.get, for any of our servers.
func get(ctx context.Context, url string, read func(line string)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("Authorization", "Bearer "+adminToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: status %d", url, resp.StatusCode)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && read != nil {
		read(lines.Text())
	}
	return lines.Err()
}
