package store_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"reflect"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
)

// A connection may break after any message of the server. Whatever the message
// is, a method then returns an error with zero values, or what it returns else.
func TestCutConnections(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		now := time.Now() // stands still, so that two reads return the same
		db.Options.Now = func() time.Time { return now }
		f := newFixture(t, db, db.Open(t))
		c := newCutter(t, &db.Options.PostgresURL)
		cut := db.Open(t)
		for _, fresh := range []bool{false, true} { // what changes something comes last
			for _, flow := range flows() {
				if flow.fresh == fresh {
					t.Run(flow.method, func(t *testing.T) { f.cutEach(t, flow, c, cut) })
				}
			}
		}
	})
}

// cutEach calls a method again and again, and breaks its connection before the
// first message, the second, and so on, until the call ends before.
func (f *fixture) cutEach(t *testing.T, flow flow, c *cutter, s *store.Store) {
	const most = 400
	for n := 1; n < most; n++ {
		args := flow.args(t, f)
		var want []any
		if !flow.fresh {
			var err error
			if want, err = call(t, f.plain, flow.method, args); err != nil || allZero(want) {
				t.Fatalf("the method has nothing to return: %v, %v", want, err)
			}
		}
		c.arm(n)
		got, err := call(t, s, flow.method, args)
		wasCut := c.disarm()
		switch {
		case err != nil && !wasCut:
			t.Fatalf("without a cut: %v", err)
		case err != nil && !allZero(got):
			t.Fatalf("cut before message %d: %+v beside an error: %v", n, got, err)
		case err == nil && flow.verify != nil:
			if wrong := flow.verify(f, args, got); wrong != "" {
				t.Fatalf("cut before message %d: %+v: %s", n, got, wrong)
			}
		case err == nil && !flow.fresh && !reflect.DeepEqual(got, want):
			t.Fatalf("cut before message %d: %+v, want %+v", n, got, want)
		}
		if !wasCut {
			if n == 1 && !flow.remembers {
				t.Fatal("the method reads nothing: the test tests nothing")
			}
			return
		}
	}
	t.Fatalf("the method has not ended after %d messages", most)
}

// call calls a method of the store by its name.
func call(t *testing.T, s *store.Store, method string, args []any) (results []any, err error) {
	t.Helper()
	in := []reflect.Value{reflect.ValueOf(t.Context())}
	for _, arg := range args {
		in = append(in, reflect.ValueOf(arg))
	}
	out := reflect.ValueOf(s).MethodByName(method).Call(in)
	for _, v := range out[:len(out)-1] {
		results = append(results, v.Interface())
	}
	err, _ = out[len(out)-1].Interface().(error)
	return results, err
}

func allZero(values []any) bool {
	for _, v := range values {
		if r := reflect.ValueOf(v); r.IsValid() && !r.IsZero() {
			return false
		}
	}
	return true
}

// Every method that returns something beside an error is cut in TestCutConnections.
func TestCutIsComplete(t *testing.T) {
	t.Parallel()
	cut := map[string]bool{
		"Expire": true, "Reseal": true, "PullBack": true, // by contract they say how far they came, beside an error too
		"Connect": true, // of a test
	}
	for _, flow := range flows() {
		cut[flow.method] = true
	}
	methods := reflect.TypeFor[*store.Store]()
	for method := range methods.Methods() {
		n := method.Type.NumOut()
		if n > 1 && method.Type.Out(n-1) == reflect.TypeFor[error]() && !cut[method.Name] {
			t.Errorf("Store.%s returns something beside an error, and is not among the flows that are cut", method.Name)
		}
	}
}

// cutter is a way to PostgreSQL that breaks a connection before it passes on a
// certain message of the server: it counts rows, ends of statements and ends
// of answers, of all connections, but for what comes while they are made.
type cutter struct {
	listener net.Listener
	server   string
	running  sync.WaitGroup

	mu   sync.Mutex
	left int // messages until the cut; 0: none comes
	cut  bool
}

// newCutter puts itself between, in the URL.
func newCutter(t *testing.T, postgresURL *string) *cutter {
	t.Helper()
	u, err := url.Parse(*postgresURL)
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{server: u.Host}
	if c.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	u.Host = c.listener.Addr().String()
	*postgresURL = u.String()
	c.running.Go(c.accept)
	t.Cleanup(func() {
		c.listener.Close()
		c.running.Wait()
	})
	return c
}

func (c *cutter) arm(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left, c.cut = n, false
}

// disarm says whether a connection was broken.
func (c *cutter) disarm() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = 0
	return c.cut
}

func (c *cutter) accept() {
	for {
		client, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.running.Go(func() {
			defer client.Close()
			server, err := net.Dial("tcp", c.server)
			if err != nil {
				return
			}
			defer server.Close()
			c.running.Go(func() {
				_, _ = io.Copy(server, client)
				server.Close()
			})
			c.answer(client, server)
		})
	}
}

// answer passes on the server's messages: a type of one byte, and a length that
// counts itself and what follows.
func (c *cutter) answer(client io.Writer, server io.Reader) {
	made := false
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(server, head); err != nil {
			return
		}
		message := append(head, make([]byte, binary.BigEndian.Uint32(head[1:])-4)...)
		if _, err := io.ReadFull(server, message[5:]); err != nil {
			return
		}
		const dataRow, commandComplete, readyForQuery = 'D', 'C', 'Z'
		switch message[0] {
		case dataRow, commandComplete, readyForQuery:
			if made && c.isCut() {
				return
			}
			made = made || message[0] == readyForQuery
		}
		if _, err := client.Write(message); err != nil {
			return
		}
	}
}

// isCut counts a message.
func (c *cutter) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == 0 {
		return false
	}
	c.left--
	c.cut = c.left == 0
	return c.cut
}
