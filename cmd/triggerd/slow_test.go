package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
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

	"triggerd/internal/store/storetest"
)

// Honest clients post at this pace while slow ones are at work, and must not
// feel it.
const (
	honestClients = 8
	honestPosts   = 60 // of each
	honestPause   = 50 * time.Millisecond
	honestP99     = time.Second // the promise; no other time is asserted
)

// slowConnections are those of slowhttptest, idleConnections all on which
// nothing goes on.
const (
	slowConnections = 800
	idleConnections = 10_000
)

// slowModes are what slowhttptest can do, and what is asked for with it.
var slowModes = []struct {
	name, path string
	stays      bool // its connections stay open while the honest ones post
	args       []string
}{
	{"slow headers", "/api/inbox", true, []string{"-H", "-i", "1"}},
	{"slow bodies", "/api/events", true, []string{"-B", "-i", "1", "-s", "1000000", "-f", "application/json"}},
	{"slow reads", "/api/inbox", true, []string{"-X", "-w", "1", "-y", "1", "-n", "1", "-z", "1"}},
	{"ranges", "/api/inbox?limit=1", false, []string{"-R", "-t", "GET"}},
}

// TestSlowClients runs slowhttptest, with the key of an organization of its
// own, against a server on which another organization posts events. It is not
// parallel, since it measures.
func TestSlowClients(t *testing.T) {
	tool, err := exec.LookPath("slowhttptest")
	if err != nil {
		notTested(t, "slow headers, bodies and reads: slowhttptest is not installed")
		return
	}
	program := buildProgram(t)
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		p := startProgram(t, program, db)
		slow, honest := p.newKey(t, "enterprise"), p.newKey(t, "enterprise")
		for range 10 { // so that there is something to read slowly
			p.postEvent(t, slow, "t", "", `"`+strings.Repeat("x", 20_000)+`"`)
		}
		p.postHonestly(t, honest)
		for _, mode := range slowModes {
			t.Run(mode.name, func(t *testing.T) {
				before := p.descriptors(t)
				args := append([]string{
					"-u", p.URL + mode.path, "-c", strconv.Itoa(slowConnections), "-r", "400", "-l", "6",
					"-j", "a=b\r\nX-Api-Key: " + slow, // it sends no other headers of ours
				}, mode.args...)
				ctx, stop := context.WithTimeout(t.Context(), patience)
				defer stop()
				attack := endWithTest(exec.CommandContext(ctx, tool, args...))
				out := &strings.Builder{}
				attack.Stdout, attack.Stderr = out, out
				if err := attack.Start(); err != nil {
					t.Fatal(err)
				}
				if mode.stays {
					p.untilDescriptors(t, "the slow clients are connected", func(n int) bool { return n >= before+slowConnections*9/10 })
				}
				p.postHonestly(t, honest)
				if err := attack.Wait(); err != nil {
					t.Errorf("slowhttptest: %v\n%s", err, out)
				}
				p.untilDescriptors(t, "the connections are closed", func(n int) bool { return n <= before+10 })
			})
		}
	})
}

// TestIdleConnections holds ten thousand connections on which nothing goes on,
// from a process of its own. It is not parallel, since it measures.
func TestIdleConnections(t *testing.T) {
	program, n := buildProgram(t), allowedConnections(t)
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		p := startProgram(t, program, db)
		slow, honest := p.newKey(t, "enterprise"), p.newKey(t, "enterprise")
		p.postHonestly(t, honest)
		before := p.descriptors(t)
		release := startIdler(t, p, slow, n)
		p.untilDescriptors(t, "the idle clients are connected", func(open int) bool { return open >= before+n*9/10 })
		p.postHonestly(t, honest)
		p.postHonestly(t, honest) // after those that sent nothing were closed, and came again
		release()
		p.untilDescriptors(t, "the connections are closed", func(open int) bool { return open <= before+10 })
	})
}

// buildProgram builds the program as people run it: the race detector makes it
// several times as slow.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "triggerd")
	said, err := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", program, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("build the program: %v: %s", err, said)
	}
	return program
}

// The server ends connections on which nothing goes on, each at its deadline:
// without a request, without all of its header or its body, and idle.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	const idle = 8 * time.Second
	s := startServer(t, storetest.SQLite(t), func(set *settings) { set.IdleTimeout = idle })
	const slowBody = 10 * time.Second // the API cuts a body that does not come on
	deadlines := []time.Duration{headerTimeout, headerTimeout, slowBody, idle}
	var clients sync.WaitGroup
	for i, request := range idleRequests(s.newKey(t, "free")) {
		clients.Go(func() {
			begun := time.Now()
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(begun.Add(deadlines[i] + 10*time.Second))
			_, err = io.WriteString(conn, request)
			if err == nil {
				_, err = io.Copy(io.Discard, conn)
			}
			if took := time.Since(begun); err != nil || took < deadlines[i] {
				t.Errorf("after %.40q the connection ended in %v, want %v: %v", request, took, deadlines[i], err)
			}
		})
	}
	clients.Wait()
}

// postHonestly posts events at a steady pace. Every second client connects
// anew for each of them, since many connections hurt those that come last. All
// must be accepted; the times are told, and the promise about them is held.
func (p *process) postHonestly(t *testing.T, key string) {
	t.Helper()
	fresh := &testServer{URL: p.URL, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}}
	var mu sync.Mutex
	var took []time.Duration
	var clients sync.WaitGroup
	late := time.Now().Add(patience)
	for i := range honestClients {
		s := []*testServer{&p.testServer, fresh}[i%2]
		clients.Go(func() {
			tick := time.NewTicker(honestPause)
			defer tick.Stop()
			for range honestPosts {
				due := <-tick.C
				if due.After(late) {
					t.Errorf("the honest clients have not done in %v what takes %v", patience, honestPosts*honestPause)
					return
				}
				r := s.post(t, key, "/api/events", `{"type":"t","payload":1}`)
				if r.status != http.StatusOK {
					t.Errorf("an honest client got %d %s", r.status, r.body)
					return
				}
				mu.Lock()
				took = append(took, time.Since(due))
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	slices.Sort(took)
	if len(took) == 0 {
		return // which has failed already
	}
	p99 := took[len(took)*99/100]
	t.Logf("%d honest posts: p50 %v, p99 %v, longest %v", len(took), took[len(took)/2], p99, took[len(took)-1])
	if p99 >= honestP99 {
		t.Errorf("the p99 of honest clients is %v, want less than %v", p99, honestP99)
	}
}

// descriptors is how many files and connections the server has open.
func (p *process) descriptors(t *testing.T) int {
	t.Helper()
	p.client.CloseIdleConnections()
	r := p.get(t, "", "/metrics")
	found := regexp.MustCompile(`(?m)^process_open_fds ([0-9]+)$`).FindStringSubmatch(r.body)
	if found == nil {
		t.Fatalf("no process_open_fds in %d %.300s", r.status, r.body)
	}
	n, _ := strconv.Atoi(found[1])
	return n
}

// untilDescriptors waits until the number of open descriptors is as it should
// be.
func (p *process) untilDescriptors(t *testing.T, what string, right func(n int) bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(patience)
	for n := p.descriptors(t); !right(n); n = p.descriptors(t) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s; %d descriptors are open", patience, what, n)
		}
		<-tick.C
	}
}

// allowedConnections is how many connections the limit of descriptors allows
// one process, idleConnections at most. It is raised where that is allowed.
func allowedConnections(t *testing.T) int {
	t.Helper()
	const others, needed = 500, idleConnections*8/5 + 500 // one address may have 21 of 32 descriptors
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max >= needed {
		return idleConnections // the runtime raises the soft limit by itself
	}
	raised := syscall.Rlimit{Cur: needed, Max: needed}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) == nil {
		return idleConnections
	}
	n := max(0, (int(limit.Max)-others)*5/8)
	t.Logf("NOT TESTED with %d connections, only with %d: the limit of descriptors is %d, and may not be raised",
		idleConnections, n, limit.Max)
	return n
}

// asIdler, in the environment, makes the test binary a client that holds
// connections: its arguments are the server's address, a key, and how many.
const asIdler = "TRIGGERD_TEST_IDLER"

// startIdler holds n connections to the server until release is called, or
// the test ends.
func startIdler(t *testing.T, p *process, key string, n int) (release func()) {
	t.Helper()
	cmd := endWithTest(exec.Command(os.Args[0], strings.TrimPrefix(p.URL, "http://"), key, strconv.Itoa(n)))
	cmd.Env = append(os.Environ(), asIdler+"=1")
	errOut := &strings.Builder{}
	cmd.Stderr = errOut
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("who holds the connections: %v\n%s", err, errOut)
		}
	})
	t.Cleanup(release)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "open\n" {
		t.Fatalf("who holds the connections says %q: %v", line, err)
	}
	return release
}

// idleRequests are what is sent on connections that then do nothing: nothing,
// half a header, half a body, and a request that is answered.
func idleRequests(key string) []string {
	return []string{
		"",
		"POST /api/events HTTP/1.1\r\nHost: a\r\nX-Api-K",
		"POST /api/events HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + key + "\r\nContent-Length: 30000\r\n\r\n{\"type\":",
		"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
	}
}

// holdConnections is the program of asIdler: it opens the connections, says so,
// opens those again that the server closes, and ends with its input.
func holdConnections(address, key, count string) {
	n, _ := strconv.Atoi(count)
	dialing := make(chan struct{}, 100)         // so that no queue in the kernel is too short
	again := time.NewTicker(time.Second / 1000) // it is slow clients that are tested, not a flood
	requests := idleRequests(key)
	var opened sync.WaitGroup
	opened.Add(n)
	for i := range n {
		go func() {
			for first := true; ; first = false {
				dialing <- struct{}{}
				conn, err := net.Dial("tcp", address)
				<-dialing
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				_, _ = io.WriteString(conn, requests[i%len(requests)])
				if first {
					opened.Done()
				}
				for buffer := make([]byte, 256); err == nil; {
					_, err = conn.Read(buffer)
				}
				_ = conn.Close()
				<-again.C
			}
		}()
	}
	opened.Wait()
	fmt.Println("open")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
