package api

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// heldBody begins a request whose body the server reads, but for its last byte.
// The returned function sends that, and returns the answer.
func (s *server) heldBody(t *testing.T, path, key, body string) (finish func() (status int, answer string)) {
	t.Helper()
	l := s.begin(t, path, "POST "+path+" HTTP/1.1\r\nHost: a\r\nX-Api-Key: "+key+"\r\nContent-Type: application/json\r\nContent-Length: "+
		strconv.Itoa(len(body))+"\r\nExpect: 100-continue\r\n\r\n")
	l.goesOn(t)
	send := func(text string) {
		t.Helper()
		if _, err := io.WriteString(l.conn, text); err != nil {
			t.Fatal(err)
		}
	}
	send(body[:len(body)-1])
	return func() (int, string) {
		t.Helper()
		send(body[len(body)-1:])
		status, _, answer := l.end(t)
		return status, answer
	}
}

// A key makes no key that outlasts it, also where it gets an end while it sends
// the body of its request.
func TestKeyThatIsRotatedMeanwhileMakesNone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		_, owner := s.found(t)
		other := s.make(t, owner, client.KeyInput{Name: "never ends"})
		for _, tt := range []struct {
			path, body string
			status     int
			part       string // of the answer, where the request is refused
		}{
			{"/v1/keys", `{"name":"kept"}`, 201, ""},
			{"/v1/keys", `{"name":"kept","expires_at":null}`, 201, ""},
			{"/v1/keys", `{"expires_at":"9999-01-01T00:00:00Z"}`, 422, "#/expires_at"},
			{fmt.Sprintf("/v1/keys/%d/rotate", other.ID), `{"overlap_seconds":0}`, 422, "The key to rotate: expires_at must not be after this key ends"},
		} {
			asks := s.make(t, owner, client.KeyInput{Name: "asks"})
			finish := s.heldBody(t, tt.path, asks.Key, tt.body)
			overlap := time.Minute.Seconds()
			if _, err := s.as(owner).RotateKey(t.Context(), asks.ID, &overlap); err != nil {
				t.Fatal(err)
			}
			ends := s.keyOf(t, asks.Key).ExpiresAt
			if ends.IsZero() {
				t.Fatal("the key that asks has no end")
			}
			status, answer := finish()
			if reply := (reply{status: status, body: answer}); status != tt.status {
				t.Errorf("%s %s: %d %s, want %d", tt.path, tt.body, reply.status, reply.body, tt.status)
			} else {
				reply.wants(t, tt.path+tt.body, tt.status, tt.part)
			}
			var made client.Key
			if err := json.Unmarshal([]byte(answer), &made); err != nil {
				t.Fatal(err)
			}
			if status == 201 && (made.ExpiresAt.IsZero() || made.ExpiresAt.After(ends)) {
				t.Errorf("%s %s: it ends at %v, and the one that has made it at %v", tt.path, tt.body, made.ExpiresAt, ends)
			}
		}
		if got := s.keyOf(t, other.Key); !got.ExpiresAt.IsZero() {
			t.Errorf("the other key ends at %v", got.ExpiresAt)
		}
	})
}

// A key that ends while it sends the body of its request makes nothing.
func TestKeyThatEndsMeanwhileMakesNone(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		for _, name := range []string{"revoked", "suspended", "deleted", "expired"} {
			_, owner := s.found(t)
			other := s.make(t, owner, client.KeyInput{ExpiresAt: s.store.Now().Add(time.Hour)})
			key := s.make(t, owner, client.KeyInput{ExpiresAt: s.store.Now().Add(time.Hour)})
			paths := []string{"/v1/keys", fmt.Sprintf("/v1/keys/%d/rotate", other.ID)}
			var finish []func() (int, string)
			for _, path := range paths {
				finish = append(finish, s.heldBody(t, path, key.Key, `{}`))
			}
			keys := s.rows(t, "api_keys")
			status, code := endings(s, key, owner)[name](t)
			for i, path := range paths {
				got, answer := finish[i]()
				reply{status: got, body: answer}.wants(t, name+" "+path, status, `"code":"`+code+`"`)
			}
			if diff := cmp.Diff(keys, s.rows(t, "api_keys")); diff != "" {
				t.Errorf("%s: a key was made: %s", name, diff)
			}
		}
	})
}
