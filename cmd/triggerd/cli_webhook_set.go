package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"triggerd/client"
)

// filterFlags select the events that a webhook gets.
type filterFlags struct {
	Type    []string `help:"Only events whose type matches this pattern, for example 'user.*'; may be repeated. Default: all." sep:"none"`
	Content *string  `help:"Only events whose payload meets this condition: JSON, @file, or - for standard input."`
}

func (f *filterFlags) contentText() string {
	if f.Content == nil {
		return ""
	}
	return *f.Content
}

// webhookFlags are the settings of a webhook; a setting without a flag stays
// unchanged, or uses the server's default.
type webhookFlags struct {
	filterFlags
	Format      *string           `help:"Format of the body: standard, cloudevents or payload."`
	Timeout     *days             `help:"Time for one attempt, for example 5s."`
	Schedule    *pauses           `help:"Pauses before the retries, for example 5s,1m,1h; none for no retries." placeholder:"5s,1m,…"`
	Rate        *float64          `help:"Maximum number of deliveries per second."`
	Concurrency *int              `help:"Maximum number of concurrent attempts."`
	Header      []string          `help:"Header to add to each request, for example 'X-Team: a'; may be repeated." placeholder:"'NAME: VALUE'" sep:"none"`
	Bearer      *string           `help:"Authorize requests with this token."`
	Basic       *string           `help:"Authorize requests with this user and password, separated by a colon." placeholder:"USER:PASSWORD"`
	Description *string           `help:"Description of the webhook."`
	Metadata    map[string]string `help:"Your own data; may be repeated." placeholder:"NAME=VALUE" mapsep:"none"`
}

// headers parses the header flags; nil without any.
func (f *webhookFlags) headers() (*map[string]string, error) {
	if f.Header == nil {
		return nil, nil
	}
	headers := map[string]string{}
	for _, line := range f.Header {
		name, value, ok := strings.Cut(line, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return nil, errors.New("--header must have the form 'NAME: VALUE', for example 'X-Team: a'; the colon or the name is missing")
		}
		headers[name] = strings.TrimSpace(value)
	}
	return &headers, nil
}

// auth returns how requests are authorized; nil if no flag is set.
func (f *webhookFlags) auth() (*client.WebhookAuth, error) {
	switch {
	case f.Bearer != nil && f.Basic != nil:
		return nil, errors.New("--bearer and --basic cannot be used together")
	case f.Bearer != nil:
		return &client.WebhookAuth{Type: client.AuthBearer, Token: *f.Bearer}, nil
	case f.Basic != nil:
		user, password, ok := strings.Cut(*f.Basic, ":")
		if !ok {
			return nil, errors.New("--basic must have the form USER:PASSWORD")
		}
		return &client.WebhookAuth{Type: client.AuthBasic, User: user, Password: password}, nil
	}
	return nil, nil
}

// patch returns the changes of the flags.
func (f *webhookFlags) patch(r *resets, content json.RawMessage) (p client.WebhookPatch, err error) {
	headers, headersErr := f.headers()
	auth, authErr := f.auth()
	err = errors.Join(headersErr, authErr, r.check(map[string]bool{
		"type": f.Type != nil, "content": f.Content != nil, "format": f.Format != nil, "timeout": f.Timeout != nil,
		"schedule": f.Schedule != nil, "rate": f.Rate != nil, "concurrency": f.Concurrency != nil, "header": f.Header != nil,
		"auth": auth != nil, "description": f.Description != nil, "metadata": f.Metadata != nil,
	}))
	var document *json.RawMessage
	if f.Content != nil {
		document = &content
	}
	p = client.WebhookPatch{
		Types: change(r, "type", given(f.Type)), Content: change(r, "content", document), Format: change(r, "format", f.Format),
		TimeoutSeconds: change(r, "timeout", secondsOf(f.Timeout)), Rate: change(r, "rate", f.Rate),
		Concurrency: change(r, "concurrency", f.Concurrency), Headers: change(r, "header", headers), Auth: change(r, "auth", auth),
		Description: change(r, "description", f.Description), ScheduleSeconds: change[[]float64](r, "schedule", nil),
	}
	if f.Schedule != nil {
		p.ScheduleSeconds = client.Set(f.Schedule.seconds)
	}
	p.Metadata = change[map[string]string](r, "metadata", nil)
	if f.Metadata != nil {
		p.Metadata = client.Set(f.Metadata)
	}
	return p, err
}

// given returns a pointer to a list; nil for a nil list.
func given[T any](items []T) *[]T {
	if items == nil {
		return nil
	}
	return &items
}

type webhookSet struct {
	oneWebhook
	resets
	webhookFlags
	URL *string `name:"to" help:"URL to deliver to."`
}

// Run changes the settings that have a flag.
func (c *webhookSet) Run(ctx context.Context, s *session) error {
	content, err := s.value(ctx, "--content", c.contentText())
	if err != nil {
		return err
	}
	patch, err := c.patch(&c.resets, content)
	if err != nil {
		return err
	}
	patch.URL = change(&c.resets, "to", c.URL)
	if body, err := json.Marshal(patch); err == nil && string(body) == "{}" {
		return errNothingToSet
	}
	return c.show(s, func(api *client.Client) (client.Webhook, error) {
		webhook, err := api.UpdateWebhook(ctx, c.ID, patch)
		return webhook, explainMove(err, patch)
	})
}

// explainMove adds the flags that --to requires, if the server refuses to send
// stored credentials to another origin.
func explainMove(err error, patch client.WebhookPatch) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok || patch.URL.IsZero() {
		return err
	}
	told := *e
	for _, flag := range []struct {
		pointer, hint string
		given         bool
	}{
		{"#/auth", "--bearer, --basic or --reset auth", !patch.Auth.IsZero()},
		{"#/headers", "--header or --reset header", !patch.Headers.IsZero()},
	} {
		if !flag.given && slices.ContainsFunc(e.Errors, func(f client.FieldError) bool { return f.Pointer == flag.pointer }) {
			told.Detail += "; with --to give " + flag.hint
			told.Errors = nil // the flags are clearer than the members
		}
	}
	return &told
}

type webhookCreate struct {
	memberCommand
	webhookFlags
	Target    string `arg:"" name:"target" help:"URL to deliver to."`
	Secret    string `help:"Secret that signs its deliveries, whsec_… or whsk_…. Default: the server generates one."`
	Signature string `help:"Type of the generated secret: symmetric or ed25519. Default: symmetric."`
	Paused    bool   `help:"Create it paused; its deliveries wait until it is resumed."`
}

// Run creates a webhook, and shows its secret.
func (c *webhookCreate) Run(ctx context.Context, s *session) error {
	content, err := s.value(ctx, "--content", c.contentText())
	if err != nil {
		return err
	}
	in, err := c.input(content)
	if err != nil {
		return err
	}
	return show(s, c, func(api *client.Client) (client.Webhook, error) { return api.CreateWebhook(ctx, in) }, s.showSecret)
}

func (c *webhookCreate) input(content json.RawMessage) (client.WebhookInput, error) {
	headers, headersErr := c.headers()
	auth, authErr := c.auth()
	in := client.WebhookInput{
		URL: c.Target, Types: c.Type, Content: content, Format: or(c.Format), Rate: or(c.Rate), Concurrency: or(c.Concurrency),
		Headers: or(headers), Auth: auth, Description: or(c.Description), Metadata: c.Metadata, Secret: c.Secret,
		Signature: c.Signature, TimeoutSeconds: or(secondsOf(c.Timeout)), ScheduleSeconds: or(c.Schedule).seconds,
	}
	if c.Paused {
		in.State = client.WebhookPaused
	}
	return in, errors.Join(headersErr, authErr)
}

// or returns the value of a pointer; zero for nil.
func or[T any](value *T) (zero T) {
	if value == nil {
		return zero
	}
	return *value
}
