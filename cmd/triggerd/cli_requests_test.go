package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

const (
	someEvent = "01a201d9-e350-7ff3-8000-2e533c0c7570"
	someClaim = "6b0f4ff5-0c5c-4a2c-9e3a-8a3f5a1d6c11"
)

// request is a command, and what it asks the API for.
type request struct{ command, want string }

// eventRequests are the commands about events and the inbox.
func eventRequests() []request {
	on := "/v1/events/" + someEvent
	return []request{
		{"send user.created", `POST /v1/events {"type":"user.created","payload":{}}`},
		{`send a [1.0] --dedup-id d --deliver-at 10m --traceparent 00-1`, `POST /v1/events {"type":"a","dedup_id":"d","deliver_at":"2026-03-01T12:10:00Z","traceparent":"00-1","payload":[1.0]}`},
		{`send a --deliver-at 2026-03-02T00:00:00+01:00`, `POST /v1/events {"type":"a","deliver_at":"2026-03-02T00:00:00+01:00","payload":{}}`},
		{"event list", "GET /v1/events?limit=20"},
		{
			"event list --type user.* --status failed --since 2h --until 2026-03-01T11:00:00Z --dedup-id d --webhook 0 --oldest --limit 5",
			"GET /v1/events?dedup_id=d&limit=5&order=oldest&since=2026-03-01T10%3A00%3A00Z&status=failed&type=user.%2A&until=2026-03-01T11%3A00%3A00Z&webhook_id=0",
		},
		{"event show " + someEvent, "GET " + on},
		{"event why " + someEvent, "GET " + on + "/why"},
		{"event attempts " + someEvent, "GET " + on + "/attempts"},
		{"event resend " + someEvent + " 7", "POST " + on + `/resend {"webhook_id":7}`},
		{"event delete " + someEvent, "DELETE " + on},
		{"event samples --type user.* --limit 2", "GET /v1/samples?limit=2&type=user.%2A"},
		{"inbox list --limit 0", "GET /v1/inbox?limit=100"},
		{"inbox claim", `POST /v1/inbox/claim {"limit":10}`},
		{"inbox claim --limit 1 --lease 5m --wait 30s", `POST /v1/inbox/claim {"limit":1,"lease_seconds":300,"wait_seconds":30}`},
		{"inbox ack " + someClaim + " a b", `POST /v1/inbox/ack {"claim":"` + someClaim + `","ids":["a","b"]}`},
		{"inbox release " + someClaim + " a --delay 10m", `POST /v1/inbox/release {"claim":"` + someClaim + `","ids":["a"],"delay_seconds":600}`},
		{"inbox extend " + someClaim + " a --lease 1h", `POST /v1/inbox/extend {"claim":"` + someClaim + `","ids":["a"],"lease_seconds":3600}`},
		{"inbox consume --drain", `POST /v1/inbox/claim {"limit":10}`},
	}
}

// webhookRequests are the commands about webhooks and what they are owed.
func webhookRequests() []request {
	return []request{
		{"webhook create https://a.example/b", `POST /v1/webhooks {"url":"https://a.example/b"}`},
		{
			`webhook create https://a.example --type user.* --type a,b --content {"all":[]} --format payload --timeout 5s --schedule 5s,1m --rate 2.5
			--concurrency 3 --header X-Team:a --bearer t --description d --metadata a=b --secret whsec_x --signature symmetric --paused`,
			`POST /v1/webhooks {"url":"https://a.example","types":["user.*","a,b"],"content":{"all":[]},"format":"payload","timeout_seconds":5,` +
				`"schedule_seconds":[5,60],"rate":2.5,"concurrency":3,"headers":{"X-Team":"a"},"auth":{"token":"t","type":"bearer"},` +
				`"description":"d","metadata":{"a":"b"},"secret":"whsec_x","signature":"symmetric","state":"paused"}`,
		},
		{"webhook create https://a.example --schedule none --basic u:p:q", `POST /v1/webhooks {"url":"https://a.example","schedule_seconds":[],"auth":{"password":"p:q","type":"basic","user":"u"}}`},
		{"webhook list", "GET /v1/webhooks?limit=20"},
		{"webhook list --state gone --limit 5", "GET /v1/webhooks?limit=5&state=gone"},
		{"webhook show 1", "GET /v1/webhooks/1"},
		{"webhook set 1 --to https://b.example", `PATCH /v1/webhooks/1 {"url":"https://b.example"}`},
		{"webhook set 1 --type a --reset content,timeout,schedule,rate,concurrency,header,auth,description,metadata,format", `PATCH /v1/webhooks/1 {"types":["a"],` +
			`"content":null,"format":null,"timeout_seconds":null,"schedule_seconds":null,"rate":null,"concurrency":null,"headers":null,"auth":null,"description":null,"metadata":null}`},
		{`webhook set 1 --content {"all":[]} --format cloudevents --timeout 1m --schedule none --rate 1 --concurrency 2 --header A:b --bearer t --description e --metadata c=d --reset type`, `PATCH /v1/webhooks/1 {` +
			`"types":null,"content":{"all":[]},"format":"cloudevents","timeout_seconds":60,"schedule_seconds":[],"rate":1,"concurrency":2,"headers":{"A":"b"},` +
			`"auth":{"token":"t","type":"bearer"},"description":"e","metadata":{"c":"d"}}`},
		{"webhook delete 1", "DELETE /v1/webhooks/1"},
		{"webhook pause 1", "POST /v1/webhooks/1/pause"},
		{"webhook resume 1", "POST /v1/webhooks/1/resume"},
		{"webhook rotate-secret 1", "POST /v1/webhooks/1/rotate-secret {}"},
		{"webhook rotate-secret 1 --secret s --signature ed25519 --overlap 0", `POST /v1/webhooks/1/rotate-secret {"secret":"s","signature":"ed25519","overlap_seconds":0}`},
		{`webhook test 1 --type a --data {"b":1}`, `POST /v1/webhooks/1/test {"type":"a","data":{"b":1}}`},
		{`webhook dry-run --type a --content {"all":[]} --webhook 2 --since 1d`, `POST /v1/webhooks/dry-run {"types":["a"],"content":{"all":[]},"webhook_id":2,"since":"2026-02-28T12:00:00Z"}`},
		{"delivery list --status failed --webhook 0", "GET /v1/deliveries?limit=20&status=failed&webhook_id=0"},
		{"delivery attempts --webhook 1 --outcome gone --replay 2", "GET /v1/attempts?limit=20&outcome=gone&replay_id=2&webhook_id=1"},
		{"replay create 1", `POST /v1/replays {"webhook_id":1}`},
		{"replay create 1 --since 24h --type a --type b --status failed --pace 0", `POST /v1/replays {"webhook_id":1,"since":"2026-02-28T12:00:00Z","types":["a","b"],"status":"failed","pace":0}`},
		{"replay preview 1 --until 1h", `POST /v1/replays/preview {"webhook_id":1,"until":"2026-03-01T11:00:00Z"}`},
		{"replay list", "GET /v1/replays?limit=20"},
		{"replay show 3", "GET /v1/replays/3"},
		{"replay pause 3", "POST /v1/replays/3/pause"},
		{"replay resume 3", "POST /v1/replays/3/resume"},
		{"replay cancel 3", "POST /v1/replays/3/cancel"},
	}
}

// settingRequests are the commands about keys, organizations and types.
func settingRequests() []request {
	return []request{
		{"me", "GET /v1/me"},
		{"me --inbox everything --deduplication strict", `PATCH /v1/me {"inbox":"everything","deduplication":"strict"}`},
		{"type list", "GET /v1/event-types?limit=20"},
		{"type show a/b", "GET /v1/event-types/a%2Fb"},
		{`type put a --schema {"required":["b"]} --mode reject --description d`, `PUT /v1/event-types/a {"mode":"reject","description":"d","schema":{"required":["b"]}}`},
		{"type delete a", "DELETE /v1/event-types/a"},
		{"key create", "POST /v1/keys {}"},
		{"key create --name n --scope ingest,read --expires 90d --network 10.0.0.0/8", `POST /v1/keys {"name":"n","scopes":["ingest","read"],"expires_at":"2026-05-30T12:00:00Z","networks":["10.0.0.0/8"]}`},
		{"key list", "GET /v1/keys?limit=20"},
		{"key show 1", "GET /v1/keys/1"},
		{"key rotate 1", "POST /v1/keys/1/rotate {}"},
		{"key rotate 1 --overlap 1h", `POST /v1/keys/1/rotate {"overlap_seconds":3600}`},
		{"key revoke 1", "DELETE /v1/keys/1"},
		{"org create Example --tier enterprise --rate-limit 0 --inbox everything --deduplication strict", `POST /v1/organizations {"name":"Example","tier":"enterprise","rate_limit":0,"inbox":"everything","deduplication":"strict"}`},
		{"org list", "GET /v1/organizations?limit=20"},
		{"org show 1", "GET /v1/organizations/1"},
		{"org set 1 --name n --rate-limit 5 --reset tier,inbox,deduplication", `PATCH /v1/organizations/1 {"name":"n","tier":null,"rate_limit":5,"inbox":null,"deduplication":null}`},
		{"org set 1 --tier free --reset rate-limit", `PATCH /v1/organizations/1 {"tier":"free","rate_limit":null}`},
		{"org suspend 1", `PATCH /v1/organizations/1 {"suspended":true}`},
		{"org resume 1", `PATCH /v1/organizations/1 {"suspended":false}`},
		{"org delete 1 --yes", "DELETE /v1/organizations/1"},
		{"org key 1 --name n --scope read", `POST /v1/organizations/1/keys {"name":"n","scopes":["read"]}`},
	}
}

// generic is an answer that does for all commands: of success, and with a
// secret.
const generic = `{"id":1,"name":"a","key":"sk_new","secret":"whsec_x","event_id":"e","outcome":"success","data":[],"samples":[]}`

func TestCommandRequests(t *testing.T) {
	t.Parallel()
	for _, test := range append(append(eventRequests(), webhookRequests()...), settingRequests()...) {
		t.Run(test.command, func(t *testing.T) {
			t.Parallel()
			api := newFakeAPI(t, func(request string) (int, string) {
				switch {
				case strings.HasPrefix(request, "GET /v1/samples"):
					return 200, "[]"
				case strings.Contains(request, "/organizations {"):
					return 201, `{"organization":{"id":1},"key":{"key":"sk_new"}}`
				case strings.Contains(request, "/v1/me"):
					return 200, `{"organization":{"id":1},"key":{}}`
				case strings.HasPrefix(request, "DELETE"):
					return 204, ""
				case strings.Contains(request, "/v1/events"):
					return 200, `{"id":"e","status":"accepted","event_id":"e","data":[]}`
				}
				return 200, generic
			})
			got := api.run(t, "", strings.Fields(test.command)...)
			if got.err != nil {
				t.Errorf("it failed: %v", got.err)
			}
			if diff := cmp.Diff([]string{test.want}, api.requests()); diff != "" {
				t.Error(diff)
			}
			want := "Bearer sk_test"
			if strings.HasPrefix(test.command, "org") {
				want = "Bearer operator"
			}
			if got := api.header.Get("Authorization"); got != want || api.header.Get("User-Agent") != "triggerd-cli/dev" {
				t.Errorf("the headers are %v, want the authorization %q", api.header, want)
			}
		})
	}
}

// Each command is tried above, but for those that go on until they are stopped.
func TestAllCommandsAreTried(t *testing.T) {
	t.Parallel()
	parser, err := newParser(&commands{}, func(string) string { return "" }, t.Output(), t.Output(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tried := map[string]bool{"listen": true, "inbox stream": true, "serve": true, "demo": true, "health": true, "token new": true, "token show": true, "token path": true, "check": true, "torture": true, "torture-node": true}
	for _, test := range append(append(eventRequests(), webhookRequests()...), settingRequests()...) {
		words := strings.Fields(test.command)
		tried[words[0]] = true
		tried[strings.Join(words[:min(2, len(words))], " ")] = true
	}
	leaves := 0
	_ = kong.Visit(parser.Model, func(at kong.Visitable, next kong.Next) error {
		if node, ok := at.(*kong.Node); ok && node.Leaf() && node.Type == kong.CommandNode {
			leaves++
			if name := strings.TrimPrefix(node.FullPath(), "triggerd "); !tried[name] {
				t.Errorf("%s is not tried", name)
			}
			if node.Help == "" {
				t.Errorf("%s has no help", node.FullPath())
			}
			for _, value := range append(node.Positional, flagValues(node)...) {
				if value.Help == "" {
					t.Errorf("%s has no help for %s", node.FullPath(), value.Name)
				}
			}
		}
		return next(nil)
	})
	if leaves < 58 {
		t.Errorf("only %d commands are found", leaves)
	}
}

func flagValues(node *kong.Node) (values []*kong.Value) {
	for _, flag := range node.Flags {
		values = append(values, flag.Value)
	}
	return values
}

// Payloads come from the argument, a file or standard input, as they are.
func TestPayloadSources(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "payload.json")
	if err := os.WriteFile(file, []byte("{ \"a\": 1.10 }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for argument, want := range map[string]string{`{"b":"<"}`: `{"b":"<"}`, "@" + file: `{ "a": 1.10 }`, "-": `[1e400]`, "": "{}"} {
		api := newFakeAPI(t, always(201, `{"status":"accepted","id":"`+someEvent+`"}`))
		args := []string{"send", "a", argument}
		if argument == "" {
			args = args[:2]
		}
		got := api.run(t, " [1e400]\n", args...)
		if want := `POST /v1/events {"type":"a","payload":` + want + "}"; got.err != nil || got.out != "accepted "+someEvent+"\n" || api.requests()[0] != want {
			t.Errorf("%s: %+v, sent %q, want %q", argument, got, api.requests(), want)
		}
	}
	api := newFakeAPI(t, always(201, "{}"))
	api.run(t, "", "send", "a", "{b}").failsWith(t, "the payload must be JSON", "byte 2")
	api.run(t, "", "send", "a", "@"+file+".not").failsWith(t, "the payload", "no such file")
	api.run(t, "", "send").failsWith(t, "the type is missing")
	api.run(t, "", "send", "a", "--ndjson").failsWith(t, "--ndjson cannot be used with a type")
	api.run(t, "", "send", "--ndjson", "--batch", "1001").failsWith(t, "--batch must be from 1 to 1000; got 1001")
	if got := api.requests(); got != nil {
		t.Errorf("it asked for %q", got)
	}
}

// What contradicts itself is refused before anything is asked for.
func TestRefusedFlags(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, always(200, "{}"))
	for command, want := range map[string]string{
		"webhook set 1":                                  "no change was given",
		"webhook set 1 --rate 1 --reset rate":            "--rate and --reset rate cannot be used together",
		"webhook set 1 --reset url":                      `--reset must be one of auth, concurrency, content`,
		"webhook set 1 --header A":                       "--header must have the form 'NAME: VALUE', for example 'X-Team: a'; the colon or the name is missing",
		"webhook create http://a --bearer a --basic b:c": "cannot be used together",
		"webhook create http://a --basic b":              "USER:PASSWORD",
		"webhook create http://a --content {":            "--content must be JSON",
		"webhook create http://a --schedule soon":        "must be a list of pauses, for example 5s,1m,1h, or none; got \"soon\"",
		"webhook test 1 --data x":                        "--data must be JSON",
		"org set 1":                                      "no change was given",
		"org delete 1":                                   "add --yes",
		"event list --since yesterday":                   "must be a time, for example",
		"event list --limit=-1":                          "--limit must not be negative; got -1",
		"event samples --limit 101":                      "--limit must be from 1 to 100; got 101",
		"type put a --schema {":                          "--schema must be JSON",
		"listen --forward localhost:3000":                "--forward must be an http or https URL",
		"listen --forward http://a --inbox --type b":     "--type cannot be used with --inbox",
		"listen --forward http://a --secret b":           "--secret must be",
		"listen --forward http://a --timeout 2h":         "--timeout must be above 0 and up to 1h; got 2h0m0s",
		"listen":                                         "missing flags: --forward=URL (see triggerd listen --help)",
		"event":                                          "(see triggerd event --help)",
		"event show":                                     "(see triggerd event show --help)",
	} {
		api.run(t, "", strings.Fields(command)...).failsWith(t, want)
	}
	if got := api.requests(); got != nil {
		t.Errorf("it asked for %q", got)
	}
}

// Where a webhook is moved and its credentials are kept back, the message names
// the flags.
func TestMoveNamesItsFlags(t *testing.T) {
	t.Parallel()
	const refused = `{"code":"validation_failed","title":"Validation failed","status":422,"detail":"url moves","errors":[` +
		`{"pointer":"#/auth","detail":"url moves"},{"pointer":"#/headers","detail":"url moves"}]}`
	api := newFakeAPI(t, always(422, refused))
	api.run(t, "", "webhook", "set", "1", "--to", "https://b.example").
		failsWith(t, "url moves; with --to give --bearer, --basic or --reset auth; with --to give --header or --reset header")
	got := api.run(t, "", "webhook", "set", "1", "--to", "https://b.example", "--header", "A: b", "--bearer", "t")
	if got.failsWith(t, "url moves (#/auth; #/headers)"); strings.Contains(got.err.Error(), "--to") {
		t.Errorf("%v", got.err) // it is about what was given
	}
	got = api.run(t, "", "webhook", "set", "1", "--rate", "1")
	if got.failsWith(t, "url moves"); strings.Contains(got.err.Error(), "--to") {
		t.Errorf("%v", got.err)
	}
}
