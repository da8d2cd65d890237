package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
)

// loadFlags are the flags of loads, and of a running server as their target.
type loadFlags struct {
	Driver          string `help:"What makes the load of posts and batches: wrk, go (our own client), or auto: wrk where it is installed." enum:"auto,wrk,go" default:"auto"`
	Against         string `help:"Aim posts, and batches where the path ends in /v1/events, at this running server. Nothing is started." placeholder:"URL"`
	AgainstKey      string `help:"Its key." placeholder:"KEY"`
	AgainstHeader   string `help:"The header that its key goes into." default:"X-Api-Key"`
	AgainstPath     string `help:"Where it takes events." default:"/api/events"`
	AgainstNoop     string `help:"A path of it where nothing is done, as a yardstick." placeholder:"PATH"`
	AgainstAnywhere bool   `help:"Take a URL that is not on loopback. The server gets as much load as it takes."`
}

// checkAgainst returns an error if the flags are not valid.
func (s *settings) checkAgainst() error {
	switch {
	case s.Against == "" && (s.AgainstKey != "" || s.AgainstNoop != "" || s.AgainstAnywhere):
		return errors.New("the other flags of --against need --against")
	case s.Against == "":
		return nil
	case s.Stored > 0:
		return errors.New("--stored is for databases of our own, not for --against")
	case !isPath(s.AgainstPath):
		return errors.New("--against-path must be a path, as /v1/events")
	case s.AgainstNoop != "" && !isPath(s.AgainstNoop):
		return errors.New("--against-noop must be a path, as /livez")
	case s.AgainstHeader == "" || strings.ContainsAny(s.AgainstHeader, ": \r\n") || strings.ContainsAny(s.AgainstKey, "\r\n"):
		return errors.New("--against-header and --against-key must be the name and the value of a header")
	}
	return checkTarget(s.Against, s.AgainstAnywhere)
}

// checkTarget returns an error unless the text is a server's address, on
// loopback unless anywhere is set.
func checkTarget(text string, anywhere bool) error {
	to, err := url.Parse(text)
	if err != nil || to.Scheme != "http" || to.Hostname() == "" || strings.Trim(to.Path, "/") != "" || to.RawQuery != "" || to.User != nil {
		return errors.New("--against must be http://HOST:PORT; the path goes into --against-path")
	}
	if !anywhere && !onLoopback(to.Hostname()) {
		return errors.New("--against must be a loopback address: it gets as much load as it takes; --against-anywhere permits others")
	}
	return nil
}

func isPath(text string) bool {
	return strings.HasPrefix(text, "/") && !strings.ContainsAny(text, " \r\n")
}

func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// available returns the cases that can be measured.
func (s *settings) available() []measurement {
	if s.Against == "" {
		return cases()
	}
	list := []measurement{{"posts", postsAgainst}}
	if strings.HasSuffix(s.AgainstPath, "/v1/events") {
		list = append(list, measurement{"batches", batchesAgainst})
	}
	return list
}

// against replaces the name of the database, which is unknown, in the report.
const against = "against"

// stranger returns the server of --against.
func (b *bench) stranger(ctx context.Context) (to aim, on *subject, err error) {
	where, err := url.Parse(b.Against)
	if err != nil {
		return to, nil, err
	}
	to = aim{address: where.Host, path: b.AgainstPath}
	if where.Port() == "" {
		to.address = net.JoinHostPort(where.Hostname(), "80")
	}
	if b.AgainstKey != "" {
		to.header = b.AgainstHeader + ": " + b.AgainstKey
	}
	d, err := newDriver(ctx, b.Driver)
	return to, &subject{driver: d, dir: b.dir}, err
}

// postsAgainst is posts without the server's own figures.
func postsAgainst(ctx context.Context, b *bench) (out outcome, err error) {
	to, on, err := b.stranger(ctx)
	if err != nil {
		return out, err
	}
	all := b.levels(to, on, b.AgainstNoop)
	if err := makeAll(ctx, bouts(all)); err != nil {
		return out, err
	}
	for _, l := range all {
		l.figures(&out, b)
		l.post.answers(&out, fmt.Sprintf("%d connections: ", l.conns))
		l.repeats(&out, b)
		if l.repeat != nil {
			l.repeat.answers(&out, "duplicates: ")
		}
	}
	return out, nil
}

func batchesAgainst(ctx context.Context, b *bench) (out outcome, err error) {
	to, on, err := b.stranger(ctx)
	if err != nil {
		return out, err
	}
	all := b.batchBouts(to, on)
	if err := makeAll(ctx, all); err != nil {
		return out, err
	}
	for _, p := range all {
		p.batchFigures(&out, b)
		p.answers(&out, fmt.Sprintf("%d a request: ", p.events()))
	}
	return out, nil
}

// answers adds the counts of answers, if only the client has counted.
func (p *bout) answers(out *outcome, name string) {
	out.add(name+"answers 2xx", "", float64(p.got.ok), nil)
	out.add(name+"other answers", "", float64(p.got.others), nil)
}
