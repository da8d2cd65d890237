package torture

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// How many events tenants get. A small one gets so few that one page of the
// original inbox has them all.
const (
	smallTenant = 85
	largeTenant = 500
)

// newTenant creates an organization and registers up to three webhooks. Two
// fifths have no webhooks, so their events wait in the inbox. Some of the
// inboxes get all events. Most inboxes have consumers.
func (c *client) newTenant(ctx context.Context, random *rand.Rand) (*tenant, error) {
	t, err := c.signUp(ctx, random)
	if err != nil {
		return nil, err
	}
	if random.IntN(3) == 0 {
		t.size += random.IntN(largeTenant - smallTenant)
	}
	for i := range max(0, random.IntN(5)-1) {
		if err := c.newHook(ctx, random, t, i); err != nil {
			return nil, err
		}
	}
	t.everything, t.consumed = random.IntN(4) == 0, random.IntN(3) > 0
	if t.everything {
		q := request{method: http.MethodPatch, path: "/v1/me", key: t.key, body: []byte(`{"inbox":"everything"}`)}
		if _, err := c.insistOn(ctx, random, q, http.StatusOK); err != nil {
			return nil, err
		}
	}
	c.book.addTenant(t)
	return t, nil
}

// signUp creates an organization.
func (c *client) signUp(ctx context.Context, random *rand.Rand) (*tenant, error) {
	var made struct {
		Key string `json:"api-key"`
	}
	t := &tenant{n: c.book.nextTenant(), size: smallTenant}
	q := request{method: http.MethodPost, path: "/api/keys/generate", body: []byte(`{"organization_name":"Torture","tier":"enterprise"}`)}
	a, err := c.insistOn(ctx, random, q, http.StatusOK)
	if err != nil || c.read(&a, &made) != nil {
		return nil, errors.Join(errNoAnswer, err)
	}
	t.key = made.Key
	return t, nil
}

// newHook registers a webhook in a random way.
func (c *client) newHook(ctx context.Context, random *rand.Rand, t *tenant, i int) error {
	filter := patterns()[random.IntN(len(patterns()))]
	if random.IntN(2) == 0 {
		h := &hook{tenant: t, filter: filter}
		return c.newHookOnce(ctx, random, h, fmt.Sprintf("/tenant/%d/%d", t.n, i), "")
	}
	return c.newHookOriginal(ctx, random, t, fmt.Sprintf("/tenant/%d/%d", t.n, i), filter)
}

// newHookOnce registers a webhook with an Idempotency-Key, and repeats the
// request until there is an answer, so that there is one webhook in the end.
// The secret is ours, because a repeated answer does not show it. more is the
// rest of the request's body.
func (c *client) newHookOnce(ctx context.Context, random *rand.Rand, h *hook, path, more string) error {
	c.book.addHook(path, h)
	raw := make([]byte, 32)
	for i := range raw {
		raw[i] = byte(random.Uint32())
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString(raw)
	url := c.receiver.anyURL(path, h.n)
	body := fmt.Sprintf(`{"url":%q,"types":[%q],"secret":%q%s}`, url, h.filter, secret, more)
	if h.filter == "" {
		body = fmt.Sprintf(`{"url":%q,"secret":%q%s}`, url, secret, more)
	}
	q := request{
		method: http.MethodPost, path: "/v1/webhooks", key: h.tenant.key, body: []byte(body),
		header: map[string]string{"Idempotency-Key": path},
	}
	a, err := c.insistOn(ctx, random, q, http.StatusCreated)
	if err != nil {
		return err
	}
	var made struct{ ID int64 }
	if err := c.read(&a, &made); err != nil {
		return err
	}
	h.id = made.ID
	v, err := standardwebhooks.NewWebhook(secret)
	if err == nil {
		c.book.setSecret(h, v)
	}
	return err
}

// newHookOriginal registers a webhook by the original API. Without an answer,
// it registers another one at another URL, so that each signature belongs to a
// known webhook.
func (c *client) newHookOriginal(ctx context.Context, random *rand.Rand, t *tenant, path, filter string) error {
	for try := 0; ; try++ {
		path := fmt.Sprintf("%s/%d", path, try)
		h := &hook{tenant: t, filter: filter}
		c.book.addHook(path, h)
		q := request{method: http.MethodPost, path: "/api/webhook/register", key: t.key}
		q.body, _ = json.Marshal(map[string]string{"url": c.receiver.anyURL(path, h.n), "event_type_filter": filter}) // cannot fail
		a, err := c.ask(ctx, c.nodes[random.IntN(len(c.nodes))], q, http.StatusOK)
		if err == nil {
			var made struct {
				ID     int64 `json:"webhook-id"`
				Secret string
			}
			if err := c.read(&a, &made); err != nil {
				return err
			}
			h.id = made.ID
			v, err := standardwebhooks.NewWebhook(made.Secret)
			if err == nil {
				c.book.setSecret(h, v)
			}
			return err
		}
		t.doubtful = true
		if try == 20 {
			return err
		}
		if err := pause(ctx, retryPause); err != nil {
			return err
		}
	}
}
