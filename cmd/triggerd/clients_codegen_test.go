package main

import (
	"os"
	"path/filepath"
	"testing"

	"triggerd/internal/store/storetest"
)

// oapiCodegen makes Go of the description.
const oapiCodegen = "github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2"

// TestGeneratedGoClient has oapi-codegen make a client of the description, in a
// module of its own, and a program of it have a session with a server.
func TestGeneratedGoClient(t *testing.T) {
	t.Parallel()
	file, err := filepath.Abs(description)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, text := range map[string]string{"go.mod": generatedModule, "main.go": generatedSession, "api/config.yaml": generatedConfig} {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := startServer(t, storetest.SQLite(t), nil)
	env := append(s.clientEnv(t), "GOFLAGS=-mod=mod", "GOWORK=off")
	runCommand(t, command(t, folder, env, "go", "run", oapiCodegen, "-config", "api/config.yaml", file))
	runCommand(t, command(t, folder, env, "go", "run", "."))
}

const generatedModule = `module example.com/session

go 1.26.0

require (
	github.com/oapi-codegen/runtime v1.8.0
	go.yaml.in/yaml/v3 v3.0.6
)
`

const generatedConfig = `package: api
output: api/client.go
generate: {models: true, client: true}
`

const generatedSession = `package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"reflect"

	"example.com/session/api"
)

// good gives what an answer was read as, which has to be there.
func good[T any](read *T, body []byte) T {
	if read == nil {
		log.Fatalf("another answer: %s", body)
	}
	return *read
}

func want(got, want any) {
	if !reflect.DeepEqual(got, want) {
		log.Fatalf("%#v, want %#v", got, want)
	}
}

func must[T any](answer T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return answer
}

func main() {
	ctx := context.Background()
	authorize := func(_ context.Context, r *http.Request) error {
		r.Header.Set("Authorization", "Bearer "+os.Getenv("TRIGGERD_KEY"))
		return nil
	}
	c := must(api.NewClientWithResponses(os.Getenv("TRIGGERD_URL"), api.WithRequestEditorFn(authorize)))

	me := must(c.GetMeWithResponse(ctx))
	want(good(me.JSON200, me.Body).Key.Scopes, []api.Scope{api.Ingest, api.Read, api.Manage})

	created := must(c.CreateWebhookWithResponse(ctx, nil, api.WebhookInput{Url: "http://127.0.0.1:9/", Types: &[]string{"user.*"}}))
	listed := must(c.ListWebhooksWithResponse(ctx, nil))
	webhooks := good(listed.JSON200, listed.Body)
	want([]any{len(webhooks.Data), webhooks.NextCursor}, []any{1, (*string)(nil)})
	want(webhooks.Data[0].Id, good(created.JSON201, created.Body).Id)

	var body api.PostInput
	dedup := "note-1"
	if err := body.FromEventInput(api.EventInput{Type: "note", Payload: "hello", DedupId: &dedup}); err != nil {
		log.Fatal(err)
	}
	posted := must(c.PostEventsWithResponse(ctx, nil, body))
	accepted := good(posted.JSON201, posted.Body)
	again := must(c.PostEventsWithResponse(ctx, nil, body))
	union := good(again.JSON200, again.Body)
	repeated := must(union.AsDuplicate())
	want([]any{repeated.Id, repeated.PayloadMatches}, []any{accepted.Id, true})

	shown := must(c.GetEventWithResponse(ctx, accepted.Id))
	event := good(shown.JSON200, shown.Body)
	want([]any{event.Type, event.Payload, *event.DedupId, event.Status}, []any{"note", "hello", dedup, api.EventStatus("pending")})
	missing := must(c.GetReplayWithResponse(ctx, 1))
	want(string(good(missing.ApplicationproblemJSON404, missing.Body).Code), "not_found")
}
`
