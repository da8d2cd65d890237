package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// reply is an answer of the server, whole.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request and judges what holds for each answer, see [reply.judge].
// An empty key is left out; each header is "Name: value".
func (s *server) do(t *testing.T, method, target, key, body string, headers ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return s.send(t, req, key, headers...)
}

func (s *server) send(t *testing.T, req *http.Request, key string, headers ...string) reply {
	t.Helper()
	if key != "" {
		req.Header.Set("x-api-key", key)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Add(name, value)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	r := reply{res.StatusCode, res.Header, string(text)}
	r.judge(t, req.Method+" "+req.URL.RequestURI())
	return r
}

// serveFrom asks the handler directly, as a client at another address would.
func (s *server) serveFrom(t *testing.T, address, target, key string) reply {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), "GET", target, nil)
	req.RemoteAddr = address
	req.Header.Set("x-api-key", key)
	out := httptest.NewRecorder()
	s.Config.Handler.ServeHTTP(out, req)
	r := reply{out.Code, out.Header(), out.Body.String()}
	r.judge(t, "GET "+target+" from "+address)
	return r
}

// internal finds what no client is ever to see.
var internal = regexp.MustCompile(`(?i)sql|pgx|panic|goroutine|\.go:|database|relation|constraint|0x[0-9a-f]{6}|` +
	`runtime|strconv|unmarshal|reflect|net/|\bEOF\b|invalid character|looking for|cannot unm|dial |tcp |lookup |/(?:home|root|tmp|var|usr|work)/`)

// judge holds what is true of each answer of the original contract: an error is
// JSON with an "error" alone (429 also has limit and window), 429 and 503 say
// when to come back, 405 says what is allowed, 401 how to do it, and nothing
// internal shows. Of what openapi.yaml describes the server judges each answer,
// see [server.conforms]. A profile that was given is no JSON.
func (r reply) judge(t *testing.T, what string) {
	t.Helper()
	target, _, _ := strings.Cut(what[strings.Index(what, " ")+1:], " ")
	target, _, _ = strings.Cut(target, "?")
	profile := strings.HasPrefix(target, "/debug/pprof/") && r.status == 200
	if strings.HasPrefix(what, "HEAD ") || isDescribed(target) || profile {
		return
	}
	if got := r.header.Get("Content-Type"); got != "application/json" || !json.Valid([]byte(r.body)) {
		t.Errorf("%s: Content-Type %q, body %.300q", what, got, r.body)
	}
	if r.status < 400 {
		return
	}
	var body map[string]any
	_ = json.Unmarshal([]byte(r.body), &body) // it is valid
	message, _ := body["error"].(string)
	members := 1
	if r.status == 429 {
		members = 3
		if limit, ok := body["limit"].(float64); !ok || limit < 1 || body["window"] != "60 seconds" {
			t.Errorf("%s: 429 says %s", what, r.body)
		}
	}
	if message == "" || len(body) != members || internal.MatchString(r.body) {
		t.Errorf("%s: error %d says %s", what, r.status, r.body)
	}
	if after, err := strconv.Atoi(r.header.Get("Retry-After")); r.status == 429 || r.status == 503 {
		if err != nil || after < 1 || after > 61 {
			t.Errorf("%s: %d with Retry-After %q", what, r.status, r.header.Get("Retry-After"))
		}
	}
	if (r.status == 405) != (r.header.Get("Allow") != "") || (r.status == 401) != (r.header.Get("WWW-Authenticate") != "") {
		t.Errorf("%s: %d with header %v", what, r.status, r.header)
	}
}

// wants reports an answer of another status, or without the text in its body.
func (r reply) wants(t *testing.T, what any, status int, part string) {
	t.Helper()
	if r.status != status || !strings.Contains(r.body, part) {
		t.Errorf("%.300v: %d %.300s, want %d with %q", what, r.status, r.body, status, part)
	}
}

// isExactly reports an answer of another status, or with another body.
func (r reply) isExactly(t *testing.T, what any, status int, body string) {
	t.Helper()
	if r.status != status || r.body != body {
		t.Errorf("%.300v: %d %.300s, want %d %s", what, r.status, r.body, status, body)
	}
}

// member reads a member of the answer that is a string.
func (r reply) member(t *testing.T, name string) string {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(r.body), &body); err != nil {
		t.Fatalf("%v: %.300s", err, r.body)
	}
	value, ok := body[name].(string)
	if !ok {
		t.Fatalf("no string %s in %d %.300s", name, r.status, r.body)
	}
	return value
}

// newKey makes an organization and gives its key.
func (s *server) newKey(t *testing.T, tier string) string {
	t.Helper()
	return s.do(t, "POST", "/api/keys/generate", "", `{"organization_name":"Org","tier":"`+tier+`"}`).member(t, "api-key")
}

// post sends an event.
func (s *server) post(t *testing.T, key, body string) reply {
	t.Helper()
	return s.do(t, "POST", "/api/events", key, body, "Content-Type: application/json")
}

// accept posts an event that must be accepted, and gives its id.
func (s *server) accept(t *testing.T, key, body string) string {
	t.Helper()
	r := s.post(t, key, body)
	r.wants(t, body, 200, `"status":"accepted"`)
	return r.member(t, "event-id")
}

// inboxPage is the answer of the inbox.
type inboxPage struct {
	Events []struct {
		ID        string          `json:"id"`
		Type      string          `json:"type"`
		Payload   json.RawMessage `json:"payload"`
		Status    string          `json:"status"`
		CreatedAt string          `json:"created-at"`
	} `json:"events"`
	Count int `json:"count"`
}

// inbox reads the inbox; query is empty or begins with "?".
func (s *server) inbox(t *testing.T, key, query string) (page inboxPage) {
	t.Helper()
	r := s.do(t, "GET", "/api/inbox"+query, key, "")
	decoder := json.NewDecoder(strings.NewReader(r.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&page); err != nil || r.status != 200 || page.Events == nil || page.Count != len(page.Events) {
		t.Fatalf("inbox%s: %v in %d %.300s", query, err, r.status, r.body)
	}
	return page
}

func (p inboxPage) ids() []string {
	ids := make([]string, len(p.Events))
	for i, e := range p.Events {
		ids[i] = e.ID
	}
	return ids
}
