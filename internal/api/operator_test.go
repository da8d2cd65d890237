package api

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// madeToken is an operator token that was made.
func madeToken() string { return trigger.NewOperatorToken([32]byte{1, 2, 3}) }

// The operator's routes want the token, whatever is set, and whether one was
// made or not.
func TestOperatorRoutesWantTheToken(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		st := db.Open(t)
		tokens := map[string]string{"set": operator, "in the folder": madeToken(), "stored": "", "none": ""}
		for _, name := range []string{"none", "set", "in the folder", "stored"} {
			for _, open := range []bool{false, true} {
				s := serveStore(t, db, st, func(a *API) { a.OpenSignup, a.Loopback = open, !open })
				token := tokens[name]
				switch name {
				case "set":
					s.api.AdminToken, s.api.MadeToken = token, madeToken()
				case "in the folder":
					s.api.MadeToken = token
				case "stored":
					token = trigger.NewOperatorToken([32]byte{9})
					if err := st.SetOperatorToken(t.Context(), trigger.HashOperatorToken(token)); err != nil {
						t.Fatal(err)
					}
				}
				s.checkOperatorRoutes(t, name, token)
			}
		}
	})
}

// checkOperatorRoutes asks all of them with the token, if there is one, and
// without.
func (s *server) checkOperatorRoutes(t *testing.T, name, token string) {
	t.Helper()
	routes := 0
	for _, rt := range s.api.routes() {
		if rt.scope != scopeAdmin {
			continue
		}
		routes++
		what := fmt.Sprintf("token %s, %s %s", name, rt.method, rt.path)
		for _, header := range []string{"X-Other: none", "Authorization: Bearer ", "X-Api-Key: " + token, "X-Admin-Token: " + token} {
			s.do(t, rt.method, filled(rt.path), "", "", header).wants(t, what, 401, "")
		}
		if token == "" {
			s.do(t, rt.method, filled(rt.path), "", "", "Authorization: Bearer "+madeToken()).wants(t, what, 401, "")
			continue
		}
		if r := s.do(t, rt.method, filled(rt.path), "", "", "Authorization: Bearer "+token); r.status == 401 || r.status >= 500 {
			t.Errorf("%s: %d with the token: %s", what, r.status, r.body)
		}
	}
	if routes < 7 {
		t.Errorf("only %d routes are the operator's", routes)
	}
}

// ADMIN_TOKEN is the only token where it is set.
func TestOneOperatorToken(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		stored := trigger.NewOperatorToken([32]byte{9})
		s := newServer(t, db, withOperator, func(a *API) { a.MadeToken = madeToken() })
		if err := s.store.SetOperatorToken(t.Context(), trigger.HashOperatorToken(stored)); err != nil {
			t.Fatal(err)
		}
		for token, status := range map[string]int{operator: 200, stored: 401, madeToken(): 401} {
			s.ask(t, "GET", "/v1/organizations", token, "").wants(t, token, status, "")
		}
	})
}

// Another token takes the place of the one in the database, on all nodes within
// 5 s.
func TestStoredOperatorToken(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db)
		nodes := []*server{s, serveStore(t, db, s.store)}
		before := ""
		for i := range byte(3) {
			token := trigger.NewOperatorToken([32]byte{i})
			if err := s.store.SetOperatorToken(t.Context(), trigger.HashOperatorToken(token)); err != nil {
				t.Fatal(err)
			}
			for n, node := range nodes {
				node.clock.Advance(minute)
				what := fmt.Sprintf("token %d on node %d", i, n)
				node.ask(t, "GET", "/v1/organizations", token, "").wants(t, what, 200, "")
				if before != "" {
					node.ask(t, "GET", "/v1/organizations", before, "").wants(t, what+", the one before", 401, "")
				}
			}
			before = token
		}
		last := trigger.NewOperatorToken([32]byte{99})
		if err := s.store.SetOperatorToken(t.Context(), trigger.HashOperatorToken(last)); err != nil {
			t.Fatal(err)
		}
		for _, node := range nodes {
			node.clock.Advance(keyTTL)
			node.ask(t, "GET", "/v1/organizations", before, "").wants(t, "replaced", 401, "")
			node.ask(t, "GET", "/v1/organizations", last, "").wants(t, "new", 200, "")
		}
	})
}

// Guesses are limited for each address, as wrong keys are; the right token
// passes all the same, and no token is no guess.
func TestOperatorGuesses(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t), withOperator)
	const path = "/v1/organizations"
	for range 2 {
		for range wrongKeys {
			s.ask(t, "GET", path, "wrong", "").wants(t, "a guess", 401, "")
		}
		r := s.ask(t, "GET", path, "wrong", "")
		r.wantsProblem(t, "one guess more", 429, "rate_limited", "")
		if r.header.Get("Retry-After") == "" {
			t.Errorf("no Retry-After: %v", r.header)
		}
		s.do(t, "GET", "/metrics", "", "", "Authorization: Bearer wrong").wants(t, "at another route", 429, `"limit":20`)
		for range 2 {
			s.ask(t, "GET", path, operator, "").wants(t, "the right one", 200, "")
			s.ask(t, "GET", path, "", "").wants(t, "none", 401, "")
		}
		s.do(t, "GET", "/v1/me", newWrongKey(), "").wants(t, "a wrong key", 401, "")
		s.clock.Advance(minute)
	}
	if strings.Contains(s.log.String(), operator) {
		t.Error("the log has the token")
	}
}

// A made token does not count for the metrics on loopback; beyond it does.
// As long as there is no token, guesses beyond the limit do not cost a query
// each; the first token passes a second after it was made.
func TestGuessesWithoutAToken(t *testing.T) {
	t.Parallel()
	s := newServer(t, storetest.SQLite(t))
	queries := 0
	s.api.token.read = func(ctx context.Context) ([32]byte, error) {
		queries++
		return s.store.OperatorToken(ctx)
	}
	for range 1000 {
		s.ask(t, "GET", "/v1/organizations", madeToken(), "")
	}
	if queries > wrongKeys+1 {
		t.Errorf("1000 guesses cost %d queries, want %d at most", queries, wrongKeys+1)
	}
	if err := s.store.SetOperatorToken(t.Context(), trigger.HashOperatorToken(madeToken())); err != nil {
		t.Fatal(err)
	}
	s.clock.Advance(absentTTL)
	s.ask(t, "GET", "/v1/organizations", madeToken(), "").wants(t, "the token", 200, "")
}

func TestMetricsWantTheToken(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	st := db.Open(t)
	for _, test := range []struct {
		name   string
		set    func(*API)
		anyone int
		token  string
	}{
		{"loopback", func(*API) {}, 200, ""},
		{"loopback, made", func(a *API) { a.MadeToken = madeToken() }, 200, madeToken()},
		{"loopback, set", withOperator, 401, operator},
		{"beyond, set", func(a *API) { a.AdminToken, a.Loopback = operator, false }, 401, operator},
		{"beyond, made", func(a *API) { a.MadeToken, a.Loopback, a.OpenSignup = madeToken(), false, true }, 401, madeToken()},
	} {
		s := serveStore(t, db, st, test.set)
		if r := s.ask0(t, "/metrics", ""); r != test.anyone {
			t.Errorf("%s: %d for anyone, want %d", test.name, r, test.anyone)
		}
		if r := s.ask0(t, "/metrics", test.token); r != 200 {
			t.Errorf("%s: %d with the token", test.name, r)
		}
	}
}

// ask0 asks for a path, with a token unless it is "", and gives the status.
func (s *server) ask0(t *testing.T, path, token string) int {
	t.Helper()
	header := "X-Other: none"
	if token != "" {
		header = "Authorization: Bearer " + token
	}
	return s.do(t, "GET", path, "", "", header).status
}
