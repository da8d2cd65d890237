package store_test

import (
	"bytes"
	"encoding/base64"
	"log/slog"
	"strings"
	"testing"

	"triggerd/internal/store"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// plainLife stores webhooks without a key, changes and deletes some of them, and
// stops.
func plainLife(t *testing.T, db *storetest.DB) {
	t.Helper()
	s := db.Open(t)
	org := storetest.NewOrganization(t, s)
	for i := range 50 {
		w := trigger.Webhook{
			State: trigger.Active, URL: "http://127.0.0.1:9/hook", Secrets: trigger.OneSecret(trigger.NewSecret(plainSecret())),
			Headers: map[string]string{"X-Token": plainHeader + strings.Repeat("x", 50*i)}, Auth: trigger.Auth{Bearer: plainHeader},
		}
		id, err := s.AddWebhook(t.Context(), org, w, store.Once{})
		if err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			err = s.SetWebhookState(t.Context(), org, id, trigger.Deleted)
		case 1:
			_, err = s.SetWebhook(t.Context(), org, id, func(w *trigger.Webhook) error { w.Headers = nil; return nil })
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

const plainHeader = "PLAIN-HEADER"

func plainSecret() (secret [32]byte) { return [32]byte([]byte("PLAIN-SECRET-PLAIN-SECRET-PLAIN-")) }

// countPlain counts the secrets of plainLife in the files of a data folder.
func countPlain(t *testing.T, db *storetest.DB) (n int) {
	t.Helper()
	secret := plainSecret()
	for _, text := range []string{plainHeader, string(secret[:]), base64.StdEncoding.EncodeToString(secret[:])[:42]} {
		n += countBytes(t, db.Options.DataDir, text)
	}
	return n
}

// sealed opens the database with a key, runs fn meanwhile, closes it, and
// returns what was logged.
func sealed(t *testing.T, db *storetest.DB, fn func()) (logged string) {
	t.Helper()
	var log bytes.Buffer
	db.Options.Log = slog.New(slog.NewTextHandler(&log, nil))
	db.Options.SecretKeys = []string{base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{5}, 32))}
	s := db.Open(t)
	fn()
	if c, err := s.Check(t.Context(), false); err != nil || c.Sum() != 0 {
		t.Errorf("%+v, %v", c, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return log.String()
}

// ofOlder is what a program has done that neither overwrote what it deleted nor
// remembered that a secret was plain.
const ofOlder = `PRAGMA application_id = 0; PRAGMA secure_delete = OFF;
	CREATE TABLE older AS SELECT sealed FROM webhooks; DROP TABLE older`

const rewritten = "the database file was rewritten"

// Once SECRET_KEY is set, no secret is left that was stored plain before; the
// file is rewritten once for that, also if it was written by a program that did
// not remember it.
func TestPlainSecretsGo(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]string{"by this program": "SELECT 1", "by an older one": ofOlder} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := storetest.SQLite(t)
			plainLife(t, db)
			if countPlain(t, db) == 0 {
				t.Fatal("no secret is in the files, so this test cannot see that it goes")
			}
			raw := db.SQL(t)
			if _, err := raw.ExecContext(t.Context(), before); err != nil {
				t.Fatal(err)
			}
			raw.Close()
			logged := sealed(t, db, func() {
				if n := countPlain(t, db); n != 0 {
					t.Errorf("%d times in the files of a running server", n)
				}
			})
			if n := countPlain(t, db); n != 0 || strings.Count(logged, rewritten) != 1 {
				t.Errorf("%d times in the files; logged %s", n, logged)
			}
			if logged := sealed(t, db, func() {}); strings.Contains(logged, "rewritten") {
				t.Errorf("the second start logged %s", logged)
			}
		})
	}
}

// A file in which no secret was ever plain is not rewritten.
func TestNothingPlainToRewrite(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t) // without a key, and without a webhook
	org := storetest.NewOrganization(t, s)
	add(t, s, events(s, org, 3), trigger.InboxID)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if logged := sealed(t, db, func() {}); strings.Contains(logged, "rewritten") {
			t.Errorf("logged %s", logged)
		}
	}
	plainLife(t, db) // with a key
	if logged := sealed(t, db, func() {}); strings.Contains(logged, "rewritten") || countPlain(t, db) != 0 {
		t.Errorf("%d times in the files; logged %s", countPlain(t, db), logged)
	}
}

// If the file cannot be rewritten to the end, here because another program
// reads it, the server starts all the same, and says so. The next start ends
// it, and so does a start after a crash in the middle.
func TestPlainSecretsGoAtTheNextStart(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	plainLife(t, db)
	raw := db.SQL(t)
	reader, err := raw.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.QueryRowContext(t.Context(), "SELECT count(*) FROM webhooks").Scan(new(int)); err != nil {
		t.Fatal(err)
	}
	var killed disk
	logged := sealed(t, db, func() { killed = folder{db, t, db.Options.DataDir}.disk() })
	if !strings.Contains(logged, "cannot be rewritten") || strings.Contains(logged, rewritten) {
		t.Errorf("logged %s", logged)
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	raw.Close()
	for name, next := range map[string]*storetest.DB{"restart": db, "crash": killed.folder(t).DB} {
		logged := sealed(t, next, func() {})
		if n := countPlain(t, next); n != 0 || !strings.Contains(logged, rewritten) {
			t.Errorf("%s: %d times in the files; logged %s", name, n, logged)
		}
	}
}
