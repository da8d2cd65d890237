package torture

import (
	"cmp"
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// postgres is the database of a run: clusters started by the run, the primary
// first, or a given server. There is a relay before each server, and a proxy
// for each node before each relay.
type postgres struct {
	given    *url.URL // not started by the run, so it cannot be killed
	bin      string   // directory of the programs
	password string
	clock    string // the file that sets its clock; may be empty
	servers  []*cluster
	fronts   []*relay             // before each server, for all nodes, in the order of creation
	proxies  [][]*toxiproxy.Proxy // by node, by server
}

// databaseDir returns the directory of the data: on the small file system, if
// there is one.
func (r *run) databaseDir() string {
	if r.disk != "" {
		return r.disk
	}
	return filepath.Join(r.Dir, "data")
}

// startDatabase starts the database of Config.Database.
func (r *run) startDatabase(ctx context.Context) error {
	servers := 1
	switch r.Database {
	case "sqlite":
		return nil
	case "postgres":
	case "standby":
		servers = 2
	default:
		given, err := url.Parse(r.Database)
		if err != nil || given.Scheme != "postgres" && given.Scheme != "postgresql" {
			return fmt.Errorf("--database must be one of %s, or the URL of a PostgreSQL", strings.Join(Databases(), ", "))
		}
		if !onLoopback(given.Hostname()) {
			return errors.New("only a database on this machine is tortured: the URL's host must be a loopback address")
		}
		r.report.Database = "postgres, given"
		r.db = &postgres{given: given}
		return r.db.startProxies(r)
	}
	bin, err := findPostgres()
	if err != nil {
		return err
	}
	r.db = &postgres{bin: bin, password: crand.Text()}
	if r.stepsClock() && fakeTime() != "" {
		r.db.clock = r.clockFile()
	}
	for i := range servers {
		if err := r.addCluster(ctx, i); err != nil {
			return err
		}
	}
	return r.db.startProxies(r)
}

func onLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// findPostgres finds the programs in PATH, or in the directory of Debian.
func findPostgres() (bin string, err error) {
	dirs, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	slices.Sort(dirs)
	slices.Reverse(dirs)
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), dirs...) {
		if program, err := filepath.EvalSymlinks(filepath.Join(dir, "initdb")); err == nil {
			return filepath.Dir(program), nil // where the others are
		}
	}
	return "", errors.New("PostgreSQL is not installed: initdb is neither in PATH nor in /usr/lib/postgresql")
}

// url returns the URL of a server at a host and port.
func (p *postgres) url(host string, port int) *url.URL {
	return &url.URL{
		Scheme: "postgres", User: url.UserPassword("triggerd", p.password), Path: "/postgres",
		Host: net.JoinHostPort(host, strconv.Itoa(port)), RawQuery: "sslmode=disable",
	}
}

// startProxies starts a proxy for each node before each server.
func (p *postgres) startProxies(r *run) error {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for _, c := range p.servers {
		p.fronts = append(p.fronts, c.front)
	}
	if p.given != nil {
		front, err := newRelay(net.JoinHostPort(p.given.Hostname(), cmp.Or(p.given.Port(), "5432")))
		if err != nil {
			return err
		}
		r.closers = append(r.closers, front.close)
		p.fronts = []*relay{front}
	}
	r.closers = append(r.closers, func() error {
		for _, before := range p.proxies {
			for _, proxy := range before {
				proxy.Stop()
			}
		}
		return nil
	})
	for i := range r.Nodes {
		p.proxies = append(p.proxies, nil)
		for _, front := range p.fronts {
			upstream := front.listener.Addr().String()
			proxy := toxiproxy.NewProxy(server, fmt.Sprintf("node%d-%s", i, upstream), "127.0.0.1:0", upstream)
			if err := proxy.Start(); err != nil {
				return err
			}
			p.proxies[i] = append(p.proxies[i], proxy)
		}
	}
	return nil
}

// databaseURL returns the DATABASE_URL of a node; "" for SQLite.
func (r *run) databaseURL(node int) (string, error) {
	if r.db == nil {
		return "", nil
	}
	var hosts []string
	for _, proxy := range r.db.proxies[node] {
		hosts = append(hosts, proxy.Listen)
	}
	u := r.db.given
	if u == nil {
		u = r.db.url("", 0)
	}
	to := *u
	to.Host = strings.Join(hosts, ",")
	if len(hosts) > 1 {
		to.RawQuery += "&target_session_attrs=read-write"
	}
	return to.String(), nil
}
