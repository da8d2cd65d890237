package torture

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func killDatabase(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	c := r.db.servers[random.IntN(len(r.db.servers))]
	c.kill()
	_ = pause(ctx, time.Duration(random.IntN(1500))*time.Millisecond)
	return r.startServers(ctx)
}

func restartDatabase(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	c := r.db.servers[random.IntN(len(r.db.servers))]
	c.stop(syscall.SIGINT)
	_ = pause(ctx, time.Duration(random.IntN(1000))*time.Millisecond)
	return r.startServers(ctx)
}

// startServers starts every server of the database that has ended.
func (r *run) startServers(ctx context.Context) error {
	for _, c := range r.db.servers {
		if err := c.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// toxic adds a fault to a node's connections to the database, including new
// ones, for up to some seconds.
func toxic(kind, attributes string) func(context.Context, *run, *rand.Rand) error {
	return func(ctx context.Context, r *run, random *rand.Rand) error {
		i := random.IntN(len(r.db.proxies))
		r.nodes[i].fault.Lock()
		defer r.nodes[i].fault.Unlock()
		for _, proxy := range r.db.proxies[i] {
			text := fmt.Sprintf(`{"name":"fault","type":%q,"stream":"downstream","attributes":%s}`, kind, attributes)
			if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
				return err
			}
		}
		_ = pause(ctx, time.Duration(random.IntN(3000))*time.Millisecond)
		for _, proxy := range r.db.proxies[i] {
			if err := proxy.Toxics.RemoveToxic(ctx, "fault"); err != nil {
				return err
			}
		}
		return nil
	}
}

// session opens an independent connection to the database. It lasts until end.
func (r *run) session(sql string) (end func(), err error) {
	c := r.db.servers[0]
	cmd := c.command("psql", "--no-psqlrc", "--quiet", "--dbname="+r.db.url("127.0.0.1", c.port).String())
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_, _ = io.WriteString(in, sql+"\n") // fails if the database is down, and then psql ends
	return func() {
		_ = in.Close() // psql ends, and its transaction with it
		_ = cmd.Wait()
	}, nil
}

func lacksClient(r *run) string {
	if _, err := os.Stat(filepath.Join(r.db.bin, "psql")); err != nil {
		return "psql is not installed"
	}
	return ""
}

func lockTable(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	name := []string{"events", "deliveries", "dedup", "organizations"}[random.IntN(4)]
	end, err := r.session("BEGIN; SET LOCAL lock_timeout = 0; LOCK TABLE triggerd." + name + " IN ACCESS EXCLUSIVE MODE;")
	if err != nil {
		return err
	}
	_ = pause(ctx, time.Duration(1000+random.IntN(4000))*time.Millisecond)
	end()
	return nil
}

// holdSnapshot keeps the snapshot open during other faults.
func holdSnapshot(_ context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	end, err := r.session("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM triggerd.organizations;")
	if err != nil {
		return err
	}
	time.AfterFunc(time.Duration(5+random.IntN(20))*time.Second, end)
	return nil
}

// fillDisk fills the database's file system.
func fillDisk(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	ballast := filepath.Join(r.disk, "ballast")
	if err := fill(ballast); err != nil {
		return err
	}
	_ = pause(ctx, time.Duration(1000+random.IntN(2500))*time.Millisecond)
	if err := os.Remove(ballast); err != nil {
		return err
	}
	if r.db == nil {
		return nil
	}
	return r.startServers(ctx) // PostgreSQL may have stopped
}

func lacksDisk(r *run) string {
	if r.kind() == anyPostgres {
		return "the disk of this PostgreSQL is not known"
	}
	return r.noDisk
}

// failSync makes every sync of the database's processes fail for a while, with
// strace.
func failSync(ctx context.Context, r *run, random *rand.Rand) error {
	r.database.Lock()
	defer r.database.Unlock()
	pids := []int{r.nodes[0].pid()}
	if r.db != nil {
		main := r.db.servers[0].cmd.Process.Pid
		pids = append(childrenOf(main), main)
	}
	args := []string{"-f", "-qq", "-o", filepath.Join(r.Dir, "strace.log"), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"}
	for _, pid := range pids {
		args = append(args, "-p", strconv.Itoa(pid))
	}
	limited, cancel := context.WithTimeout(ctx, time.Duration(500+random.IntN(1500))*time.Millisecond)
	defer cancel()
	if err := trace(limited, args); err != nil {
		return err
	}
	if r.db == nil {
		return nil
	}
	_ = pause(ctx, 200*time.Millisecond) // until failing processes have ended
	return r.startServers(ctx)
}
