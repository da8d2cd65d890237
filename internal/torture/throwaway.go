package torture

import (
	"context"
	crand "crypto/rand"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
)

// Postgres is a throw-away PostgreSQL server, like the servers of a run, for
// programs that measure.
type Postgres struct{ cluster *cluster }

// StartPostgres starts a server with PostgreSQL's defaults and the given lines
// of postgresql.conf. Its data and log are in dir. For root, dir is opened to
// the server's user.
func StartPostgres(ctx context.Context, dir string, settings ...string) (*Postgres, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	c := &cluster{
		postgres: &postgres{bin: bin, password: crand.Text()}, port: port,
		dir: filepath.Join(dir, "postgres"), log: filepath.Join(dir, "postgres.log"),
	}
	if err := c.makeDir(dir); err != nil {
		return nil, err
	}
	if err := c.initialize(ctx, strings.Join(append(settings, ""), "\n")); err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		c.stop(syscall.SIGQUIT)
		return nil, fmt.Errorf("%w; see %s", err, c.log)
	}
	return &Postgres{c}, nil
}

// URL returns the URL of the server, for its superuser.
func (p *Postgres) URL() string { return p.cluster.url("127.0.0.1", p.cluster.port).String() }

// PIDs returns the server's processes, the parent first.
func (p *Postgres) PIDs() []int {
	pid := p.cluster.cmd.Process.Pid
	return append([]int{pid}, childrenOf(pid)...)
}

// Stop ends the server.
func (p *Postgres) Stop() { p.cluster.stop(syscall.SIGQUIT) }

// PostgresVersion returns the version of the PostgreSQL that StartPostgres
// starts.
func PostgresVersion() (string, error) {
	bin, err := findPostgres()
	if err != nil {
		return "", err
	}
	out, err := (&cluster{postgres: &postgres{bin: bin}}).command("postgres", "--version").Output()
	return strings.TrimSpace(string(out)), err
}
