package store

import (
	"context"
	"encoding/json"

	"triggerd/internal/trigger"
)

// webhookConfig is the stored form of a webhook's settings: all of them in
// webhooks, only state and filter in webhook_versions. It contains no secret,
// except that a URL may contain one.
type webhookConfig struct {
	State       trigger.WebhookState `json:"state,omitempty"` // only in versions
	URL         string               `json:"url,omitempty"`   // only in versions of older programs
	Filter      *string              `json:"filter,omitempty"`
	Types       []string             `json:"types,omitempty"`
	Content     json.RawMessage      `json:"content,omitempty"`
	Format      trigger.Format       `json:"format,omitempty"`
	Timeout     int64                `json:"timeout_us,omitempty"`
	Schedule    *[]int64             `json:"schedule_us,omitempty"` // nil: the server's schedule
	Rate        float64              `json:"rate,omitempty"`
	Concurrency int                  `json:"concurrency,omitempty"`
	Description string               `json:"description,omitempty"`
	Metadata    map[string]string    `json:"metadata,omitempty"`
}

// webhookSecrets is the encrypted part.
type webhookSecrets struct {
	Secrets []storedSecret    `json:"secrets"`
	Headers map[string]string `json:"headers,omitempty"`
	Auth    *storedAuth       `json:"auth,omitempty"`
}

type storedSecret struct {
	Secret string `json:"secret"`
	Until  int64  `json:"until_us,omitempty"`
}

type storedAuth struct {
	Bearer   string `json:"bearer,omitempty"`
	User     string `json:"user,omitempty"`
	Password string `json:"password,omitempty"`
}

func configOf(w *trigger.Webhook) webhookConfig {
	c := webhookConfig{
		Types: w.Filter.TypeStrings(), Content: w.Filter.Content.Raw(), Format: w.Format, Timeout: w.Timeout.Microseconds(),
		Rate: w.Rate, Concurrency: w.Concurrency, Description: w.Description, Metadata: w.Metadata,
	}
	if w.Schedule != nil {
		list := make([]int64, len(w.Schedule))
		for i, pause := range w.Schedule {
			list[i] = pause.Microseconds()
		}
		c.Schedule = &list
	}
	return c
}

// apply sets a webhook's fields. It accepts stored patterns even if their
// limits have changed.
func (c *webhookConfig) apply(w *trigger.Webhook) (err error) {
	w.Filter = trigger.Filter{}
	for _, text := range c.Types {
		w.Filter.Types = append(w.Filter.Types, trigger.StoredPattern(text))
	}
	if c.Filter != nil && *c.Filter != "" { // from an older program
		w.Filter.Types = []trigger.Pattern{trigger.StoredPattern(*c.Filter)}
	}
	if len(c.Content) > 0 {
		w.Filter.Content, err = trigger.ParseContent(c.Content)
	}
	w.Format, w.Timeout = c.Format, fromMicrosSpan(c.Timeout)
	w.Rate, w.Concurrency, w.Description, w.Metadata = c.Rate, c.Concurrency, c.Description, c.Metadata
	if c.Schedule != nil {
		w.Schedule = make(trigger.Schedule, len(*c.Schedule))
		for i, us := range *c.Schedule {
			w.Schedule[i] = fromMicrosSpan(us)
		}
	}
	return err
}

// storedColumns are the columns of a webhook that differ from its fields.
type storedColumns struct {
	filter string // for older programs, as secret
	secret []byte
	config string
	sealed []byte

	secretsUntil int64 // when the first of the secrets ends; 0: never
}

// columnsOf returns the columns of a webhook, without secrets that have ended.
func (s *Store) columnsOf(w *trigger.Webhook) (c storedColumns, err error) {
	valid := *w
	valid.Secrets = w.Secrets.Valid(s.Now())
	w = &valid
	config, err := json.Marshal(configOf(w))
	if err != nil {
		return c, err
	}
	plain, err := secretsOf(w)
	if err != nil {
		return c, err
	}
	c = storedColumns{
		config: string(config), sealed: s.keys.seal(plain, w.OrganizationID), secret: []byte{}, secretsUntil: microsOrNone(w.Secrets.FirstEnd()),
	}
	if len(w.Filter.Types) == 1 {
		c.filter = w.Filter.Types[0].String()
	}
	if len(w.Secrets) > 0 && !s.keys.encrypts() {
		c.secret = append(c.secret, w.Secrets[0].Stored()...)
	}
	return c, nil
}

// secretsOf encodes the secrets to encrypt.
func secretsOf(w *trigger.Webhook) ([]byte, error) {
	s := webhookSecrets{Headers: w.Headers, Secrets: []storedSecret{}}
	for _, secret := range w.Secrets {
		stored := storedSecret{Secret: secret.Reveal()}
		if !secret.Until.IsZero() {
			stored.Until = micros(secret.Until)
		}
		s.Secrets = append(s.Secrets, stored)
	}
	if w.Auth != (trigger.Auth{}) {
		s.Auth = &storedAuth{w.Auth.Bearer, w.Auth.User, w.Auth.Password}
	}
	return json.Marshal(s)
}

// unpackSecrets decodes the secrets that secretsOf encoded.
func unpackSecrets(plain []byte, w *trigger.Webhook) error {
	var s webhookSecrets
	if err := json.Unmarshal(plain, &s); err != nil {
		return err
	}
	w.Headers, w.Secrets = s.Headers, nil
	for _, stored := range s.Secrets {
		secret, err := trigger.ParseSecret(stored.Secret)
		if err != nil {
			return err
		}
		issued := trigger.IssuedSecret{Secret: secret}
		if stored.Until != 0 {
			issued.Until = fromMicros(stored.Until)
		}
		w.Secrets = append(w.Secrets, issued)
	}
	if s.Auth != nil {
		w.Auth = trigger.Auth{Bearer: s.Auth.Bearer, User: s.Auth.User, Password: s.Auth.Password}
	}
	return nil
}

// changedAt returns the version of its organization at which a webhook last
// changed, 0 if unknown.
func changedAt(ctx context.Context, q querier, webhookID int64) (version int64, err error) {
	return rowOf(ctx, q, scanInt, `SELECT coalesce(max(version), 0) FROM webhook_versions WHERE webhook_id = $1`, webhookID)
}

// addVersion records a webhook's state and filter from this version on.
func (s *Store) addVersion(ctx context.Context, q querier, w *trigger.Webhook, version, now int64) error {
	c := webhookConfig{State: w.State, Types: w.Filter.TypeStrings(), Content: w.Filter.Content.Raw()}
	if w.State == trigger.Deleted {
		c = webhookConfig{State: w.State}
	}
	config, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := limitVersions(ctx, q, w.ID, string(config)); err != nil {
		return err
	}
	_, err = q.ExecContext(ctx, `INSERT INTO webhook_versions (webhook_id, version, at, config, has_url) VALUES ($1, $2, $3, $4, 0)`,
		w.ID, version, now, string(config))
	if err == nil && w.State != trigger.Deleted && !s.isPlain(w) {
		err = refuseOlder(ctx, q, 3)
	}
	if err == nil && w.State == trigger.Gone { // else older programs would send events to it
		err = refuseOlder(ctx, q, 5)
	}
	return err
}
