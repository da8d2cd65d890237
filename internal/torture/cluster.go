package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// cluster is a PostgreSQL server started by the run.
type cluster struct {
	*postgres
	dir   string
	port  int
	front *relay // between the server and the nodes
	feed  *relay // between the server and its standby
	cred  *syscall.Credential
	log   string // path
	cmd   *exec.Cmd
	ended chan struct{}
}

// addCluster starts the i-th server; all but the first are standbys of it.
func (r *run) addCluster(ctx context.Context, i int) error {
	port, err := FreePort()
	if err != nil {
		return err
	}
	name := "postgres" + strconv.Itoa(i)
	c := &cluster{postgres: r.db, port: port, dir: filepath.Join(r.databaseDir(), name), log: filepath.Join(r.Dir, name+".log")}
	if err := c.makeDir(r.Dir); err != nil {
		return err
	}
	if c.front, err = newRelay(c.address()); err != nil {
		return err
	}
	r.closers = append(r.closers, c.front.close)
	if c.feed, err = newRelay(c.address()); err != nil {
		return err
	}
	r.closers = append(r.closers, c.feed.close)
	r.db.servers = append(r.db.servers, c)
	r.closers = append(r.closers, c.close)
	if i > 0 {
		err = c.follow(ctx, r.db.servers[0])
	} else {
		settings := "shared_buffers = '64MB'\n"
		if r.Database == "standby" {
			settings += "synchronous_standby_names = '*'\n"
		}
		err = c.initialize(ctx, settings)
	}
	if err != nil {
		return err
	}
	return c.start(ctx)
}

func (c *cluster) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)) }

// makeDir creates the cluster's directory. PostgreSQL refuses to run as root,
// so for root the directory belongs to another user.
func (c *cluster) makeDir(base string) error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil || os.Geteuid() != 0 {
		return err
	}
	who, err := user.Lookup("postgres")
	if err != nil {
		who, err = user.Lookup("nobody")
	}
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(who.Uid)
	gid, _ := strconv.Atoi(who.Gid)
	c.cred = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	for dir := filepath.Dir(c.dir); len(dir) >= len(base); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return os.Chown(c.dir, uid, gid)
}

// command returns a command of PostgreSQL that runs as its user.
func (c *cluster) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, program), args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "PGPASSWORD=" + c.password, "PGCONNECT_TIMEOUT=5"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.cred}
	return cmd
}

// exec runs a program until it or ctx ends.
func (c *cluster) exec(ctx context.Context, program string, args ...string) error {
	cmd := c.command(program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %.500s", program, err, out.String())
	}
	return nil
}

// initialize creates a new cluster with additional settings in postgresql.conf.
func (c *cluster) initialize(ctx context.Context, settings string) error {
	file := c.dir + ".password"
	if err := os.WriteFile(file, []byte(c.password), 0o600); err != nil {
		return err
	}
	defer os.Remove(file)
	if c.cred != nil {
		if err := os.Chown(file, int(c.cred.Uid), int(c.cred.Gid)); err != nil {
			return err
		}
	}
	if err := c.exec(ctx, "initdb", "--pgdata="+c.dir, "--username=triggerd", "--auth=scram-sha-256", "--pwfile="+file,
		"--encoding=UTF8", "--locale=C", "--no-instructions"); err != nil {
		return err
	}
	settings = "\nmax_connections = 100\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n" +
		"logging_collector = off\nrestart_after_crash = on\n" + settings
	return c.configure("postgresql.conf", settings)
}

// configure appends settings to a file of a server that is not running.
func (c *cluster) configure(file, settings string) error {
	conf, err := os.OpenFile(filepath.Join(c.dir, file), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = conf.WriteString(settings)
	return errors.Join(err, conf.Close())
}

// follow makes the cluster a copy of a primary, as its standby.
func (c *cluster) follow(ctx context.Context, primary *cluster) error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(c.dir, e.Name())); err != nil {
			return err
		}
	}
	return c.exec(ctx, "pg_basebackup", "--pgdata="+c.dir, "--dbname="+primary.url("127.0.0.1", primary.feed.port()).String(),
		"--checkpoint=fast", "--write-recovery-conf", "--no-sync")
}

// start runs the server and returns when it accepts connections.
func (c *cluster) start(ctx context.Context) error {
	return until(ctx, startPatience, "PostgreSQL ready", func(ctx context.Context) bool {
		if !c.running() && c.launch() != nil {
			return false
		}
		return c.exec(ctx, "pg_isready", "--host=127.0.0.1", "--port="+strconv.Itoa(c.port)) == nil
	})
}

// launch starts the process. If a killed one still has the shared memory, the
// new process ends at once and must be started again.
func (c *cluster) launch() error {
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := c.command("postgres", "-D", c.dir, "-p", strconv.Itoa(c.port))
	if c.clock != "" {
		cmd.Env = append(cmd.Env, "LD_PRELOAD="+fakeTime(), "FAKETIME_TIMESTAMP_FILE="+c.clock, "FAKETIME_CACHE_DURATION=1", "DONT_FAKE_MONOTONIC=1")
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	c.cmd, c.ended = cmd, ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return nil
}

func (c *cluster) running() bool {
	if c.cmd == nil {
		return false
	}
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// stop sends a signal that ends the server and waits for the end.
func (c *cluster) stop(s syscall.Signal) {
	if !c.running() {
		return
	}
	_ = c.cmd.Process.Signal(s)
	<-c.ended
}

// kill ends the server and all its processes with SIGKILL.
func (c *cluster) kill() {
	if !c.running() {
		return
	}
	children := childrenOf(c.cmd.Process.Pid)
	_ = c.cmd.Process.Kill()
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-c.ended
}

func (c *cluster) close() error {
	c.stop(syscall.SIGQUIT)
	return nil
}
