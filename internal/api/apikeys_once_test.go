package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"triggerd/client"
	"triggerd/internal/store/storetest"
)

// making is a request that makes something.
type making struct{ path, token, body, other string }

// makings are the requests that make a key or an organization.
func (s *server) makings(t *testing.T) map[string]making {
	t.Helper()
	org, key := s.found(t)
	id := s.make(t, key, client.KeyInput{Name: "to rotate"}).ID
	itself := s.make(t, key, client.KeyInput{Name: "rotates itself"}) // and then has an end
	return map[string]making{
		"an organization":      {"/v1/organizations", operator, `{"name":"Once"}`, `{"name":"Once","tier":"free"}`},
		"a key":                {"/v1/keys", key, `{"name":"once"}`, `{"name":"Once"}`},
		"a key, of nothing":    {"/v1/keys", key, ``, `{"name":"x"}`},
		"a key, by operator":   {fmt.Sprintf("/v1/organizations/%d/keys", org.ID), operator, `{"name":"once"}`, `{"name":"Once"}`},
		"a key, for another":   {fmt.Sprintf("/v1/keys/%d/rotate", id), key, `{"overlap_seconds":0}`, `{"overlap_seconds":1}`},
		"a key, in time again": {fmt.Sprintf("/v1/keys/%d/rotate", itself.ID), itself.Key, ``, `{"overlap_seconds":1}`},
	}
}

// without is an answer without the key that it shows.
func without(t *testing.T, body string) (rest map[string]any, key string) {
	t.Helper()
	if err := json.Unmarshal([]byte(body), &rest); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	in := rest
	if inner, ok := rest["key"].(map[string]any); ok {
		in = inner
	}
	key, _ = in["key"].(string)
	delete(in, "key")
	return rest, key
}

// The same request again makes nothing more, and shows no key again.
func TestKeysAndOrganizationsAreMadeOnce(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		made := s.makings(t)
		for i, what := range slices.Sorted(maps.Keys(made)) {
			m, header := made[what], fmt.Sprintf("Idempotency-Key: %q", fmt.Sprint("key ", i))
			s.ask(t, "POST", m.path, m.token, `{"wrong":1}`, header).wantsProblem(t, what, 422, "validation_failed", "#/wrong")
			first := s.ask(t, "POST", m.path, m.token, m.body, header)
			rest, key := without(t, first.body)
			if first.status != 201 || key == "" || first.header.Get("Idempotency-Replayed") != "" {
				t.Errorf("%s: %d %v %s", what, first.status, first.header, first.body)
			}
			keys, orgs := s.rows(t, "api_keys"), s.rows(t, "organizations")
			for _, header := range []string{header, fmt.Sprint("Idempotency-Key: key ", i)} { // quoted and bare are the same
				again := s.ask(t, "POST", m.path, m.token, m.body, header)
				same, shown := without(t, again.body)
				if again.status != 201 || shown != "" || again.header.Get("Idempotency-Replayed") != "true" || fmt.Sprint(rest) != fmt.Sprint(same) {
					t.Errorf("%s again: %d %v %s, was %s", what, again.status, again.header, again.body, first.body)
				}
				if strings.Contains(again.body, `"key":""`) || strings.Contains(again.body, `"key":null`) {
					t.Errorf("%s again: %s", what, again.body)
				}
			}
			s.ask(t, "POST", m.path, m.token, m.other, header).wantsProblem(t, what, 422, "idempotency_conflict", "")
			if s.rows(t, "api_keys") != keys || s.rows(t, "organizations") != orgs {
				t.Errorf("%s: something more was made", what)
			}
			if !s.knows(t, key) {
				t.Errorf("%s: its key is not good", what)
			}
		}
		for what, m := range made {
			for _, header := range []string{"", `""`, strings.Repeat("k", 201), "a\tb", "é"} {
				s.ask(t, "POST", m.path, m.token, m.body, "Idempotency-Key: "+header).wantsProblem(t, what+header, 422, "validation_failed", "")
			}
			s.ask(t, "POST", m.path, m.token, m.body, "Idempotency-Key: a", "Idempotency-Key: a").wantsProblem(t, what, 422, "validation_failed", "")
		}
	})
}

// What a request has made, and was deleted since, is not made again.
func TestDeletedOrganizationIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		m := s.makings(t)["an organization"]
		if m.path == "" {
			t.Fatalf("it is not among %v", slices.Sorted(maps.Keys(s.makings(t))))
		}
		first := s.ask(t, "POST", m.path, m.token, m.body, "Idempotency-Key: gone")
		var made struct {
			Organization struct {
				ID int64 `json:"id"`
			} `json:"organization"`
		}
		if err := json.Unmarshal([]byte(first.body), &made); err != nil || first.status != 201 {
			t.Fatalf("%d %s: %v", first.status, first.body, err)
		}
		s.ask(t, "DELETE", fmt.Sprint("/v1/organizations/", made.Organization.ID), m.token, "").wants(t, "deleted", 204, "")
		s.ask(t, "POST", m.path, m.token, m.body, "Idempotency-Key: gone").wantsProblem(t, "again", 409, "conflict", "")
	})
}

// Keys of requests are an organization's own; the operator's keys for it are
// in its space, and a request at another path is another request.
func TestSpacesOfIdempotencyKeys(t *testing.T) {
	t.Parallel()
	const header = "Idempotency-Key: same"
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		org, key := s.found(t)
		_, other := s.found(t)
		path := fmt.Sprintf("/v1/organizations/%d/keys", org.ID)
		for what, m := range map[string]making{
			"its own": {"/v1/keys", key, ``, path}, "another's": {"/v1/keys", other, ``, ""}, "the operator's": {"/v1/organizations", operator, `{"name":"O"}`, ""},
		} {
			r := s.ask(t, "POST", m.path, m.token, m.body, header)
			r.wants(t, what, 201, `"key":"sk_`)
			if m.other != "" {
				s.ask(t, "POST", m.other, operator, ``, header).wantsProblem(t, what, 422, "idempotency_conflict", "")
			}
		}
	})
}

// A repeated request shows the thing as it is now; where it has ended there is
// none. After a day the request is a new one.
func TestMadeOnceAndChanged(t *testing.T) {
	t.Parallel()
	const header = "Idempotency-Key: k"
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		var made client.NewOrganization
		r := s.ask(t, "POST", "/v1/organizations", operator, `{"name":"O"}`, header)
		if err := json.Unmarshal([]byte(r.body), &made); err != nil {
			t.Fatal(err)
		}
		if _, err := s.as(operator).UpdateOrganization(t.Context(), made.Organization.ID, client.OrganizationPatch{Name: client.Set("P")}); err != nil {
			t.Fatal(err)
		}
		zero := 0.0
		next, err := s.as(made.Key.Key).RotateKey(t.Context(), made.Key.ID, &zero)
		if err != nil {
			t.Fatal(err)
		}
		r = s.ask(t, "POST", "/v1/organizations", operator, `{"name":"O"}`, header)
		r.wants(t, "renamed", 201, `"name":"P"`)
		r.wants(t, "its key rotated", 201, fmt.Sprintf(`"key":{"id":%d,`, next.ID))
		key := s.ask(t, "POST", "/v1/keys", next.Key, `{"name":"n"}`, header).member(t, "key")
		if err := s.as(next.Key).DeleteKey(t.Context(), s.keyOf(t, key).ID); err != nil {
			t.Fatal(err)
		}
		s.ask(t, "POST", "/v1/keys", next.Key, `{"name":"n"}`, header).wantsProblem(t, "revoked since", 409, "conflict", "")
		db.Clock.Advance(24*time.Hour + time.Second)
		s.ask(t, "POST", "/v1/keys", next.Key, `{"name":"m"}`, header).wants(t, "a day later", 201, `"key":"sk_`)
		if err := s.as(operator).DeleteOrganization(t.Context(), made.Organization.ID); err != nil {
			t.Fatal(err)
		}
		s.ask(t, "POST", "/v1/organizations", operator, `{"name":"O"}`, header).wants(t, "a day later", 201, `"key":"sk_`)
	})
}

// Of requests that race with one key, one makes something and shows its key.
func TestMadeOnceByMany(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		for what, m := range s.makings(t) {
			keys := s.rows(t, "api_keys")
			var wg sync.WaitGroup
			var mu sync.Mutex
			shown, replayed := 0, 0
			for range 8 {
				wg.Go(func() {
					r := s.ask(t, "POST", m.path, m.token, m.body, "Idempotency-Key: race "+what)
					r.wants(t, what, 201, `"prefix":"sk_`)
					mu.Lock()
					defer mu.Unlock()
					if strings.Contains(r.body, `"key":"sk_`) {
						shown++
					}
					if r.header.Get("Idempotency-Replayed") == "true" {
						replayed++
					}
				})
			}
			wg.Wait()
			if shown != 1 || replayed != 7 || s.rows(t, "api_keys") != keys+1 {
				t.Errorf("%s: %d keys shown, %d replayed, %d made", what, shown, replayed, s.rows(t, "api_keys")-keys)
			}
		}
	})
}
