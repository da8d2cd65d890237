package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// What is not UTF-8 is told by its name, and never sent: as JSON it would
// become another text.
func TestTextsMustBeUTF8(t *testing.T) {
	t.Parallel()
	const bad, surrogate = "caf\xe9", "\xed\xa0\x80"
	for want, do := range map[string]func(context.Context, *Client) error{
		"type":     func(ctx context.Context, c *Client) error { return use(c.PostEvent(ctx, EventInput{Type: bad})) },
		"dedup_id": func(ctx context.Context, c *Client) error { return use(c.PostEvent(ctx, EventInput{DedupID: bad})) },
		"traceparent": func(ctx context.Context, c *Client) error {
			return use(c.PostEvents(ctx, []EventInput{{}, {Traceparent: bad}}))
		},
		"url": func(ctx context.Context, c *Client) error { return use(c.CreateWebhook(ctx, WebhookInput{URL: bad})) },
		"types": func(ctx context.Context, c *Client) error {
			return use(c.CreateWebhook(ctx, WebhookInput{Types: []string{"", bad}}))
		},
		"headers": func(ctx context.Context, c *Client) error {
			return use(c.CreateWebhook(ctx, WebhookInput{Headers: map[string]string{bad: ""}}))
		},
		"metadata.a": func(ctx context.Context, c *Client) error {
			return use(c.UpdateWebhook(ctx, 1, WebhookPatch{Metadata: Set(map[string]string{"a": bad})}))
		},
		"auth.token": func(ctx context.Context, c *Client) error {
			return use(c.CreateWebhook(ctx, WebhookInput{Auth: &WebhookAuth{Token: bad}}))
		},
		"auth.password": func(ctx context.Context, c *Client) error {
			return use(c.UpdateWebhook(ctx, 1, WebhookPatch{Auth: Set(WebhookAuth{Password: bad})}))
		},
		"description": func(ctx context.Context, c *Client) error {
			return use(c.PutEventType(ctx, "a", EventTypeInput{Description: bad}))
		},
		"name": func(ctx context.Context, c *Client) error {
			return use(c.CreateOrganization(ctx, OrganizationInput{Name: bad}))
		},
		"networks": func(ctx context.Context, c *Client) error {
			return use(c.CreateKey(ctx, KeyInput{Networks: []string{bad}}))
		},
		"ids":    func(ctx context.Context, c *Client) error { return use(c.AckInbox(ctx, "c", []string{"a", bad})) },
		"claim":  func(ctx context.Context, c *Client) error { return use(c.AckInbox(ctx, bad, nil)) },
		"inbox":  func(ctx context.Context, c *Client) error { return use(c.UpdateMe(ctx, MePatch{Inbox: Set(bad)})) },
		"status": func(ctx context.Context, c *Client) error { return use(c.CreateReplay(ctx, ReplayInput{Status: bad})) },
		"cursor": func(ctx context.Context, c *Client) error { return use(c.WebhooksPage(ctx, 1, bad)) },
		"outcome": func(ctx context.Context, c *Client) error {
			return use(c.AttemptsPage(ctx, AttemptQuery{Outcome: bad}, ""))
		},
		"Last-Event-Id":              func(ctx context.Context, c *Client) error { return first(c.StreamInbox(ctx, bad)) },
		"the id or name in the path": func(ctx context.Context, c *Client) error { return c.DeleteEventType(ctx, bad) },
		"WebHook-Request-Origin":     func(ctx context.Context, c *Client) error { return use(c.Handshake(ctx, bad)) },
		"User-Agent": func(ctx context.Context, c *Client) error {
			c.UserAgent = bad
			return use(c.Me(ctx))
		},
	} {
		c := fake(func(r *http.Request) (*http.Response, error) {
			t.Errorf("%s: sent", want)
			return nil, errCut
		}).client()
		err := do(t.Context(), c)
		if err == nil || !strings.EqualFold(err.Error()[max(0, len(err.Error())-len(want+" must be UTF-8; its byte 4 is not")):], want+" must be UTF-8; its byte 4 is not") {
			t.Errorf("%s: %v", want, err)
		}
		if strings.Contains(err.Error(), "caf") || !errors.Is(err, errUnsendable) {
			t.Errorf("%s is shown, or not refused: %v", want, err)
		}
	}
	if _, err := (EventInput{DedupID: surrogate}).MarshalJSON(); err == nil || !strings.Contains(err.Error(), "byte 1") {
		t.Errorf("half of a surrogate pair: %v", err)
	}
	for _, good := range []string{"", "a", "é€😀", "\ufffd", "a\x00"} {
		diff(t, good, checkText("a", good), nil)
	}
}

// Lines go out as they are, but for a dedup id where there is none.
func TestLinesAreIdentified(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`{}`:                                `{"dedup_id":"k"}`,
		` { "type" : "a"} `:                 `{"dedup_id":"k", "type" : "a"}`,
		`{"type":"a","dedup_id" : null }`:   `{"type":"a","dedup_id" : "k" }`,
		`{"dedup_id":null,"dedup_id":1}`:    `{"dedup_id":"k","dedup_id":1}`,
		`{"dedup\u005fid":null}`:            `{"dedup\u005fid":"k"}`,
		`{"payload":{"dedup_id":"x"}}`:      `{"dedup_id":"k","payload":{"dedup_id":"x"}}`,
		`{"DEDUP_ID":"x"}`:                  `{"dedup_id":"k","DEDUP_ID":"x"}`,
		"{\"type\":\"caf\xe9\"}":            "{\"dedup_id\":\"k\",\"type\":\"caf\xe9\"}",
		`{"dedup_id":""}`:                   "", // as it is
		`{"dedup_id":"\ud800"}`:             "",
		"{\"dedup_id\":\"caf\xe9\"}":        "",
		`{"dedup_id":1}`:                    "",
		`{"type":1,"type":2,"dedup_id":{}}`: "",
		`{"type":`:                          "",
		`{} {}`:                             "",
		`[{}]`:                              "",
		"\xff":                              "",
		"{\"a\":\r1}":                       "{\"dedup_id\":\"k\",\"a\":\r1}",
	} {
		trimmed := bytes.Trim([]byte(line), " ")
		got, own := identified(trimmed, "k")
		if own == (want == "") {
			t.Errorf("%s has a dedup id of ours: %v", line, own)
		}
		if want == "" {
			want = line
		}
		diff(t, line, string(got), want)
		diff(t, "unchanged", string(trimmed), strings.Trim(line, " "))
	}
}

// A line without a dedup id is stored once, however often its answer is lost,
// and what is not a line is not posted.
func TestPostEventLines(t *testing.T) {
	t.Parallel()
	s := &ingest{t: t, fails: []string{"lost", ""}}
	verdicts, err := s.client().PostEventLines(t.Context(), [][]byte{[]byte(`{"payload":1}`), []byte(`{"payload":2,"dedup_id":"d"}`)})
	if err != nil {
		t.Fatal(err)
	}
	diff(t, "status", verdicts[0].Status, PostAccepted)
	diff(t, "status", verdicts[1].Status, PostDuplicate)
	diff(t, "events", len(s.kept), 2)
	c := fake(func(*http.Request) (*http.Response, error) { return nil, errors.New("sent") }).client()
	for _, lines := range [][][]byte{{[]byte(" \r\n")}, {[]byte("{\n}")}, make([][]byte, MaxBatch+1)} {
		if _, err := c.PostEventLines(t.Context(), lines); err == nil || strings.Contains(err.Error(), "sent") {
			t.Errorf("%.20q: %v", lines, err)
		}
	}
	verdicts, err = c.PostEventLines(t.Context(), nil)
	diff(t, "none", len(verdicts) == 0 && err == nil, true)
}

func FuzzIdentified(f *testing.F) {
	f.Add([]byte(`{"type":"a","dedup_id":null , "payload":[1.0]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if len(line) == 0 {
			return
		}
		with, own := identified(line, "k")
		if !own && !bytes.Equal(with, line) {
			t.Errorf("%q became %q", line, with)
		}
		var got map[string]json.RawMessage
		if own && (json.Unmarshal(with, &got) != nil || got["dedup_id"] == nil) {
			t.Errorf("%q became %q", line, with)
		}
	})
}
