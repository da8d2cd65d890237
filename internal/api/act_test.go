package api

import (
	"fmt"
	"strings"
	"testing"

	"triggerd/client"
	"triggerd/internal/store/storetest"
	"triggerd/internal/trigger"
)

// inOrganization is the header of an operator who acts.
func inOrganization(id any) string { return fmt.Sprintf("%s: %v", organizationHeader, id) }

// The operator acts in an organization on each of its routes, as a key with all
// scopes would, and nobody else does by the header.
func TestOperatorActs(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator, ticking)
		org, key := s.found(t)
		token, in := "Authorization: Bearer "+operator, inOrganization(org.ID)
		for _, rt := range s.api.newRoutes() {
			if !rt.needsKey() {
				continue
			}
			target, name := s.harmless(rt), rt.method+" "+rt.path
			body := description().operations[name].example()
			if rt.path == "/v1/me" || rt.path == "/v1/inbox/claim" {
				body = "{}"
			}
			want := s.do(t, rt.method, target, key, body).status
			if got := s.do(t, rt.method, target, "", body, token, in); got.status == 401 || rt.method != "DELETE" && got.status/100 != want/100 {
				t.Errorf("%s: %d for the operator, %d with a key: %s", name, got.status, want, got.body)
			}
			s.do(t, rt.method, target, "", body, token, inOrganization(999)).wants(t, name+" in no organization", 404, `"code":"not_found"`)
			s.do(t, rt.method, target, "", body, token, inOrganization("x")).wants(t, name+" in x", 400, `"parameter":"Triggerd-Organization"`)
			s.do(t, rt.method, target, key, body, in).wants(t, name+" with a key", 400, "requires the operator's token")
			s.do(t, rt.method, target, key, body, token, in).wants(t, name+" with both", 400, "requires the operator's token")
			s.do(t, rt.method, target, "", body, in, "Authorization: Bearer "+key).wants(t, name+" with a key as bearer", 400, "requires the operator's token")
			s.do(t, rt.method, target, "", body, in).wants(t, name+" without a token", 401, "")
		}
		s.do(t, "GET", "/v1/me", "", "", token).wants(t, "without an organization", 401, "")
	})
}

func TestOperatorActsAsOne(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, withOperator)
		mine, key := s.found(t)
		other, _ := s.found(t)
		c := s.as(operator)
		c.OrganizationID = mine.ID
		made, err := c.CreateWebhook(t.Context(), client.WebhookInput{URL: "https://example.com/"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.as(key).Webhook(t.Context(), made.ID); err != nil {
			t.Errorf("its own webhook: %v", err)
		}
		me, err := c.Me(t.Context())
		if err != nil || me.Organization.ID != mine.ID || me.Key.ID != 0 || me.RateLimit == nil {
			t.Errorf("me is %+v, %v", me, err)
		}
		if again, err := c.CreateKey(t.Context(), client.KeyInput{}); err != nil || len(again.Scopes) != 3 {
			t.Errorf("a key: %+v, %v", again, err)
		}
		if list, err := c.OrganizationsPage(t.Context(), 10, ""); err != nil || len(list.Data) != 2 {
			t.Errorf("the operator's own route: %+v, %v", list, err)
		}
		c.OrganizationID = other.ID
		if _, err := c.Webhook(t.Context(), made.ID); !client.IsCode(err, client.CodeNotFound) {
			t.Errorf("another's webhook: %v", err)
		}
		token, in := "Authorization: Bearer "+operator, inOrganization(mine.ID)
		if log := s.log.String(); !strings.Contains(log, fmt.Sprintf(`"msg":"operator acts","organization_id":%d,"method":"POST","route":"/v1/webhooks"`, mine.ID)) ||
			!strings.Contains(log, fmt.Sprintf(`"organization_id":%d`, other.ID)) || strings.Contains(log, operator) {
			t.Errorf("the log is %s", log)
		}
		s.do(t, "GET", "/api/inbox", "", "", token, in).wants(t, "the original's routes", 401, "")
		s.do(t, "GET", "/api/inbox", key, "", in).wants(t, "the original's routes with a key", 200, "")
		for _, id := range []string{"", "0", "-1", "+1", "01", " 1 2", "9223372036854775808", "1.0", "%31"} {
			s.do(t, "GET", "/v1/me", "", "", token, inOrganization(id)).wants(t, id, 400, `"code":"invalid_parameter"`)
		}
		s.do(t, "GET", "/v1/me", "", "", token, in, in).wants(t, "twice", 400, `"code":"invalid_parameter"`)
		s.do(t, "GET", "/v1/me", "", "", "Authorization: Bearer wrong", inOrganization(999)).wants(t, "a wrong token", 401, "")
		if _, err := s.as(operator).UpdateOrganization(t.Context(), mine.ID, client.OrganizationPatch{Suspended: client.Set(true)}); err != nil {
			t.Fatal(err)
		}
		s.do(t, "GET", "/v1/events", "", "", token, in).wants(t, "a suspended one, as a key", 403, "organization_suspended")
		s.do(t, "GET", "/v1/me", "", "", token, in).wants(t, "a suspended one", 200, `"key":null`)
		if err := s.as(operator).DeleteOrganization(t.Context(), mine.ID); err != nil {
			t.Fatal(err)
		}
		s.do(t, "GET", "/v1/me", "", "", token, in).wants(t, "a deleted one", 404, "")
	})
}

// A request of the operator that lasts goes on for as long as the token holds
// and the organization is there.
func TestOperatorActsForLong(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, db *storetest.DB) {
		s := newServer(t, db, ticking)
		token := trigger.NewOperatorToken([32]byte{1})
		set := func(token string) {
			if err := s.store.SetOperatorToken(t.Context(), trigger.HashOperatorToken(token)); err != nil {
				t.Fatal(err)
			}
		}
		set(token)
		orgs := []int64{storetest.NewOrganization(t, s.store), storetest.NewOrganization(t, s.store)}
		claim := func(org int64, wait int) *lasting {
			body := fmt.Sprintf(`{"wait_seconds":%d}`, wait)
			return s.begin(t, fmt.Sprint("claim of ", org), fmt.Sprintf("POST /v1/inbox/claim HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s",
				token, inOrganization(org), len(body), body))
		}
		if status, _, body := claim(orgs[0], 1).end(t); status != 200 {
			t.Errorf("a claim that waits a second: %d %s", status, body)
		}
		first, second := claim(orgs[0], 20), claim(orgs[1], 20)
		if err := s.as(token).DeleteOrganization(t.Context(), orgs[0]); err != nil {
			t.Fatal(err)
		}
		if status, _, body := first.end(t); status != 401 {
			t.Errorf("of an organization that is deleted: %d %s", status, body)
		}
		set(trigger.NewOperatorToken([32]byte{2}))
		if status, _, body := second.end(t); status != 401 {
			t.Errorf("with a token that was replaced: %d %s", status, body)
		}
	})
}
