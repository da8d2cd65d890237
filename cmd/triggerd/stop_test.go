package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/internal/store/storetest"
)

// freezer is a relay's part that passes bytes on until it is frozen.
type freezer struct {
	frozen chan struct{} // closed: nothing is passed on
	thawed chan struct{} // closed: it goes on
}

// pass copies between a client and a server until one of them ends.
func (f *freezer) pass(client, server net.Conn) error {
	go f.copy(server, client)
	f.copy(client, server)
	return io.EOF // there is nothing left to relay
}

func (f *freezer) copy(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-f.frozen:
			<-f.thawed
		default:
		}
		if _, failed := to.Write(buffer[:n]); failed != nil || err != nil {
			return
		}
	}
}

// lockedBuffer is a log that a test reads after its writers, or beside them.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// A stop beside a database that hangs is bounded as a whole, closing the
// connections included, and is no stop in order: it does not say that it has
// stopped.
func TestStopBesideHangingDatabase(t *testing.T) {
	t.Parallel()
	storetest.OnPostgres(t, func(t *testing.T, db *storetest.DB) {
		u, err := url.Parse(db.Options.PostgresURL)
		if err != nil {
			t.Fatal(err)
		}
		f := &freezer{frozen: make(chan struct{}), thawed: make(chan struct{})}
		u.Host = storetest.Relay(t, "127.0.0.1:0", u.Host, f.pass)
		set, err := defaultSettings()
		if err != nil {
			t.Fatal(err)
		}
		set.Listen, set.DatabaseURL, set.LogLevel = "127.0.0.1:0", u.String(), "info"
		var out lockedBuffer
		s, err := newServer(t.Context(), set, newLog(&out, set), db.Clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		s.stopTimeout = 5 * time.Second // parts that do not wait for the database end before that
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- s.run(ctx) }()
		untilAnswer(t, "http://"+s.listener.Addr().String()+"/readyz", 200, `"ok"`)
		close(f.frozen)
		cancel()
		if err = <-ended; !errors.Is(err, errStoppedHard) || !strings.Contains(err.Error(), "closing the database") {
			t.Errorf("%v, want errStoppedHard that names what hangs", err)
		}
		if said := out.String(); strings.Contains(said, `"msg":"stopped"`) {
			t.Errorf("it says that it has stopped:\n%s", said)
		}
		close(f.thawed)
		if err := s.store.Close(); err != nil { // waits for what still hangs
			t.Error(err)
		}
	})
}

// The last line of a stop in order is that it has stopped.
func TestStoppedIsSaidLast(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		set, err := defaultSettings()
		if err != nil {
			t.Fatal(err)
		}
		set.Listen, set.DatabaseURL, set.DataDir, set.LogLevel = "127.0.0.1:0", db.Options.PostgresURL, db.Options.DataDir, "debug"
		var out lockedBuffer
		s, err := newServer(t.Context(), set, newLog(&out, set), db.Clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- s.run(ctx) }()
		untilAnswer(t, "http://"+s.listener.Addr().String()+"/readyz", 200, `"ok"`)
		if !db.IsPostgres() { // the closing has something to say: the note beside the database cannot be written
			if err := os.Mkdir(filepath.Join(db.Options.DataDir, "triggerd.db-run.new"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if said := out.String(); !db.IsPostgres() && !strings.Contains(said, "the note beside the database cannot be written") {
			t.Error("the closing says nothing")
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; !strings.Contains(last, `"msg":"stopped"`) {
			t.Errorf("the last line is %s", last)
		}
		database := db.Options.DataDir
		if db.IsPostgres() {
			u, err := url.Parse(db.Options.PostgresURL)
			if err != nil {
				t.Fatal(err)
			}
			database = u.Host + u.Path
			if password, _ := u.User.Password(); password == "" || strings.Contains(out.String(), password) {
				t.Error("the log has the password, or there is none")
			}
		}
		if said := out.String(); !strings.Contains(said, `"database":"`+database+`"`) {
			t.Errorf("the log does not name the database %s:\n%s", database, said)
		}
	})
}
