package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// commandLine gives commands to a whole server, as one organization.
type commandLine struct {
	env map[string]string
}

// newCommandLine makes an organization, by a command.
func newCommandLine(t *testing.T, s *testServer) *commandLine {
	t.Helper()
	c := &commandLine{map[string]string{"TRIGGERD_URL": s.URL, "ADMIN_TOKEN": s.operatorToken(t)}}
	c.env["TRIGGERD_KEY"] = strings.TrimSpace(c.do(t, "org", "create", "Example", "--only-key"))
	return c
}

// with is the same with another key.
func (c *commandLine) with(key string) *commandLine {
	env := maps.Clone(c.env)
	env["TRIGGERD_KEY"] = key
	return &commandLine{env}
}

// run gives a command.
func (c *commandLine) run(t *testing.T, stdin string, args ...string) (result said) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errOut strings.Builder
	s := &session{in: strings.NewReader(stdin), out: &out, errOut: &errOut, now: time.Now}
	err := runWith(ctx, args, func(name string) string { return c.env[name] }, s)
	return said{out.String(), errOut.String(), err}
}

// do gives a command that has to succeed, and returns what it wrote.
func (c *commandLine) do(t *testing.T, args ...string) string {
	t.Helper()
	result := c.run(t, "", args...)
	if result.err != nil {
		t.Fatalf("triggerd %s: %v", strings.Join(args, " "), result.err)
	}
	return result.out
}

// lines gives a command with --json, and decodes each line that it writes.
func lines[T any](t *testing.T, c *commandLine, args ...string) (items []T) {
	t.Helper()
	for d := json.NewDecoder(strings.NewReader(c.do(t, append(args, "--json")...))); d.More(); {
		var item T
		if err := d.Decode(&item); err != nil {
			t.Fatalf("triggerd %s: %v", strings.Join(args, " "), err)
		}
		items = append(items, item)
	}
	return items
}

// one is lines for what is not a list.
func one[T any](t *testing.T, c *commandLine, args ...string) T {
	t.Helper()
	items := lines[T](t, c, args...)
	if len(items) != 1 {
		t.Fatalf("triggerd %s: %d values, want 1", strings.Join(args, " "), len(items))
	}
	return items[0]
}

// start gives a command that goes on until it is stopped.
func (c *commandLine) start(t *testing.T, args ...string) *listening {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		s := &session{out: write, errOut: write, now: time.Now}
		err := runWith(ctx, args, func(name string) string { return c.env[name] }, s)
		write.Close()
		ended <- err
	}()
	scanner := bufio.NewScanner(read)
	stop := sync.OnceValue(func() string {
		cancel()
		var rest strings.Builder
		for scanner.Scan() {
			rest.WriteString(scanner.Text() + "\n")
		}
		if err := <-ended; err != nil {
			t.Errorf("triggerd %s: %v", strings.Join(args, " "), err)
		}
		return rest.String()
	})
	t.Cleanup(func() { stop() })
	return &listening{scanner, stop}
}

// has checks that a text has a part.
func has(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(squeezed(text), part) {
			t.Errorf("%s: there is no %q in\n%s", what, part, text)
		}
	}
}

// awaitDelivered returns when an event has this status.
func awaitDelivered(t *testing.T, c *commandLine, event string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		switch e := one[client.EventDetail](t, c, "event", "show", event); {
		case e.Status == client.StatusDelivered:
			return
		case time.Now().After(deadline):
			t.Fatalf("event %s is %s", event, e.Status)
		}
	}
}

// The way of an event, from the making of an organization on, by commands.
func TestCLIFromOrganizationToReplay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		rec := newRecorder(t, nil)
		c := newCommandLine(t, startServer(t, db, nil))
		has(t, "me", c.do(t, "me"), "name Example", "scopes")
		hook := one[client.Webhook](t, c, "webhook", "create", rec.URL+"/hook", "--type", "user.*", "--description", "first")
		verifier, err := client.NewVerifier(hook.Secret)
		if err != nil {
			t.Fatal(err)
		}
		event := one[client.Accepted](t, c, "send", "user.created", `{"n": 1.0}`, "--dedup-id", "u-1")
		got := rec.wait(t, 1)[0]
		if err := verifier.Verify(got.header, got.body); err != nil || !strings.HasSuffix(string(got.body), `"data":{"n": 1.0}}`) {
			t.Errorf("the webhook got %s: %v", got.body, err)
		}
		awaitDelivered(t, c, event.ID)
		has(t, "send again", c.do(t, "send", "user.created", `{"n": 1.0}`, "--dedup-id", "u-1"), "duplicate "+event.ID)
		has(t, "event list", c.do(t, "event", "list", "--type", "user.*", "--since", "1h"), event.ID+" user.created delivered")
		has(t, "event show", c.do(t, "event", "show", event.ID), `{"n": 1.0}`, "1 delivered - 1 - 200 in")
		has(t, "event why", c.do(t, "event", "why", event.ID), "1 delivered")
		has(t, "event attempts", c.do(t, "event", "attempts", event.ID), event.ID+" 1 - 1 success 200")
		has(t, "event samples", c.do(t, "event", "samples"), "event "+event.ID, `{"n": 1.0}`)
		c.do(t, "event", "resend", event.ID, "1")
		rec.wait(t, 2)
		has(t, "replay preview", c.do(t, "replay", "preview", "1", "--since", "1h"), "1 of 1 events match")
		replay := one[client.Replay](t, c, "replay", "create", "1", "--since", "1h", "--pace", "0")
		has(t, "replay show", c.do(t, "replay", "show", id(replay.ID)), "webhook 1")
		c.do(t, "replay", "cancel", id(replay.ID)) // it would wait for some seconds, for events that commit late
		has(t, "webhook test", c.do(t, "webhook", "test", "1"), "outcome success", "status 200")
		has(t, "webhook set", c.do(t, "webhook", "set", "1", "--timeout", "5s", "--reset", "description"), "timeout 5s", "description -")
		has(t, "webhook pause", c.do(t, "webhook", "pause", "1"), "paused by owner")
		c.do(t, "send", "user.deleted")
		has(t, "delivery list", c.do(t, "delivery", "list"), "1 - open")
		has(t, "webhook resume", c.do(t, "webhook", "resume", "1"), "state active")
		rec.wait(t, 4)
		has(t, "dry run", c.do(t, "webhook", "dry-run", "--type", "*.deleted", "--webhook", "1"), "1 of 2 events match", "0 more, 1 fewer")
		c.do(t, "webhook", "rotate-secret", "1")
		c.do(t, "webhook", "delete", "1")
		c.run(t, "", "webhook", "show", "1").failsWith(t, "Not found")
	})
}

// The inbox, by commands.
func TestCLIInbox(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		c := newCommandLine(t, startServer(t, db, nil))
		for _, n := range []string{"1", "2", "3"} {
			c.do(t, "send", "a", `{"n":`+n+`}`)
		}
		if open := lines[client.InboxEvent](t, c, "inbox", "list"); len(open) != 3 {
			t.Fatalf("%d are open, want 3", len(open))
		}
		claim := one[client.Claim](t, c, "inbox", "claim", "--limit", "2", "--lease", "5m")
		if len(claim.Data) != 2 {
			t.Fatalf("the claim is %+v", claim)
		}
		first, second := claim.Data[0].ID, claim.Data[1].ID
		has(t, "extend", c.do(t, "inbox", "extend", claim.ID, first, second, "--lease", "10m"), first+" extended", second+" extended")
		has(t, "ack", c.do(t, "inbox", "ack", claim.ID, first), first+" acknowledged")
		has(t, "release", c.do(t, "inbox", "release", claim.ID, second), second+" released")
		c.run(t, "", "inbox", "ack", claim.ID, second).failsWith(t, "1 of 1 events are lost")
		has(t, "consume", c.do(t, "inbox", "consume", "--drain"), `"payload":{"n":2}`, `"payload":{"n":3}`)
		has(t, "claim", c.do(t, "inbox", "claim"), "no open events")
		streamed := c.start(t, "inbox", "stream", "--json")
		c.do(t, "send", "b", `"new"`)
		streamed.line(t, `"payload":"new"`)
	})
}

// What keys may do, and organizations that are suspended and deleted.
func TestCLIKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		c := newCommandLine(t, startServer(t, db, nil))
		key := one[client.Key](t, c, "key", "create", "--name", "reader", "--scope", "read", "--expires", "90d")
		reader := c.with(key.Key)
		has(t, "me", reader.do(t, "me"), "name reader", "scopes read")
		reader.run(t, "", "send", "a").failsWith(t, "scope")
		has(t, "key list", c.do(t, "key", "list"), id(key.ID)+" reader")
		next := strings.TrimSpace(c.do(t, "key", "rotate", id(key.ID), "--overlap", "1h", "--only-key"))
		c.do(t, "key", "revoke", id(key.ID))
		has(t, "me", c.with(next).do(t, "me"), "scopes read")
		c.with("sk_none").run(t, "", "me").failsWith(t, "is TRIGGERD_KEY")
		me := one[client.Me](t, c, "me", "--inbox", "everything")
		org := id(me.Organization.ID)
		has(t, "org set", c.do(t, "org", "set", org, "--rate-limit", "7"), "rate limit 7", "inbox everything")
		has(t, "org suspend", c.do(t, "org", "suspend", org), "suspended yes")
		has(t, "org resume", c.do(t, "org", "resume", org), "suspended no")
		has(t, "org list", c.do(t, "org", "list"), org+" Example free 7")
		has(t, "org key", c.do(t, "org", "key", org, "--name", "second"), "name second")
		has(t, "org delete", c.do(t, "org", "delete", org, "--yes"), "is deleted")
	})
}

// The operator's commands want the token.
func TestCLIAdminToken(t *testing.T) {
	t.Parallel()
	s := startServer(t, storetest.SQLite(t), func(set *settings) { set.AdminToken = "operator" })
	c := &commandLine{map[string]string{"TRIGGERD_URL": s.URL}}
	c.run(t, "", "org", "list").failsWith(t, "set ADMIN_TOKEN")
	c.env["ADMIN_TOKEN"] = "operator"
	c.do(t, "org", "create", "Example")
	has(t, "org list", c.do(t, "org", "list"), "1 Example free")
}

// Many events in one request, and what a type's schema does not allow.
func TestCLISendLines(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		c := newCommandLine(t, startServer(t, db, nil))
		has(t, "type put", c.do(t, "type", "put", "user.created", "--schema", `{"required":["name"]}`, "--mode", "reject"), "mode reject")
		const input = `{"type":"user.created","payload":{"name":"Ada"},"dedup_id":"1"}` + "\n" + `{"type":"user.created","payload":{},"dedup_id":"2"}` + "\n" +
			`{"type":"user.created","payload":{"name":"Ada"},"dedup_id":"1"}` + "\n" + `{"type":"b"`
		got := c.run(t, input, "send", "--ndjson")
		got.failsWith(t, "2 of 4 events were not accepted")
		has(t, "send", got.out, "1 accepted, 1 duplicates, 2 rejected, 0 unavailable")
		has(t, "send", got.errOut, "event 2 is rejected", "event 4 is rejected")
		c.do(t, "type", "delete", "user.created")
		if events := lines[client.Event](t, c, "event", "list"); len(events) != 1 || events[0].DedupID != "1" {
			t.Errorf("the events are %+v", events)
		}
	})
}

// Each line is refused as the server refuses it, and no event is taken for
// another one.
func TestCLISendOddLines(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		c := newCommandLine(t, startServer(t, db, nil))
		input := strings.Join([]string{
			`{"type":"a","payload":1,"dedup_id":"caf` + "\xe9" + `"}`,
			`{"type":"a","payload":2,"dedup_id":"caf` + "\xe8" + `"}`,
			`{"type":"a","payload":3,"dedup_id":"\ud800"}`,
			`{"type":"a","payload":4,"dedup_id":""}`,
			`{"TYPE":"a","payload":5}`,
			`{"type":"a","type":"a","payload":6}`,
			`{"type":["a"],"payload":7}`,
			`[]`,
			`{"type":"a","payload":"` + strings.Repeat("x", 9<<20) + `"}`,
			`{"type":"a","payload":10,"dedup_id":null}`,
			`{"type":"a","payload":11}`,
			`{"type":"a","payload":` + strings.Repeat("[", 70) + strings.Repeat("]", 70) + `}`,
		}, "\n")
		got := c.run(t, "\ufeff"+input, "send", "--ndjson")
		got.failsWith(t, "10 of 12 events were not accepted")
		has(t, "send", got.out, "2 accepted, 0 duplicates, 10 rejected, 0 unavailable")
		has(t, "send", got.errOut, "event 1 is rejected: Invalid JSON: ", "event 2 is rejected: Invalid JSON: ", "event 3 is rejected: Validation failed: ",
			"event 4 is rejected: Validation failed: ", "event 5 is rejected: Validation failed: ", "event 6 is rejected: Validation failed: ",
			"event 7 is rejected: Validation failed: ", "event 8 is rejected: Invalid JSON: ", "event 9 is rejected: Body too large: ", "event 12 is rejected: Invalid JSON: ")
		if strings.Contains(got.errOut, "Go ") || strings.Contains(got.errOut, "struct") {
			t.Errorf("it shows Go's names: %s", got.errOut)
		}
		if events := lines[client.Event](t, c, "event", "list"); len(events) != 2 {
			t.Errorf("the events are %+v", events)
		}
	})
}

// A receiver on this machine gets new events, as from a webhook, and those of
// the inbox.
func TestCLIListen(t *testing.T) {
	t.Parallel()
	rec := newRecorder(t, func(n int, _ received) int { return []int{204, 500, 204, 204, 204}[n] })
	c := newCommandLine(t, startServer(t, storetest.SQLite(t), nil))
	old := one[client.Accepted](t, c, "send", "user.created", `"old"`)
	secret := newSecret()
	watching := c.start(t, "listen", "--forward", rec.URL, "--type", "user.*", "--secret", secret)
	watching.line(t, "ready")
	event := one[client.Accepted](t, c, "send", "user.created", `{"n": 1.0}`)
	c.do(t, "send", "order.paid")
	watching.line(t, event.ID)
	got := rec.wait(t, 1)[0]
	verifier, err := client.NewVerifier(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := verifier.Verify(got.header, got.body); err != nil || !strings.HasSuffix(string(got.body), `"data":{"n": 1.0}}`) {
		t.Errorf("the receiver got %s: %v", got.body, err)
	}
	has(t, "listen", watching.stop(), "1 forwarded, 0 refused")
	working := c.start(t, "listen", "--forward", rec.URL, "--inbox")
	has(t, "listen --inbox", working.line(t, old.ID), "500", "retry in 1s")
	has(t, "listen --inbox", working.line(t, old.ID), "204")
	if got := rec.wait(t, 5); len(got) != 5 {
		t.Errorf("%d requests have come, want 5", len(got))
	}
	working.stop()
	if open := lines[client.InboxEvent](t, c, "inbox", "list"); len(open) != 0 {
		t.Errorf("%d are open in the inbox", len(open))
	}
}
