package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"triggerd/client"
)

// local is how a time of the API is shown here.
func local(t *testing.T, text string) string {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.Local().Format(time.RFC3339)
}

// squeezed has one space where there are several, and none at the ends of lines.
func squeezed(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	return strings.Join(lines, "\n")
}

func TestTables(t *testing.T) {
	t.Parallel()
	const at = "2026-01-02T03:04:05.678Z"
	tests := []struct{ command, answer, want string }{
		{
			"event list", `{"data":[{"id":"a","type":"user.created","status":"failed","created_at":"` + at + `","dedup_id":"x y"},{"id":"bb","type":"b","status":"pending","created_at":"` + at + `"}],"next_cursor":null}`,
			"ID  TYPE          STATUS   CREATED                    DELIVER AT  DEDUP ID\n" +
				"a   user.created  failed   TIME  -           x y\nbb  b             pending  TIME  -           -\n",
		},
		{
			"event why e", `{"data":[{"webhook_id":0,"verdict":"waiting","attempts":0},{"webhook_id":1,"verdict":"filtered","clause":"content /all/0","attempts":0},` +
				`{"webhook_id":2,"verdict":"failed","reason":"the last attempt failed","attempts":2,"last_attempt":{"status":500,"error":"status 500","took_seconds":0.0125}},` +
				`{"webhook_id":3,"verdict":"filtered","clause":"operational"},{"webhook_id":4,"verdict":"created_later","next_attempt_at":"` + at + `"}]}`,
			"WEBHOOK  VERDICT        WHY                                      ATTEMPTS  NEXT                       LAST\n" +
				"inbox    waiting        -                                        -         -                          -\n" +
				"1        filtered       by content /all/0                        -         -                          -\n" +
				"2        failed         the last attempt failed                  2         -                          status 500 in 12.5ms\n" +
				"3        filtered       matches only filters that name the type  -         -                          -\n" +
				"4        created later  -                                        -         TIME  -\n",
		},
		{"type list", `{"data":[]}`, "NAME  MODE  SCHEMA  UPDATED  DESCRIPTION\n"},
		{
			"me", `{"organization":{"id":1,"name":"Ex","tier":"free","rate_limit":null,"inbox":"unmatched","deduplication":"lenient","created_at":"` + at + `"},` +
				`"key":{"id":2,"prefix":"sk_abc","scopes":["read","manage"],"created_at":"` + at + `"},"rate_limit":{"limit":1000,"window_seconds":60}}`,
			"organization   1\nname           Ex\ntier           free\nrate limit     the tier's\ninbox          unmatched\ndeduplication  lenient\n" +
				"suspended      no\ncreated        TIME\nlimit  1000 events in 1m\n\nkey          2\nname         -\nbegins with  sk_abc\n" +
				"scopes       read manage\nnetworks     any\ncreated      TIME\nexpires      never\nlast used    -\n",
		},
		{
			"replay preview 1", `{"scanned":10,"matched":2,"complete":false,"samples":[{"id":"a","type":"b","created_at":"` + at + `"}]}`,
			"2 of 10 events match; more events exist, which were not scanned\n\nfor example:\nID  TYPE  CREATED\na   b     TIME\n",
		},
		{
			"webhook dry-run --type a", `{"scanned":10,"matched":4,"complete":true,"per_hour":1.5,"samples":[],"difference":{"added":3,"removed":1,"removed_samples":[{"id":"a","type":"b","created_at":"` + at + `"}]}}`,
			"4 of 10 events match\n1.5 per hour\n\ncompared with the current filter: 3 more, 1 fewer\n\nfewer:\nID  TYPE  CREATED\na   b     TIME\n",
		},
		{"event samples", `[{"id":"a","type":"b","timestamp":"` + at + `","data":{ "c": 1 }}]`, "event      a\ntype       b\ntimestamp  TIME\n{ \"c\": 1 }\n"},
		{"event delete a", "", "event a is deleted\n"},
		{"inbox claim", `{"claim":null,"leased_until":null,"data":[]}`, "no open events\n"},
	}
	for _, test := range tests {
		api := newFakeAPI(t, always(200, test.answer))
		if test.answer == "" {
			api = newFakeAPI(t, always(204, ""))
		}
		want := squeezed(strings.ReplaceAll(test.want, "TIME", local(t, at)))
		got := api.run(t, "", strings.Fields(test.command)...)
		if diff := cmp.Diff(want, squeezed(got.out)); diff != "" || got.err != nil || got.errOut != "" {
			t.Errorf("%s: %v, %q, %s", test.command, got.err, got.errOut, diff)
		}
	}
}

func TestColumnsAreAligned(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	writeTable(&b, []string{"A", "B"}, [][]string{{"1", "ä\x1b[2J\u202e"}, {"", "\n"}, {"12345", ""}})
	want := "A      B\n1      ä\uFFFD[2J\uFFFD\n-      \uFFFD\n12345  -\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}

// A webhook is shown with all that it was told.
func TestWebhookIsShown(t *testing.T) {
	t.Parallel()
	const at = "2026-01-02T03:04:05.678Z"
	api := newFakeAPI(t, always(201, `{"id":1,"url":"https://a.example","state":"paused","paused_by":"failures","types":["a","b"],"content":{"all":[]},"format":"standard",`+
		`"timeout_seconds":5,"schedule_seconds":[5,90,3600],"rate":2.5,"concurrency":null,"headers":["X-A"],"auth":"bearer","description":"d","metadata":{"b":"2","a":"1"},`+
		`"secrets":[{"type":"symmetric"},{"type":"ed25519","public_key":"whpk_x","expires_at":"`+at+`"}],`+
		`"health":{"failing_since":"`+at+`","last_failure_at":"`+at+`","failures":3,"held_until":"`+at+`"},"created_at":"`+at+`","secret":"whsec_once"}`))
	got := api.run(t, "", "webhook", "create", "https://a.example")
	want := strings.ReplaceAll(`webhook 1
url https://a.example
state paused by failures
types a b
content {"all":[]}
format standard
timeout 5s
schedule 5s,1m30s,1h
rate 2.5
concurrency -
headers X-A
auth bearer
description d
metadata a=1 b=2
secrets symmetric, ed25519 whpk_x until TIME
health 3 failures in a row since TIME, the last at TIME, breaker open until TIME
created TIME

whsec_once
`, "TIME", local(t, at))
	if diff := cmp.Diff(want, squeezed(got.out)); diff != "" || !strings.Contains(got.errOut, "shown only once") || got.err != nil {
		t.Errorf("%v, %q, %s", got.err, got.errOut, diff)
	}
}

// A gone webhook is shown, and listed, with the time and the reason.
func TestGoneWebhookIsShown(t *testing.T) {
	t.Parallel()
	const at = "2026-01-02T03:04:05.678Z"
	const gone = `{"id":1,"url":"https://a.example","state":"gone","gone":{"reason":"its receiver has answered 410","at":"` + at + `"},"created_at":"` + at + `"}`
	since := "gone since " + local(t, at)
	got := newFakeAPI(t, always(200, gone)).run(t, "", "webhook", "show", "1")
	if got.err != nil || !strings.Contains(squeezed(got.out), "\nstate "+since+": its receiver has answered 410\n") {
		t.Errorf("shown as %q, %v", got.out, got.err)
	}
	got = newFakeAPI(t, always(200, `{"data":[`+gone+`],"next_cursor":null}`)).run(t, "", "webhook", "list", "--state", "gone")
	if got.err != nil || !strings.Contains(squeezed(got.out), "1 "+since+" https://a.example") {
		t.Errorf("listed as %q, %v", got.out, got.err)
	}
}

// With --json there is what the API gives, unknown members included, and lists
// are a line for each item, over all pages.
func TestJSONIsThatOfTheAPI(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, func(request string) (int, string) {
		switch {
		case strings.Contains(request, "cursor=x"):
			return 200, `{"data":[],"next_cursor":"y"}`
		case strings.Contains(request, "cursor=y"):
			return 200, `{"data":[{"id":"c"}],"next_cursor":null}`
		case strings.Contains(request, "/v1/events?"):
			return 200, `{"data":[{"id":"a","payload":1.00,"new":null}, {"id":"b","payload":{` + "\n" + `"c": "<" }}],"next_cursor":"x"}`
		case strings.Contains(request, "/v1/samples"):
			return 200, `[{"id":"a"},{"id":"b"}]`
		case strings.Contains(request, "/why"):
			return 200, `{"data":[{"webhook_id":1,"clause":null}]}`
		case strings.HasPrefix(request, "DELETE"):
			return 204, ""
		}
		return 200, `{"id":"a","payload":{ "b": 1.0 },"new":null}`
	})
	for command, want := range map[string]string{
		"event list --limit 0": `{"id":"a","payload":1.00,"new":null}` + "\n" + `{"id":"b","payload":{"c":"<"}}` + "\n" + `{"id":"c"}` + "\n",
		"event show a":         `{"id":"a","payload":{ "b": 1.0 },"new":null}` + "\n",
		"event why a":          `{"webhook_id":1,"clause":null}` + "\n",
		"event samples":        `{"id":"a"}` + "\n" + `{"id":"b"}` + "\n",
		"event delete a":       "",
	} {
		got := api.run(t, "", append(strings.Fields(command), "--json")...)
		if diff := cmp.Diff(want, got.out); diff != "" || got.err != nil || got.errOut != "" {
			t.Errorf("%s: %v, %q, %s", command, got.err, got.errOut, diff)
		}
	}
}

// A list goes on until the limit, whatever the pages are.
func TestLimits(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		limit string
		want  []string
		more  bool
	}{
		{"2", []string{"limit=2"}, true},
		{"3", []string{"limit=3", "cursor=1&limit=1"}, true},
		{"150", []string{"limit=100", "cursor=1&limit=100", "cursor=2&limit=100"}, false},
		{"0", []string{"limit=100", "cursor=1&limit=100", "cursor=2&limit=100"}, false},
	} {
		page := 0
		api := newFakeAPI(t, func(request string) (int, string) {
			page++
			size := 2
			if strings.Contains(request, "limit=1") && !strings.Contains(request, "limit=10") {
				size = 1
			}
			items := strings.TrimSuffix(strings.Repeat(`{"id":1},`, size), ",")
			if page == 3 {
				return 200, `{"data":[` + items + `],"next_cursor":null}`
			}
			return 200, fmt.Sprintf(`{"data":[%s],"next_cursor":"%d"}`, items, page)
		})
		got := api.run(t, "", "webhook", "list", "--limit", test.limit)
		var want []string
		for _, query := range test.want {
			want = append(want, "GET /v1/webhooks?"+query)
		}
		if diff := cmp.Diff(want, api.requests()); diff != "" || got.err != nil || strings.Contains(got.errOut, "--limit 0") != test.more {
			t.Errorf("limit %s: %v, %q, %s", test.limit, got.err, got.errOut, diff)
		}
	}
}

// What goes wrong is told in one line that says what to do.
func TestCommandErrors(t *testing.T) {
	t.Parallel()
	problem := func(status int, code, title, detail, more string) func(string) (int, string) {
		return always(status, fmt.Sprintf(`{"status":%d,"code":%q,"title":%q,"detail":%q%s}`, status, code, title, detail, more))
	}
	for _, test := range []struct {
		command string
		answer  func(string) (int, string)
		want    []string
	}{
		{"me", problem(401, "unauthorized", "Unauthorized", "The key is not known.", ""), []string{"Unauthorized: The key is not known.; is TRIGGERD_KEY"}},
		{"org list", problem(401, "unauthorized", "Unauthorized", "", ""), []string{"Unauthorized; set ADMIN_TOKEN"}},
		{"key list", problem(403, "missing_scope", "Missing scope", "The key lacks manage.", ""), []string{"Missing scope: The key lacks manage."}},
		{"event show a", problem(404, "not_found", "Not found", "There is no such event.", ""), []string{"Not found: There is no such event."}},
		{
			"webhook create http://a", problem(422, "validation_failed", "Validation failed", "2 members are wrong.", `,"errors":[{"detail":"must be https","pointer":"#/url"},{"detail":"too many","pointer":"#/types"}]`),
			[]string{"Validation failed: 2 members are wrong. (#/url: must be https; #/types: too many)"},
		},
		{"event list", problem(400, "invalid_parameter", "Invalid parameter", "is wrong", `,"errors":[{"detail":"is wrong","parameter":"status"}]`), []string{"Invalid parameter: is wrong (status)"}},
		{"event list", problem(400, "invalid_parameter", "Invalid parameter", "", `,"errors":[{"detail":"unknown","parameter":"status"}]`), []string{"Invalid parameter (status: unknown)"}},
		{"send a", problem(422, "payload_differs", "Payload differs", "", `,"event_id":"e1"`), []string{"Payload differs (the first event is e1)"}},
		{"event list", always(404, "<html>"), []string{"answered 404 Not Found: check that it is a triggerd"}},
		{"event show a", always(404, `{"code":"x","title":"a\u001b\nb"}`), []string{"a\uFFFD\uFFFDb"}},
	} {
		newFakeAPI(t, test.answer).run(t, "", strings.Fields(test.command)...).failsWith(t, test.want...)
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	env := map[string]string{"TRIGGERD_URL": closed.URL, "TRIGGERD_KEY": "sk_x"}
	runCLI(t.Context(), env, nil, "me").failsWith(t, closed.URL+" cannot be reached: connection refused", "TRIGGERD_URL")
	runCLI(t.Context(), map[string]string{"KEY": "sk_x", "URL": "x"}, nil, "me").failsWith(t, "the key is missing: set TRIGGERD_KEY", "--key")
}

// A key that was made, but whose answer was lost, is told as such.
func TestLostKey(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, always(201, `{"id":7,"name":"n"}`))
	got := api.run(t, "", "key", "create")
	got.failsWith(t, "the answer with its secret was lost: rotate it")
	if !strings.Contains(squeezed(got.out), "key 7\n") {
		t.Errorf("it wrote %q", got.out)
	}
	api = newFakeAPI(t, always(201, `{"organization":{"id":1},"key":{"id":7,"key":"sk_new"}}`))
	if got := api.run(t, "", "org", "create", "a", "--only-key"); got.out != "sk_new\n" || got.errOut != "" || got.err != nil {
		t.Errorf("only the key: %+v", got)
	}
	if got := api.run(t, "", "org", "create", "a"); !strings.HasSuffix(got.out, "\n\nsk_new\n") || !strings.Contains(got.errOut, "shown only once") {
		t.Errorf("key and organization: %+v", got)
	}
}

// The receiver's answer to a test is shown, and its failure is one.
func TestWebhookTestFails(t *testing.T) {
	t.Parallel()
	attempt := client.Attempt{EventID: "e", Outcome: client.OutcomeTransient, Status: 500, Error: "status 500", TookSeconds: 1.5, Response: "a\r\nb\x1bc\n"}
	body, err := json.Marshal(attempt)
	if err != nil {
		t.Fatal(err)
	}
	got := newFakeAPI(t, always(200, string(body))).run(t, "", "webhook", "test", "1")
	got.failsWith(t, "the receiver did not accept it: status 500 in 1.5s")
	if !strings.HasSuffix(got.out, "\n\na\nb\uFFFDc\n") {
		t.Errorf("it wrote %q", got.out)
	}
}

func TestLostEventsOfAClaim(t *testing.T) {
	t.Parallel()
	api := newFakeAPI(t, always(200, `{"leased_until":null,"data":[{"id":"a","status":"lost"},{"id":"b","status":"acknowledged"}]}`))
	for _, deed := range []string{"ack", "release", "extend"} {
		got := api.run(t, "", "inbox", deed, someClaim, "a", "b")
		got.failsWith(t, "1 of 2 events are lost")
		if !strings.Contains(got.out, "b   acknowledged\n") {
			t.Errorf("%s wrote %q", deed, got.out)
		}
	}
}
